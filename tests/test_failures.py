"""A search in which too much fails stops, and asks once more for what failed (FAULTS M9)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Here

import drpo
from drpo.checkpoints import reader
from drpo.checkpoints.runs import run_paths
from drpo.graph.errors import TooManyFailures
from drpo.models.provider import Call, Completion
from drpo.models.sandbox.provider import Sandbox
from drpo.nodes.failures import hold_to_limit

SEARCH = ("search.levels=3", "search.max_extension=0", "search.queries_per_level=2")


class Broken:
    """Roles of the sandbox that answer with nothing of use, until they are mended."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.roles: set[str] = set()
        self.after = 0
        """So many answers of a broken role are still good."""
        whole = Sandbox.complete

        async def complete(sandbox: Sandbox, call: Call) -> Completion:
            done = await whole(sandbox, call)
            if sandbox._role not in self.roles:
                return done
            self.after -= 1
            texts = done.texts if self.after >= 0 else ("I would rather not.",) * call.n
            return Completion(
                texts=texts, finish_reasons=("stop",) * call.n, prompt_tokens=1, completion_tokens=1
            )

        monkeypatch.setattr(Sandbox, "complete", complete)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Broken:
    return Broken(monkeypatch)


async def stopped(folder: Path, *words: str) -> Path:
    with pytest.raises(TooManyFailures):
        await drpo.optimize(*SEARCH, *words, runs=folder)
    [path] = run_paths(folder)
    return path


@pytest.mark.parametrize(
    ("role", "good"),
    [("judge", 0), ("judge", 4), ("rewarder", 0), ("rewarder", 2)],
)
async def test_m9_a_broken_model_pauses_the_run_and_mended_is_asked_again(
    role: str, good: int, broken: Broken, tmp_path: Path
) -> None:
    """The tree is that of a run in which nothing ever broke."""
    whole = await drpo.optimize(*SEARCH, runs=tmp_path / "whole")
    broken.roles, broken.after = {role}, good
    path = await stopped(tmp_path / "runs")
    told = reader.summary(path)
    assert told["status"] == "paused"
    assert "could not be read" in told["reason"] or "no JSON object" in told["reason"]
    broken.roles = set()
    ended = await drpo.resume(None, runs=path.parent)
    assert ended.summary["tree_sha256"] == whole.summary["tree_sha256"]


async def test_m9_a_broken_rewriter_pauses_the_run_at_the_second_level(
    broken: Broken, tmp_path: Path
) -> None:
    """At the first the parent is carried on; mended, it writes what it was asked for."""
    broken.roles = {"rewriter"}
    path = await stopped(tmp_path)
    assert [node["origin"] for node in reader.tree(path)] == ["root", "carried"]
    broken.roles = set()
    ended = await drpo.resume(None, runs=path.parent)
    assert ended.summary["status"] == "done"
    assert any(node["origin"] == "rewrite" for node in reader.tree(path))


async def test_m9_what_goes_on_failing_pauses_it_again(broken: Broken, tmp_path: Path) -> None:
    """Each time after asking anew, never for good."""
    broken.roles = {"judge"}
    path = await stopped(tmp_path)
    made = reader.calls_made(path)
    with pytest.raises(TooManyFailures):
        await drpo.resume(None, runs=tmp_path)
    assert reader.calls_made(path) > made


async def test_m9_the_limit_can_be_lifted(broken: Broken, tmp_path: Path) -> None:
    """The run then ends, and says how much could not be scored."""
    broken.roles = {"judge"}
    await stopped(tmp_path)
    ended = await drpo.resume(None, "budget.failures=null", runs=tmp_path)
    assert ended.summary["status"] == "done"
    assert ended.summary["unscored"] > 0


def test_m9_the_command_shows_examples(here: Here, broken: Broken) -> None:
    """One line, exit code 5, and the command that goes on."""
    broken.roles = {"judge"}
    said = here("optimize", *SEARCH)
    assert said.returncode == 5
    last = said.stderr.strip().splitlines()[-1]
    assert "evaluations of level" in last
    assert "it holds no JSON object" in last
    assert "drpo resume" in last
    told = json.loads(here("show", "--json").stdout)
    assert told["outcomes"]["judge"]["invalid"] > 0
    assert "invalid" in here("show").stdout


@pytest.mark.parametrize(
    ("failed", "fine", "limit", "stops"),
    [
        (3, 2, 0.5, True),
        (3, 3, 0.5, False),
        (2, 1, 0.5, False),
        (2, 0, 0.5, False),
        (9, 0, 1, False),
        (9, 0, None, False),
        (3, 9, 0, True),
    ],
)
def test_m9_the_share_is_what_counts(
    failed: int, fine: int, limit: float | None, stops: bool
) -> None:
    """Above it, and never for fewer than three."""
    reasons: list[Any] = ["x"] * failed + [None] * fine
    if stops:
        with pytest.raises(TooManyFailures, match=f"{failed} of {failed + fine}"):
            hold_to_limit("evaluations", 1, reasons, limit)
    else:
        hold_to_limit("evaluations", 1, reasons, limit)
