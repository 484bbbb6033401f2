"""How quick the Explorer is in a real Chromium: first paint, tasks of the main thread, elements.

`python -m benchmarks.explorer [--run FILE]... [--reference FILE]... [--rounds 3] [--pictures DIR]`

A recorded run of the paper (`drpo-replay/1`) becomes one of ours first. Without any file the runs
are two searches in the sandbox: a small one, and one of 5,000 candidates (a minute). A row is a run
in one way: as a report, or served; of several rounds the least. Exit code 1 where one is over its
limit. With DIR the pictures of docs/ are made there instead, of a search in the sandbox.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

# The browser is one of the tests' own things.
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from chromium import Page, chromium

import drpo
from benchmarks.import_reference import main as imported
from drpo.checkpoints.runs import run_paths
from drpo.explorer.report import report
from drpo.explorer.server import Viewed
from drpo.loopback import listening

FIRST_PAINT_MS = 1500
LONGEST_TASK_MS = 50
MOST_ELEMENTS = 3000
REPORT_BYTES = 6_000_000
"""Of a run of some hundred candidates."""
LARGE = (
    "search=quick",
    "search.levels=60",
    "search.max_extension=0",
    "search.width=25",
    "search.rewrites=4",
    "search.queries_per_level=1",
    "search.recycle_queries=true",
)
PICTURED = ("search=paper", "search.levels=12")
TASKS = "toplevel,disabled-by-default-devtools.timeline"
PAINTED = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
DRAWN = "performance.getEntriesByName('drawn')[0]?.startTime"
ELEMENTS = "document.querySelectorAll('*').length"
MIDDLE = (420, 460)
STEPS = 30


@dataclass(frozen=True, slots=True)
class Row:
    """One run in one way; times in ms, of tasks those of the processor."""

    run: str
    way: str
    candidates: int
    megabytes: float | None
    """Of the report."""
    paint: float
    drawn: float
    loading: float
    """Longest task, as all that follow."""
    panning: float
    zooming: float
    opening: float
    elements: int
    elsewhere: int
    """Requests to other machines."""

    @property
    def good(self) -> bool:
        """Within all limits."""
        tasks = (self.loading, self.panning, self.zooming, self.opening)
        return (
            self.paint <= FIRST_PAINT_MS
            and all(each <= LONGEST_TASK_MS for each in tasks)
            and self.elements <= MOST_ELEMENTS
            and not self.elsewhere
        )


@asynccontextmanager
async def address_of(path: Path, way: str, folder: Path) -> AsyncIterator[str]:
    """Where the page is, as a file or for as long as it is served."""
    if way == "report":
        file = folder / f"{path.stem}.html"
        file.write_text(report(path), encoding="utf-8")
        yield file.as_uri()
        return
    async with listening(Viewed(path.parent).application(), "127.0.0.1", 0) as url:
        yield f"{url}/#{path.stem}"


async def longest(page: Page, doing: Coroutine[Any, Any, object]) -> float:
    """What the longest task of the page's main thread took of the processor meanwhile, in ms.

    Not what the clock says: that is longer where other programs want the same two cores.
    """

    async def done() -> None:
        await doing
        await asyncio.sleep(0.4)

    events = await page.traced(done(), TASKS)
    main = {
        (event["pid"], event["tid"])
        for event in events
        if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"
    }
    took = [
        # One that goes on when the trace ends has none.
        event.get("tdur", 0)
        for event in events
        if event["name"] == "RunTask" and (event["pid"], event["tid"]) in main
    ]
    return max(took, default=0) / 1000


async def measured(path: Path, way: str, folder: Path) -> Row:
    """One row, in a browser of its own."""
    async with address_of(path, way, folder) as address, chromium() as page:
        loading = await longest(page, loaded(page, address))
        drawn, paint = await page.run(DRAWN), await page.run(PAINTED)
        panning = await longest(page, drag(page))
        zooming = await longest(page, turn(page))
        count = int(await page.run("document.getElementById('canvas').dataset.candidates"))
        elements: list[int] = []
        opening = await longest(page, opened(page, count, elements))
        own = ("file:", "data:", "http://127.0.0.1:")
        elsewhere = [each for each in page.requests if not each.startswith(own)]
        size = folder / f"{path.stem}.html"
        return Row(
            path.stem[:8],
            way,
            count,
            size.stat().st_size / 1e6 if way == "report" else None,
            paint,
            drawn,
            loading,
            panning,
            zooming,
            opening,
            max(elements),
            len(elsewhere),
        )


def least(rows: Sequence[Row]) -> Row:
    """Of several rounds, figure by figure: what it takes where no other program is in the way.

    Elements, requests and size are the same in all.
    """
    timed = ("paint", "drawn", "loading", "panning", "zooming", "opening")
    values = {each.name: getattr(rows[0], each.name) for each in fields(Row)}
    return Row(**values | {name: min(getattr(row, name) for row in rows) for name in timed})


async def loaded(page: Page, address: str) -> None:
    """Until the tree is drawn."""
    await page.open(address)
    await page.until(DRAWN)
    await page.until(PAINTED)


async def drag(page: Page) -> None:
    """The tree, there and back."""
    x, y = MIDDLE
    await page.mouse("mousePressed", x, y)
    for step in (*range(STEPS), *reversed(range(STEPS))):
        await page.mouse("mouseMoved", x + 4 * step, y + 2 * step)
    await page.mouse("mouseReleased", x, y)


async def turn(page: Page) -> None:
    """The wheel, closer and away."""
    for delta in (*[-60] * STEPS, *[60] * STEPS):
        await page.mouse("mouseWheel", *MIDDLE, deltaX=0, deltaY=delta)


async def opened(page: Page, count: int, elements: list[int]) -> None:
    """Some of so many candidates, with all their parts; how many elements there are with each."""
    for each in range(0, count, max(1, count // 12)):
        await page.run(f"location.hash = location.hash.split('/')[0] + '/{each}'")
        await page.until(f"document.querySelector('#details h1')?.textContent.endsWith(' {each}')")
        await page.run(
            "document.querySelectorAll('#details .fold:not(.open) > button')"
            ".forEach((button, at) => setTimeout(() => button.click(), 5 * at))"
        )
        await asyncio.sleep(0.3)
        elements.append(await page.run(ELEMENTS))


async def pictures(folder: Path) -> None:
    """Of the best candidate or its last rewrite, light and dark."""
    with tempfile.TemporaryDirectory() as place:
        path = (await drpo.optimize(*PICTURED, runs=place)).path
        for dark in (False, True):
            async with (
                address_of(path, "report", Path(place)) as address,
                chromium(1140, 690, dark=dark) as page,
            ):
                await page.open(address)
                await page.until(DRAWN)
                await page.press("b")
                await page.until("document.querySelector('#details h1')")
                # What was returned may repeat its parent; the last rewrite shows more.
                while not await page.run("!!document.querySelector('#details .added')"):
                    await page.press("ArrowLeft")
                    await asyncio.sleep(0.2)
                await asyncio.sleep(0.5)
                await page.picture(folder / f"explorer-{'dark' if dark else 'light'}.png")


def runs_of(asked: argparse.Namespace, folder: Path) -> Sequence[Path]:
    """Those that were named, or two of the sandbox."""
    if asked.reference:
        imported([*map(str, asked.reference), "--runs", str(folder)])
    elif not asked.run:
        for words in (("search=quick",), LARGE):
            drpo.optimize_blocking(*words, runs=folder)
    return [*run_paths(folder), *asked.run]


def main() -> int:
    """The table."""
    parser = argparse.ArgumentParser(description="Measures the Explorer.")
    parser.add_argument("--run", type=Path, action="append", default=[])
    parser.add_argument("--reference", type=Path, action="append", default=[])
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    if asked.pictures:
        asyncio.run(pictures(asked.pictures))
        return 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        paths = runs_of(asked, folder)
        rows = []
        print("run       way     candidates     MB  paint  drawn  load   pan  zoom  open  elements")
        for path in paths:
            for way in ("report", "served"):
                rounds = range(asked.rounds)
                row = least([asyncio.run(measured(path, way, folder)) for _ in rounds])
                rows.append(row)
                size = "" if row.megabytes is None else f"{row.megabytes:.2f}"
                print(
                    f"{row.run}  {row.way:<6}  {row.candidates:>10}  {size:>5}  {row.paint:>5.0f}"
                    f"  {row.drawn:>5.0f}  {row.loading:>4.0f}  {row.panning:>4.0f}"
                    f"  {row.zooming:>4.0f}  {row.opening:>4.0f}  {row.elements:>8}"
                    f"{'' if row.good else '  OVER'}{' ELSEWHERE' if row.elsewhere else ''}",
                    flush=True,
                )
    return 0 if all(row.good for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
