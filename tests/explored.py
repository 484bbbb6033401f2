"""The Explorer's page of a run or of a folder, open in a browser, and where on it what is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from chromium import Page, chromium

from drpo.explorer.report import report
from drpo.explorer.server import Viewed
from drpo.loopback import listening

CHOSEN = "document.querySelector('#details h1')?.textContent"
DETAILS = "document.getElementById('details').innerText"
PANEL = "document.getElementById('panel').innerText"
SAID = "document.getElementById('said').textContent"
LOST = "document.getElementById('lost').textContent"
CANDIDATES = "Number(document.getElementById('canvas').dataset.candidates)"


@asynccontextmanager
async def reported(
    path: Path, folder: Path, place: str = "", *, width: int = 1440, height: int = 900
) -> AsyncIterator[Page]:
    """The page of a run's report, drawn."""
    file = folder / "report.html"
    file.write_text(report(path), encoding="utf-8")
    async with chromium(width, height) as page:
        await page.open(f"{file.as_uri()}#{place}")
        await page.until(CANDIDATES)
        yield page
        assert page.errors == []
        assert page.requests == [f"{file.as_uri()}"] or page.requests == [
            f"{file.as_uri()}#{place}"
        ]


@asynccontextmanager
async def served(folder: Path, place: str = "") -> AsyncIterator[Page]:
    """The page over a folder of runs, drawn."""
    async with (
        listening(Viewed(folder).application(), "127.0.0.1", 0) as url,
        chromium() as page,
    ):
        await page.open(f"{url}/#{place}")
        await page.until(CANDIDATES)
        yield page
        assert page.errors == []
