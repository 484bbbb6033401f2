"""Limits of a run: held before each call, over all roles and sessions (FAULTS B1-B3)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from unittest.mock import AsyncMock

import pytest
from openai_server import OpenAIServer

import drpo
from drpo.checkpoints.reader import summary
from drpo.checkpoints.runs import run_paths
from drpo.checkpoints.store import RunStore
from drpo.conf.schema import BudgetSettings
from drpo.graph.errors import BadInput, BudgetReached
from drpo.graph.values import ROLES
from drpo.models.budget import Budget, Expected
from drpo.models.ledger import Usage


def taken(usage: Usage, expected: Expected) -> None:
    """A call came back that took what was expected."""
    role = usage.roles["target"]
    role.new += 1
    role.prompt_tokens += expected.tokens
    role.cost_usd += expected.cost_usd


async def take(budget: Budget, usage: Usage, expected: Expected) -> bool:
    """One call; whether there was room for it."""
    try:
        async with budget.holding(expected):
            await asyncio.sleep(0)
            taken(usage, expected)
    except BudgetReached:
        return False
    return True


@pytest.mark.parametrize(
    ("limits", "room"),
    [
        (BudgetSettings(calls=7), 7),
        (BudgetSettings(tokens=705), 7),
        (BudgetSettings(cost_usd=0.705), 7),
        (BudgetSettings(calls=9, tokens=500), 5),
        (BudgetSettings(), 64),
    ],
)
async def test_b1_no_limit_is_ever_exceeded(limits: BudgetSettings, room: int) -> None:
    """Sixty-four calls at once get as many places as there are."""
    usage = Usage()
    budget = Budget(limits, usage)
    each = Expected(tokens=100, cost_usd=0.1)
    got = await asyncio.gather(*(take(budget, usage, each) for _ in range(64)))
    assert sum(got) == usage.calls == room


async def test_b1_a_call_waits_for_those_that_may_leave_it_room() -> None:
    """They hold more than they turn out to take."""
    usage = Usage()
    budget = Budget(BudgetSettings(tokens=100), usage)
    async with budget.holding(Expected(tokens=80)):
        waiting = asyncio.create_task(take(budget, usage, Expected(tokens=60)))
        await asyncio.sleep(0)
        assert not waiting.done()
        taken(usage, Expected(tokens=10))
    assert await waiting


async def test_b1_p9_seconds_are_those_of_all_sessions() -> None:
    """On the monotonic clock, which no change of the wall clock moves (FAULTS P9)."""
    now = [100.0]
    limits, usage = BudgetSettings(seconds=60), Usage()
    budget = Budget(limits, usage, seconds=50, clock=lambda: now[0])
    assert await take(budget, usage, Expected())
    now[0] += 10
    assert not await take(budget, usage, Expected())


async def test_b1_a_whole_run_never_exceeds_its_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixty-four in flight, the server counts; the best so far is told; more budget goes on."""
    monkeypatch.setenv("OPENAI_API_KEY", "local")
    async with OpenAIServer(latency_s=0.005) as server:
        words = ["models=openai", f"openai.base_url={server.base_url}", "concurrency=64"]
        words += ["search.levels=4", "search.queries_per_level=8"]
        with pytest.raises(BudgetReached, match="is used up"):
            await drpo.optimize(*words, "budget.calls=50", runs=tmp_path)
        assert len(server.requests) == 50
        done = await drpo.resume(None, "budget.calls=null", runs=tmp_path)
        whole = await drpo.optimize(*words, runs=tmp_path / "whole")
    assert done.summary["tree_sha256"] == whole.summary["tree_sha256"]


@pytest.mark.parametrize("limit", ["budget.tokens=20000", "budget.seconds=0.001"])
async def test_b1_every_limit_pauses_a_run_that_goes_on_with_more(
    limit: str, tmp_path: Path
) -> None:
    """And ends in the tree of one without a limit."""
    with pytest.raises(BudgetReached, match=limit.partition("=")[0]):
        await drpo.optimize("search.levels=3", limit, runs=tmp_path)
    name = limit.partition("=")[0]
    done = await drpo.resume(None, f"{name}=null", runs=tmp_path)
    whole = await drpo.optimize("search.levels=3", runs=tmp_path / "whole")
    assert done.summary["tree_sha256"] == whole.summary["tree_sha256"]


async def test_b1_dollars_are_counted_by_price(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit in dollars stops below it."""
    monkeypatch.setenv("OPENAI_API_KEY", "local")
    async with OpenAIServer() as server:
        words = ["models=openai", f"openai.base_url={server.base_url}", "search.levels=3"]
        words += [f"models.{role}.price_{way}=1000" for role in ROLES for way in ("in", "out")]
        with pytest.raises(BudgetReached, match=r"budget\.cost_usd"):
            await drpo.optimize(*words, "budget.cost_usd=30", runs=tmp_path)
        [path] = tmp_path.glob("*.sqlite")
    spent = summary(path)["cost_usd"]
    assert 0 < spent <= 30


async def test_b2_missing_usage_is_counted_by_estimate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens and dollars, and marked as one."""
    monkeypatch.setenv("OPENAI_API_KEY", "local")
    async with OpenAIServer(counts=False) as server:
        words = ["models=openai", f"openai.base_url={server.base_url}", "experiment=smoke"]
        words += [f"models.{role}.price_{way}=1" for role in ROLES for way in ("in", "out")]
        told = (await drpo.optimize(*words, runs=tmp_path)).summary
    assert told["tokens"]["estimated"]
    assert told["tokens"]["prompt"] > 0
    assert told["cost_usd"] > 0


async def test_b3_dollars_without_a_price_are_refused_before_the_first_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With how to give one, also on resume."""
    monkeypatch.setenv("OPENAI_API_KEY", "local")
    async with OpenAIServer() as server:
        words = ["models=openai", f"openai.base_url={server.base_url}", "experiment=smoke"]
        with pytest.raises(BadInput, match=r"models\.target\.price_in"):
            await drpo.optimize(*words, "budget.cost_usd=1", runs=tmp_path)
        assert not server.requests
        assert not list(tmp_path.iterdir())
        with pytest.raises(BudgetReached):
            await drpo.optimize(*words, "budget.calls=1", runs=tmp_path)
        with pytest.raises(BadInput, match=r"models\.target\.price_in"):
            await drpo.resume(None, "budget.cost_usd=1", runs=tmp_path)
        assert len(server.requests) == 1


async def test_b1_what_waits_for_its_turn_is_held_to_the_seconds_left(tmp_path: Path) -> None:
    """A whole level begins at once, and must not pass the limit at once."""
    words = ("concurrency=1", "models.target.latency_ms=300", "budget.seconds=1")
    with pytest.raises(BudgetReached):
        await drpo.optimize("search.levels=2", *words, runs=tmp_path)
    [path] = run_paths(tmp_path)
    calls = summary(path)["calls"]["target"]["new"]
    assert calls <= 4
    assert summary(path)["tokens"]["prompt"] > 0


def test_b1_dollars_are_counted_beside_calls_of_unknown_price() -> None:
    """One call without a price does not lift the limit for all others."""
    usage = Usage()
    usage.roles["judge"].cost_usd, usage.roles["target"].unpriced = 4.0, 1
    with pytest.raises(BudgetReached):
        Budget(BudgetSettings(cost_usd=1), usage)._has_room(Expected())


async def test_b1_seconds_of_a_session_that_was_killed_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to its last heartbeat."""
    monkeypatch.setattr("drpo.run.HEARTBEAT_S", 0.01)
    monkeypatch.setattr(RunStore, "set_status", AsyncMock(side_effect=KeyError))
    with pytest.raises(KeyError):
        await drpo.optimize("experiment=smoke", "models.target.latency_ms=50", runs=tmp_path)
    [path] = run_paths(tmp_path)
    assert summary(path)["seconds"] > 0
