"""How soon a long run asks for something new after `resume`.

    python -m benchmarks.resuming [--calls 5000]

A search over the test server is stopped by its budget; resumed in a process that has its modules
loaded, it is timed from the call of `resume` to the first request that reaches the server.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import drpo

TESTS = Path(__file__).parents[1] / "tests"


async def measure(calls: int, times: int, folder: Path) -> list[float]:
    """Seconds from `resume` to its first new call, once for each of `times` resumes."""
    sys.path.insert(0, str(TESTS))
    server_type = import_module("openai_server").OpenAIServer
    os.environ["OPENAI_API_KEY"] = "local"
    waits = []
    async with server_type(keep_bodies=False) as server:
        words = ["models=openai", f"openai.base_url={server.base_url}", "search.levels=10000"]
        words += ["data=builtin", f"budget.calls={calls}", "concurrency=64"]
        with suppress(drpo.BudgetReached):
            await drpo.optimize(*words, runs=folder)
        for more in range(1, times + 1):
            seen = len(server.requests)
            began = time.perf_counter()
            task = asyncio.create_task(
                drpo.resume(None, f"budget.calls={calls + 10 * more}", runs=folder)
            )
            while len(server.requests) == seen:  # noqa: ASYNC110 - the server tells nobody
                await asyncio.sleep(0.001)
            waits.append(time.perf_counter() - began)
            with suppress(drpo.BudgetReached):
                await task
    return waits


def main() -> None:
    """Prints one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--times", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        waits = asyncio.run(measure(given.calls, given.times, Path(folder)))
    shown = ", ".join(f"{wait:.2f}" for wait in waits)
    print(f"{given.calls:,} calls; first new call after {statistics.median(waits):.2f} s ({shown})")


if __name__ == "__main__":
    main()
