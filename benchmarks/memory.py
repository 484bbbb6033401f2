"""Whether the memory of a long search stays flat, on the sandbox.

    python -m benchmarks.memory [--supersteps 2000]

Resident memory after each level; its slope over the last three quarters, in bytes a superstep.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from dataclasses import dataclass

import psutil

import drpo
from drpo.run import Snapshot

PER_LEVEL = 4
"""Supersteps of a level in which nobody is skipped: rewrite, admit, evaluate, advance."""
SEARCH = (
    "search=greedy",
    "search.max_extension=0",
    "search.queries_per_level=1",
    "search.skip_above=5",
)


@dataclass(frozen=True)
class Flatness:
    """What one search's memory did."""

    supersteps: int
    calls: int
    first_mb: float
    """Resident memory at the end of the first quarter."""
    last_mb: float
    bytes_per_superstep: float
    """Slope of the least-squares line through the last three quarters."""


def measure(supersteps: int, *overrides: str) -> Flatness:
    """One search of about so many supersteps."""
    process, seen = psutil.Process(), []

    def observe(snapshot: Snapshot) -> None:
        seen.append((snapshot.done * PER_LEVEL, process.memory_info().rss))

    with tempfile.TemporaryDirectory() as folder:
        words = [*SEARCH, f"search.levels={supersteps // PER_LEVEL}", *overrides]
        told = drpo.optimize_blocking(*words, runs=folder, observer=observe).summary
    late = seen[len(seen) // 4 :]
    slope, _ = statistics.linear_regression([at for at, _ in late], [size for _, size in late])
    return Flatness(
        supersteps=seen[-1][0],
        calls=sum(count["new"] for count in told["calls"].values()),
        first_mb=late[0][1] / 2**20,
        last_mb=late[-1][1] / 2**20,
        bytes_per_superstep=slope,
    )


def main() -> None:
    """Prints one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--supersteps", type=int, default=2000)
    given = parser.parse_args()
    found = measure(given.supersteps)
    print(
        f"{found.supersteps:,} supersteps, {found.calls:,} calls: {found.first_mb:.1f} MB after a"
        f" quarter, {found.last_mb:.1f} MB at the end,"
        f" {found.bytes_per_superstep:+.0f} B a superstep"
    )


if __name__ == "__main__":
    main()
