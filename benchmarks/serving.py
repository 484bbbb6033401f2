"""The tests' OpenAI-compatible server as a process, and what it and a ledger have seen."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

SERVER = Path(__file__).parents[1] / "tests" / "openai_server.py"


@contextmanager
def served(latency_ms: float, *options: str, log: Path | None = None) -> Iterator[str]:
    """Its base URL; `options` are the server's own."""
    command = [sys.executable, str(SERVER), "--port", "0", "--latency-ms", str(latency_ms)]
    command += [*options, *(() if log is None else ("--log", str(log)))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().split()[-1]
        finally:
            server.terminate()


def arrivals(log: Path) -> list[str]:
    """Hash of every body that reached the server, in order."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [line["sha256"] for line in lines if "done" not in line]


def ledger(runs: Path) -> set[str]:
    """Hash of the body of every call whose reply the run's file has."""
    for path in runs.glob("*.sqlite"):
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
            try:
                return {row[0] for row in db.execute("select request_sha256 from call")}
            except sqlite3.OperationalError:
                return set()
    return set()
