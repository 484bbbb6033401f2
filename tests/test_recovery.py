"""Searches over HTTP through the real ChatOpenAI: killed, resumed, at any concurrency."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from openai_server import OpenAIServer

import drpo
from benchmarks.serving import arrivals, ledger, served
from drpo.checkpoints.runs import run_paths
from drpo.graph.values import ROLES

SHARED_QUERIES = Path(__file__).parents[2] / "shared" / "data" / "training_queries.jsonl"
KILLS = 10


@pytest.fixture
def queries() -> str:
    """The 180 real queries where they are, else the shipped ones."""
    return str(SHARED_QUERIES) if SHARED_QUERIES.exists() else "builtin:train"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The local server wants a key, any key."""
    monkeypatch.setenv("OPENAI_API_KEY", "local")


def overrides(base_url: str, queries: str, *more: str) -> list[str]:
    """The paper's search on that server."""
    urls = [f"models.{role}.base_url={base_url}" for role in ROLES]
    return ["search=paper", "models=openai", f"data.path={queries}", *urls, *more]


def command(verb: str, *words: str, runs: Path) -> list[str]:
    """`drpo` as a user's shell would start it."""
    return [sys.executable, "-m", "drpo", verb, *words, "--runs", str(runs), "--json"]


def finished(words: list[str]) -> dict[str, Any]:
    """The JSON of a command that has to succeed."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def killed(words: list[str], ready: Callable[[], bool]) -> bool:
    """Start a command and kill it -9 as soon as it is `ready`; False if it ended before."""
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            if ready():
                process.kill()
                process.wait()
                return True
            time.sleep(0.002)
    return False


def test_p1_ten_kills_pay_for_no_call_twice_and_change_nothing(
    tmp_path: Path, queries: str
) -> None:
    """Killed ten times and resumed, a search ends in the uninterrupted one's tree."""
    whole, broken, log = tmp_path / "whole", tmp_path / "broken", tmp_path / "log"
    with served(10, log=log) as base_url:
        words = [*overrides(base_url, queries, "seed=3"), "--yes"]
        expected = finished(command("optimize", *words, runs=whole))
        calls = sum(count["new"] for count in expected["calls"].values())
        draw = random.Random(os.environ.get("DRPO_KILL_SEED", "kills"))
        marks = sorted(draw.sample(range(1, calls - KILLS), KILLS))
        at_kill: list[tuple[int, set[str]]] = []
        again = command("optimize", *words, runs=broken)
        for number, mark in enumerate(marks):
            # A kill lands a few rows after its mark, so the next one aims beyond what is there.
            known = at_kill[-1][1] if at_kill else set()
            goal = max(mark, len(known) + 1)
            assert killed(again, lambda: len(ledger(broken)) >= goal), f"kill {number} is too late"  # noqa: B023 - called within this turn
            at_kill.append((len(arrivals(log)), ledger(broken)))
            again = command("resume", runs=broken)
        resumed = finished(again)
        arrived = arrivals(log)
    assert resumed["tree_sha256"] == expected["tree_sha256"]
    assert resumed["best"]["prompts"] == expected["best"]["prompts"]
    assert sum(count["new"] for count in resumed["calls"].values()) == calls
    for seen, known in at_kill:
        assert known
        assert not known & set(arrived[seen:])


def test_p3_a_run_killed_before_its_first_checkpoint_starts_from_its_settings(
    tmp_path: Path,
) -> None:
    """Its row is committed before anything slow."""
    words = ["search=greedy", "seed=7", *(f"models.{role}.latency_ms=100" for role in ROLES)]
    expected = finished(command("optimize", *words, runs=tmp_path / "whole"))
    broken = tmp_path / "broken"
    assert killed(command("optimize", *words, runs=broken), lambda: bool(run_paths(broken)))
    resumed = finished(command("resume", runs=broken))
    assert resumed["tree_sha256"] == expected["tree_sha256"]


async def test_concurrency_does_not_change_the_tree(tmp_path: Path, queries: str) -> None:
    """One call at a time, four and sixty-four end in one tree."""
    async with OpenAIServer() as server:
        words = overrides(server.base_url, queries, "search.levels=8")
        hashes = {
            (
                await drpo.optimize(*words, f"concurrency={limit}", runs=tmp_path / str(limit))
            ).summary["tree_sha256"]
            for limit in (1, 4, 64)
        }
    assert len(hashes) == 1


async def test_the_seed_alone_decides_the_tree(tmp_path: Path, queries: str) -> None:
    """Two runs with one seed are the same, another seed is another tree."""
    async with OpenAIServer() as server:
        words = overrides(server.base_url, queries, "search.levels=4")
        trees = [
            (await drpo.optimize(*words, f"seed={seed}", runs=tmp_path)).summary["tree_sha256"]
            for seed in (1, 1, 2)
        ]
    assert trees[0] == trees[1] != trees[2]


async def test_the_limit_on_calls_in_flight_holds_at_the_server(tmp_path: Path) -> None:
    """The server never sees more calls at once than `concurrency`, and sees that many."""
    async with OpenAIServer(latency_s=0.01) as server:
        words = overrides(server.base_url, "builtin:train", "search.levels=4", "concurrency=3")
        await drpo.optimize(*words, runs=tmp_path)
    assert server.largest_in_flight == 3


async def test_every_call_of_the_ledger_is_one_request_at_the_server(tmp_path: Path) -> None:
    """The ledger's body hashes are the server's, one for one."""
    async with OpenAIServer() as server:
        words = overrides(server.base_url, "builtin:train", "search.levels=4")
        await drpo.optimize(*words, runs=tmp_path)
    seen = [request.sha256 for request in server.requests]
    assert len(seen) == len(set(seen))
    assert set(seen) == ledger(tmp_path)
