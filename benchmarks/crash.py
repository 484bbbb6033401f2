"""Kills a search again and again, at random numbers of ledger rows and at every named point.

    python -m benchmarks.crash [--kills 100] [--levels 40]

Counts at the server what was asked: no body whose reply was in the ledger at a kill may be sent
again, a kill may lose no more than was in flight, and the tree has to be the uninterrupted one's.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.killing import BEFORE_THE_FIRST, POINTS
from benchmarks.serving import arrivals, ledger, served
from drpo.checkpoints.doctor import examine

CONCURRENCY = 6
RANDOM = "random number of ledger rows"


@dataclass
class Tally:
    """What the kills of one kind did."""

    kills: int = 0
    again: int = 0
    """Bodies sent again though their replies were in the ledger."""
    most_lost: int = 0
    """Replies that one kill lost: sent, but not in the ledger."""


class Search:
    """One search over HTTP, started, killed and resumed as commands."""

    def __init__(self, base_url: str, runs: Path, words: Sequence[str]) -> None:
        urls = [f"openai.base_url={base_url}", "models=openai", f"concurrency={CONCURRENCY}"]
        self.runs = runs
        self._words = [*urls, *words]

    def _command(self) -> list[str]:
        begun = any(self.runs.glob("*.sqlite"))
        verb = ["resume"] if begun else ["optimize", *self._words]
        return [*verb, "--runs", str(self.runs), "--json"]

    def finish(self) -> dict[str, Any]:
        """To its end, uninterrupted."""
        words = [sys.executable, "-m", "drpo", *self._command()]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    def die_at(self, point: str, times: int) -> bool:
        """Go on until the point; False if the search ended before."""
        words = ["-m", "benchmarks.killing", point, str(times), "--", *self._command()]
        done = subprocess.run(
            [sys.executable, *words],
            cwd=Path(__file__).parents[1],
            capture_output=True,
            check=False,
        )
        return done.returncode < 0

    def die_after(self, rows: int) -> bool:
        """Go on until so many more rows are in the ledger."""
        words = [sys.executable, "-m", "drpo", *self._command()]
        goal = len(ledger(self.runs)) + rows
        with subprocess.Popen(
            words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            while process.poll() is None:
                if len(ledger(self.runs)) >= goal:
                    process.kill()
                    return True
                time.sleep(0.002)
        return False


@dataclass(frozen=True)
class Kill:
    """One of them, and what was known at that moment."""

    kind: str
    sent: int
    """Requests that the server had seen, of the runs before this one as well."""
    known: set[str]
    """Bodies whose replies were in the ledger."""


def kill_again_and_again(
    search: Search, log: Path, kinds: Sequence[str], draw: random.Random
) -> list[Kill]:
    """One kill of each kind in turn, as long as the search goes on."""
    kills: list[Kill] = []
    for kind in kinds:
        died = (
            search.die_after(draw.randint(1, 5))
            if kind == RANDOM
            else search.die_at(kind, draw.randint(1, 4))
        )
        if not died:
            break
        kills.append(Kill(kind, len(arrivals(log)), ledger(search.runs)))
    return kills


def tallied(kills: Sequence[Kill], sent: Sequence[str], before: int) -> dict[str, Tally]:
    """By kind; `before` is how many requests another run had made."""
    tallies: dict[str, Tally] = {}
    for kill in kills:
        tally = tallies.setdefault(kill.kind, Tally())
        tally.kills += 1
        tally.again += len(kill.known & set(sent[kill.sent :]))
        tally.most_lost = max(tally.most_lost, len(set(sent[before : kill.sent]) - kill.known))
        before = kill.sent
    return tallies


def kinds_of(kills: int, draw: random.Random) -> list[str]:
    """The first before anything is checkpointed, every point among the others."""
    points = [point for point in POINTS if point != "while it ends"]
    half = [points[at % len(points)] for at in range(kills // 2)]
    rest = [RANDOM] * (kills - len(half) - 1)
    mixed = [*half, *rest]
    draw.shuffle(mixed)
    return [BEFORE_THE_FIRST, *mixed]


def main() -> None:
    """Prints the table; stops where a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=101)
    parser.add_argument("--levels", type=int, default=60)
    parser.add_argument("--seed", default="crash")
    given = parser.parse_args()
    draw = random.Random(given.seed)
    words = [f"search.levels={given.levels}", "search.max_extension=0", "storage.recoveries=1000"]
    words += ["search.queries_per_level=2", "data.path=builtin:train", "--yes"]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with served(10, log=log) as base_url:
            whole = Search(base_url, Path(folder) / "whole", words).finish()
            calls = sum(count["new"] for count in whole["calls"].values())
            before = len(arrivals(log))
            broken = Search(base_url, Path(folder) / "broken", words)
            kills = kill_again_and_again(broken, log, kinds_of(given.kills, draw), draw)
            resumed = broken.finish()
            sent = arrivals(log)
        tallies = tallied(kills, sent, before)
        [path] = broken.runs.glob("*.sqlite")
        unsound = [each.said for each in examine(path) if not each.ok]
    print(f"{calls:,} calls without a kill, {len(sent) - before:,} with {len(kills)} kills")
    print("| killed at | kills | sent again | most lost by one |\n|---|---|---|---|")
    for kind, tally in sorted(tallies.items()):
        print(f"| {kind} | {tally.kills} | {tally.again} | {tally.most_lost} |")
    print(f"same tree: {resumed['tree_sha256'] == whole['tree_sha256']}, doctor: {unsound or 'ok'}")
    assert resumed["tree_sha256"] == whole["tree_sha256"]
    assert not unsound
    assert not any(tally.again for tally in tallies.values())
    # A shared reply of `n` completions counts once, so what is lost is never more than in flight.
    assert all(tally.most_lost <= CONCURRENCY for tally in tallies.values())


if __name__ == "__main__":
    main()
