"""Who has no mouse, a phone, or weak eyes, can use the Explorer's page, too."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from chromium import EXECUTABLE, chromium
from explored import CANDIDATES, CHOSEN, PANEL, reported, served

import drpo
from drpo.explorer.page import page as page_of
from drpo.explorer.server import Viewed
from drpo.loopback import listening

has_browser = pytest.mark.skipif(EXECUTABLE is None, reason="no Chromium is installed here")

FOCUS = "(document.activeElement?.id || document.activeElement?.textContent)"
PHONE = (390, 844)
WORDS_CONTRAST = 4.5
MARKS_CONTRAST = 3.0
WORDS = {
    "ink": ("ground", "paper", "raised", "accent-wash", "warn-wash"),
    "soft": ("ground", "paper", "raised", "accent-wash"),
    "faint": ("ground", "paper", "raised", "accent-wash", "band"),
    "accent": ("ground", "paper", "raised", "accent-wash"),
    "warn": ("warn-wash", "band", "paper"),
    "bad": ("paper",),
    "added-ink": ("added",),
    "removed-ink": ("removed",),
}
"""Colours of words, and what they stand on."""
MARKS = ("mid", "accent", "target", "judge", "rewriter", "rewarder", "good", "bad")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a search on the sandbox."""
    runs = tmp_path_factory.mktemp("runs")
    return drpo.optimize_blocking("search=quick", "search.levels=4", runs=runs).path


def brightness(colour: str) -> float:
    """Relative luminance, as WCAG 2 defines it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """Between 1 and 21, as WCAG 2 defines it."""
    dark, light = sorted((brightness(one), brightness(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("start", [":root {", ':root[data-theme="dark"] {'])
def test_words_and_marks_stand_out_from_their_ground(start: str) -> None:
    """As WCAG 2 asks of level AA, in light and in dark."""
    block = page_of({}).split(start)[1].split("}")[0]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))
    for word, grounds in WORDS.items():
        for ground in grounds:
            assert contrast(colours[word], colours[ground]) >= WORDS_CONTRAST, (word, ground)
    for mark in MARKS:
        assert contrast(colours[mark], colours["ground"]) >= MARKS_CONTRAST, mark


@has_browser
async def test_everything_is_reached_by_the_tab_key(run: Path, tmp_path: Path) -> None:
    """In the order in which it stands, and each says what it is."""
    async with reported(run, tmp_path, f"{run.stem}/1") as page:
        await page.until(CHOSEN)
        reached = []
        for _ in range(16):
            await page.press("Tab")
            reached.append(await page.run(FOCUS))
        first = ["runs-button", "Tree", "Levels", "Why", "Insights", "Run", "search", "theme"]
        assert reached[:13] == [
            *first,
            "keys",
            "canvas",
            "Legend",
            "zoom-in",
            "zoom-out",
        ]
        unnamed = (
            "[...document.querySelectorAll('button, input, select, canvas[tabindex]')]"
            ".filter((each) => !(each.ariaLabel || each.innerText.trim() || each.title))"
            ".map((each) => each.id)"
        )
        assert await page.run(unnamed) == []


@has_browser
async def test_a_view_that_is_opened_by_keys_leaves_the_focus(run: Path, tmp_path: Path) -> None:
    """On its link, which says that it is the open one."""
    async with reported(run, tmp_path) as page:
        for _ in range(3):
            await page.press("Tab")
        await page.press("Enter")
        await page.until(f"{PANEL}.includes('Level by level')")
        assert await page.run(FOCUS) == "Levels"
        assert await page.run("document.activeElement.ariaCurrent") == "page"


@has_browser
async def test_a_candidate_that_is_closed_gives_the_focus_back(run: Path, tmp_path: Path) -> None:
    """To the tree; one that is opened from another has it."""
    async with reported(run, tmp_path, f"{run.stem}/1") as page:
        await page.until(CHOSEN)
        await page.run("document.querySelector('#details .way a').focus()")
        await page.press("Enter")
        await page.until(f"{CHOSEN} === 'Candidate 0'")
        await page.until(f"{FOCUS} === 'details'")
        await page.run("document.querySelector('#details .close').focus()")
        await page.press("Enter")
        await page.until(f"{FOCUS} === 'canvas'")


@has_browser
async def test_escape_leaves_the_search_beside_the_tree(run: Path, tmp_path: Path) -> None:
    """What is pressed next is a key again, and what it opens has a button to close it."""
    async with reported(run, tmp_path, f"{run.stem}/levels") as page:
        await page.until(f"{PANEL}.includes('Level by level')")
        await page.press("/")
        await page.write("the")
        await page.until("!document.getElementById('found').hidden")
        await page.press("Escape")
        await page.press("?")
        await page.until("document.getElementById('help').open")
        await page.run("document.querySelector('#help button').click()")
        assert not await page.run("document.getElementById('help').open")


@has_browser
async def test_the_list_of_runs_keeps_the_focus_while_runs_go_on(run: Path, tmp_path: Path) -> None:
    """It is opened with the focus on the open run."""
    for name in (run.stem, "other"):
        (tmp_path / f"{name}.sqlite").write_bytes(run.read_bytes())
    async with served(tmp_path) as page:
        await page.press("r")
        here = "document.activeElement.getAttribute('aria-current')"
        assert await page.run(here) == "page"
        await page.run("document.activeElement.marked = true")
        os.utime(tmp_path / run.name, (1, 1))
        (tmp_path / "third.sqlite").write_bytes(run.read_bytes())
        await page.until("document.querySelectorAll('#runs a').length === 3")
        assert await page.run("document.activeElement.marked") is None
        assert await page.run(here) == "page"


@has_browser
async def test_an_empty_folder_says_how_to_fill_it(tmp_path: Path) -> None:
    """And the light can be turned there, too."""
    async with (
        listening(Viewed(tmp_path).application(), "127.0.0.1", 0) as url,
        chromium() as page,
    ):
        await page.open(url)
        await page.until(f"{PANEL}.includes('drpo optimize experiment=smoke')")
        before = await page.run("document.documentElement.dataset.theme")
        await page.press("t")
        assert await page.run("document.documentElement.dataset.theme") != before
        assert page.errors == []
        assert await page.run("document.getElementById('search').disabled")


@has_browser
async def test_why_a_run_stopped_stands_beside_its_status(tmp_path: Path) -> None:
    """And in full where the run is told of."""
    with pytest.raises(drpo.BudgetReached):
        drpo.optimize_blocking("experiment=smoke", "budget.calls=5", runs=tmp_path)
    [path] = tmp_path.glob("*.sqlite")
    async with reported(path, tmp_path, f"{path.stem}/run") as page:
        await page.until(f"{PANEL}.includes('paused: budget.calls=5 is used up')")
        bar = await page.run("document.getElementById('run-name').innerText")
        assert "budget.calls=5 is used up" in bar


@has_browser
async def test_no_view_is_wider_than_a_phone(run: Path, tmp_path: Path) -> None:
    """Tables and charts scroll by themselves."""
    async with reported(run, tmp_path, width=PHONE[0], height=PHONE[1]) as page:
        for place in ("1", "levels", "why", "insights", "run", "1"):
            await page.run(f"location.hash = '#{run.stem}/{place}'")
            box = "details" if place == "1" else "panel"
            await page.until(f"document.querySelector('#{box} h1')")
            # What is opened is not below a candidate that was open.
            assert await page.run("document.getElementById('details').hidden") == (place != "1")
            for each in (f"document.getElementById('{box}')", "document.documentElement"):
                assert await page.run(f"{each}.scrollWidth <= {each}.clientWidth"), place
        broken = "[...document.querySelectorAll('th, .tag, .switch button')].some((each) =>"
        await page.run(f"location.hash = '#{run.stem}/levels'")
        await page.until(f"{PANEL}.includes('Level by level')")
        assert not await page.run(f"{broken} each.offsetHeight > 40)")


@has_browser
@pytest.mark.parametrize("width", [390, 720, 950])
async def test_nothing_lies_under_another(run: Path, tmp_path: Path, width: int) -> None:
    """Of the bar, and of what stands on the tree, in a narrow window too."""
    boxes = (
        "[...document.querySelectorAll('#bar > *, #tabs > *, #search, #legend, .zoom, #searches')]"
        ".filter((each) => each.id !== 'tabs' && !each.matches('.search'))"
        ".map((each) => each.getBoundingClientRect()).filter((box) => box.width)"
    )
    apart = (
        "(a, b) => a.right <= b.left + 1 || b.right <= a.left + 1"
        " || a.bottom <= b.top + 1 || b.bottom <= a.top + 1"
    )
    async with reported(run, tmp_path, width=width, height=700) as page:
        for is_open in (False, True):
            await page.run(f"document.getElementById('legend').open = {str(is_open).lower()}")
            script = (
                f"{boxes}.every((a, at, all) => all.slice(at + 1).every((b) => ({apart})(a, b)))"
            )
            assert await page.run(script), width
        assert await page.run(CANDIDATES)
