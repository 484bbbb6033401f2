"""Searches from Python."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import drpo
from drpo.run import Snapshot

SMOKE = "experiment=smoke"


async def test_a_search_runs_inside_a_running_loop(tmp_path: Path) -> None:
    """And gives the best prompts, their value and the run's file."""
    result = await drpo.optimize(SMOKE, runs=tmp_path)
    assert result.prompts["system"]
    assert result.path == tmp_path / f"{result.run_id}.sqlite"
    assert result.summary["status"] == "done"


async def test_the_blocking_form_works_inside_a_loop_too(tmp_path: Path) -> None:
    """As in a notebook."""
    assert drpo.optimize_blocking(SMOKE, runs=tmp_path).summary["status"] == "done"


def test_the_blocking_form_works_twice_without_a_loop(tmp_path: Path) -> None:
    """Each has a loop of its own."""
    first, second = (drpo.optimize_blocking(SMOKE, runs=tmp_path) for _ in range(2))
    assert first.run_id != second.run_id
    assert first.summary["tree_sha256"] == second.summary["tree_sha256"]


async def test_searches_side_by_side_do_not_touch_each_other(tmp_path: Path) -> None:
    """Many runs at once are many files in one folder."""
    alone = await drpo.optimize(SMOKE, "seed=5", runs=tmp_path / "alone")
    together = await asyncio.gather(
        *(drpo.optimize(SMOKE, f"seed={seed}", runs=tmp_path) for seed in (4, 5, 6))
    )
    assert together[1].summary["tree_sha256"] == alone.summary["tree_sha256"]


async def test_own_queries_stand_in_for_the_data(tmp_path: Path) -> None:
    """As plain texts."""
    seen: list[Snapshot] = []
    await drpo.optimize(SMOKE, queries=["Why?", "How?"], runs=tmp_path, observer=seen.append)
    assert [snapshot.done for snapshot in seen] == [0, 1, 2]


@pytest.mark.parametrize("queries", [[], [""], ["a", "a"], ["x" * 100_001]])
async def test_bad_queries_are_bad_input(queries: list[str], tmp_path: Path) -> None:
    """Before anything is written."""
    with pytest.raises(drpo.BadInput):
        await drpo.optimize(SMOKE, queries=queries, runs=tmp_path)
    assert not list(tmp_path.iterdir())


async def test_a_budget_pauses_and_resume_ends_in_the_same_tree(tmp_path: Path) -> None:
    """Wherever it stops."""
    whole = await drpo.optimize(SMOKE, runs=tmp_path / "whole")
    calls = sum(count["new"] for count in whole.summary["calls"].values())
    for limit in range(1, calls):
        folder = tmp_path / str(limit)
        with pytest.raises(drpo.BudgetReached):
            await drpo.optimize(SMOKE, f"budget.calls={limit}", runs=folder)
        result = await drpo.resume(None, "budget.calls=null", runs=folder)
        assert result.summary["tree_sha256"] == whole.summary["tree_sha256"]
        assert sum(count["new"] for count in result.summary["calls"].values()) == calls


async def test_a_cancelled_search_can_be_resumed(tmp_path: Path) -> None:
    """Its status says that it was cancelled."""
    slow = [f"models.{role}.latency_ms=30" for role in ("target", "judge")]
    begun = asyncio.Event()

    def observe(snapshot: Snapshot) -> None:
        if snapshot.done == 2:
            begun.set()

    search = drpo.optimize("search=greedy", *slow, runs=tmp_path, observer=observe)
    task = asyncio.create_task(search)
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    result = await drpo.resume(runs=tmp_path)
    whole = await drpo.optimize("search=greedy", runs=tmp_path / "whole")
    assert result.summary["tree_sha256"] == whole.summary["tree_sha256"]


def test_names_that_are_not_there_are_not_there() -> None:
    """The lazy package is an ordinary one."""
    with pytest.raises(AttributeError, match="nix"):
        drpo.nix  # noqa: B018 - the look-up is the test
    assert all(getattr(drpo, name) for name in drpo.__all__)
