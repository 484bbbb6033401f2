"""Seconds that each view of `drpo show` takes on a run of 5,000 candidates, its imports apart.

`python -m benchmarks.views [--run FILE] [--rounds 3] [--keep FOLDER]`

Without a file it makes one: a real search in the sandbox with all its rows, 5,000 candidates of two
queries each (about two minutes). Each view runs in a process of its own that has shown a small run
before, so that everything is imported and nothing of the large one is cached.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import drpo
from drpo.cli import main as drpo_command

CANDIDATES = 5_000
LIMIT_S = 1.0
LARGE = (
    "search=quick",
    "search.width=10",
    "search.rewrites=10",
    "search.levels=60",
    "search.max_extension=0",
    "search.queries_per_level=2",
    "search.recycle_queries=true",
)
SMALL = ("search=quick", "search.levels=4")
VIEWS: dict[str, tuple[str, ...]] = {
    "summary": (),
    "tree": ("--view", "tree"),
    "trace": ("--view", "trace"),
    "examples": ("--view", "examples"),
    "why": ("--view", "why"),
    "insights": ("--view", "insights"),
    "diff": ("--view", "diff"),
}


def shown(path: Path, view: str, *, as_json: bool) -> tuple[float, float]:
    """Seconds of one `drpo show` in this process, and how many of them the processor took."""
    words = ["show", path.stem, "--runs", str(path.parent), *VIEWS[view]]
    words += ["--json"] if as_json else []
    began, busy = time.perf_counter(), time.process_time()
    try:
        drpo_command(words)
    except SystemExit as ended:
        if ended.code:
            raise
    return time.perf_counter() - began, time.process_time() - busy


def measured(small: Path, large: Path, view: str, *, as_json: bool) -> tuple[float, float]:
    """The same, in a process that has shown a small run before."""
    words = [sys.executable, "-m", "benchmarks.views", "--one", view, str(small), str(large)]
    done = subprocess.run(
        [*words, *(["--json"] if as_json else [])],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    seconds, busy = map(float, done.stderr.splitlines()[-1].split())
    return seconds, busy


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a line a view; exit code 1 where one takes longer than a second."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=3, metavar=("VIEW", "SMALL", "LARGE"))
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args(arguments)
    if chosen.one:
        view, small, large = chosen.one
        shown(Path(small), view, as_json=chosen.json)
        print(*shown(Path(large), view, as_json=chosen.json), file=sys.stderr)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        small = drpo.optimize_blocking(*SMALL, runs=folder).path
        large = chosen.run or drpo.optimize_blocking(*LARGE, runs=chosen.keep or folder).path
        return _table(small, large, chosen.rounds)


def _table(small: Path, large: Path, rounds: int) -> int:
    size = large.stat().st_size / 2**20
    with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(SystemExit):
        drpo_command(["show", large.stem, "--runs", str(large.parent), "--view", "tree"])
    candidates = sum(" #" in line for line in said.getvalue().splitlines())
    print(f"{large}: {candidates:,} candidates, {size:.0f} MiB; median of {rounds}, seconds")
    print("view       text    CPU   JSON    CPU")
    slowest = 0.0
    for view in VIEWS:
        row: list[float] = []
        for as_json in (False, True):
            tried = [measured(small, large, view, as_json=as_json) for _ in range(rounds)]
            row += [statistics.median(column) for column in zip(*tried, strict=True)]
        slowest = max(slowest, row[0], row[2])
        print(f"{view:<9}" + "".join(f"{seconds:>6.2f} " for seconds in row), flush=True)
    print(f"slowest {slowest:.2f} s, {LIMIT_S:g} s are asked for")
    return int(slowest > LIMIT_S or candidates < CANDIDATES)


if __name__ == "__main__":
    sys.exit(main())
