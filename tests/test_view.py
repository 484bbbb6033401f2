"""`drpo view`: read-only, on the loopback unless a token guards it (row I8)."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from conftest import Here

import drpo
from drpo.explorer.server import Viewed
from drpo.loopback import Caps, listening

TOKEN = "a-token-of-24-characters"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a search on the sandbox."""
    runs = tmp_path_factory.mktemp("runs")
    return drpo.optimize_blocking("experiment=smoke", runs=runs).path


@asynccontextmanager
async def viewed(folder: Path, **options: Any) -> AsyncIterator[str]:
    async with listening(Viewed(folder, **options).application(), "127.0.0.1", 0) as url:
        yield url


async def get(url: str, way: str = "GET", **headers: str) -> tuple[int, Any, Any]:
    """Status, body and headers."""
    async with (
        aiohttp.ClientSession() as session,
        session.request(way, url, headers=headers, allow_redirects=False) as got,
    ):
        is_json = got.content_type == "application/json"
        return got.status, await (got.json() if is_json else got.text()), got.headers


async def test_the_page_and_its_documents_are_served(run: Path) -> None:
    """The page without data, the documents as JSON."""
    async with viewed(run.parent) as url:
        status, page, headers = await get(url)
        assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert run.stem not in page
        _, runs, _ = await get(f"{url}/api/runs")
        assert [each["run"] for each in runs["runs"]] == [run.stem]
        at = f"{url}/api/runs/{run.stem}"
        _, told, _ = await get(at)
        assert told["summary"]["status"] == "done"
        _, block, _ = await get(f"{at}/candidates/1")
        assert list(block["candidates"]) == ["1"]
        for name in ("sentences", "why", "insights"):
            assert (await get(f"{at}/{name}"))[0] == 200


async def test_what_the_client_has_is_not_sent_again(run: Path, tmp_path: Path) -> None:
    """Until the run's file changes."""
    copy = tmp_path / run.name
    copy.write_bytes(run.read_bytes())
    async with viewed(tmp_path) as url:
        at = f"{url}/api/runs/{run.stem}"
        _, _, headers = await get(at)
        status, body, _ = await get(at, **{"If-None-Match": headers["ETag"]})
        assert (status, body) == (304, "")
        copy.unlink()
        assert (await get(at, **{"If-None-Match": headers["ETag"]}))[0] == 404


async def test_i8_every_answer_says_what_a_browser_may_do(run: Path) -> None:
    """No cache, no guessing, no frame, no other site; nobody is let in by CORS."""
    async with viewed(run.parent) as url:
        for path in ("", "/api/runs", "/api/runs/none", "/elsewhere"):
            _, _, headers = await get(f"{url}{path}", Origin="https://evil.example")
            assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
            assert headers["Cache-Control"] == "no-store"
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
            assert not [name for name in headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize("way", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_i8_nothing_can_be_changed(way: str, run: Path) -> None:
    """There is nothing but looking."""
    async with viewed(run.parent) as url:
        before = run.read_bytes()
        assert (await get(f"{url}/api/runs/{run.stem}", way))[0] == 405
        assert run.read_bytes() == before


@pytest.mark.parametrize("host", ["drpo.example", "localhost.evil.example", "10.0.0.1", ""])
async def test_i8_a_name_that_points_here_gets_nothing(host: str, run: Path) -> None:
    """Of a page that somebody lets a browser on this machine see."""
    async with viewed(run.parent) as url:
        status, body, _ = await get(f"{url}/api/runs", Host=host)
        assert (status, body) == (403, {"error": "this server answers to localhost alone"})


@pytest.mark.parametrize("sent", [None, "Bearer wrong", f"Basic {TOKEN}"])
async def test_i8_documents_take_the_token(sent: str | None, run: Path) -> None:
    """The page itself does not: it holds nothing, and asks for it."""
    async with viewed(run.parent, token=TOKEN, local=False) as url:
        headers = {} if sent is None else {"Authorization": sent}
        assert (await get(f"{url}/api/runs", **headers))[0] == 401
        assert (await get(url))[0] == 200
        assert (await get(f"{url}/api/runs", Authorization=f"Bearer {TOKEN}"))[0] == 200


@pytest.mark.parametrize(
    "name", ["none", "..%2F..%2Fetc%2Fpasswd", "%2e%2e", "a%00b", "a" * 300, "*", ".hidden"]
)
async def test_i8_only_runs_of_the_folder_are_read(name: str, run: Path, tmp_path: Path) -> None:
    """Whatever is put in the place of a run's id."""
    folder = tmp_path / "runs"
    folder.mkdir()
    (tmp_path / run.name).write_bytes(run.read_bytes())
    (folder / ".hidden.sqlite").write_bytes(run.read_bytes())
    async with viewed(folder) as url:
        for path in (name, f"..%2F{run.stem}"):
            assert (await get(f"{url}/api/runs/{path}"))[0] == 404


async def test_a_run_under_any_name_that_is_listed_is_shown(run: Path, tmp_path: Path) -> None:
    """As every verb of the command takes it."""
    (tmp_path / "my run.sqlite").write_bytes(run.read_bytes())
    async with viewed(tmp_path) as url:
        _, runs, _ = await get(f"{url}/api/runs")
        assert [each["run"] for each in runs["runs"]] == ["my run"]
        assert (await get(f"{url}/api/runs/my%20run"))[0] == 200


def test_what_is_no_folder_is_not_served(here: Here, run: Path) -> None:
    """A file in its place is one line."""
    done = here("view", "--runs", str(run), "--port", "0")
    assert (done.returncode, done.stderr) == (2, f"drpo: --runs: {str(run)!r} is no folder\n")


async def test_what_cannot_be_read_is_one_line(run: Path, tmp_path: Path) -> None:
    """A damaged file, and a candidate that there is not."""
    (tmp_path / "broken.sqlite").write_text("nothing")
    (tmp_path / run.name).write_bytes(run.read_bytes())
    async with viewed(tmp_path) as url:
        status, body, _ = await get(f"{url}/api/runs/broken")
        assert status == 500
        assert "\n" not in body["error"]
        status, block, _ = await get(f"{url}/api/runs/{run.stem}/candidates/999999999999")
        assert (status, block["candidates"]) == (200, {})


async def test_i8_too_many_requests_wait(run: Path) -> None:
    """A page that asks in a circle does not hold up the machine."""
    async with viewed(run.parent, caps=Caps(per_minute=2)) as url:
        found = [(await get(f"{url}/api/runs"))[0] for _ in range(3)]
        assert found == [200, 200, 429]


def test_off_this_machine_it_takes_a_token(here: Here) -> None:
    """One line, before anything is served."""
    done = here("view", "--host", "0.0.0.0")
    assert done.returncode == 2
    assert "DRPO_VIEW_TOKEN" in done.stderr
    assert done.stderr.count("\n") == 1


async def test_the_command_serves_until_it_is_stopped(run: Path) -> None:
    """It says where, and leaves with code 0."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "drpo", "view", run.stem[:8], "--port", "0"),
        *("--runs", str(run.parent)),
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    said = (await process.stdout.readline()).decode()
    found = re.match(rf"(http://127\.0\.0\.1:\d+/)#{run.stem[:8]} shows the runs of ", said)
    assert found
    assert (await get(f"{found[1]}api/runs"))[0] == 200
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0
