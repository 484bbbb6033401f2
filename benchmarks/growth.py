"""How a run's file and its checkpoints grow with the levels, on the sandbox.

`python -m benchmarks.growth [OVERRIDES] [--levels 10 20 40 80 160]`

A checkpoint may have 4 KB and 100 bytes per pending `Send`; the file has to grow linearly.
"""

from __future__ import annotations

import argparse
import resource
import sqlite3
import tempfile
import time
from contextlib import closing
from pathlib import Path
from unittest.mock import AsyncMock, patch

from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

import drpo
from drpo.checkpoints.store import RunStore

PER_SEND = 100


def checkpoints(path: Path) -> list[tuple[int, int]]:
    """Bytes and pending sends of each checkpoint."""
    serializer = JsonPlusSerializer(allowed_msgpack_modules=[])
    with closing(sqlite3.connect(path)) as db:
        rows = db.execute("select type, checkpoint, metadata from checkpoints").fetchall()
    return [
        (
            len(blob) + len(metadata),
            len(serializer.loads_typed((kind, blob))["channel_values"].get("__pregel_tasks", ())),
        )
        for kind, blob, metadata in rows
    ]


def main() -> None:
    """Prints a line a search."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--levels", type=int, nargs="+", default=[10, 20, 40, 80, 160])
    chosen, overrides = parser.parse_known_args()
    print("levels calls checkpoints largest less sends   file KB KB/level ms/level peak MB")
    for levels in chosen.levels:
        words = [f"search.levels={levels}", "search.max_extension=0", *overrides]
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            # A finished run would drop the checkpoints that are to be measured.
            with patch.object(RunStore, "finish", AsyncMock()):
                result = drpo.optimize_blocking(*words, runs=folder)
            seconds = time.perf_counter() - began
            sizes = checkpoints(result.path)
            kilobytes = result.path.stat().st_size / 1024
        calls = sum(count["new"] for count in result.summary["calls"].values())
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{levels:>6} {calls:>5} {len(sizes):>11} {max(size for size, _ in sizes):>7}"
            f" {max(size - PER_SEND * sends for size, sends in sizes):>10} {kilobytes:>9.0f}"
            f" {kilobytes / levels:>8.1f} {1000 * seconds / levels:>8.1f} {peak:>7.0f}"
        )


if __name__ == "__main__":
    main()
