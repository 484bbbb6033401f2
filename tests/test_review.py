"""Review mode: a search stops after each level, and a person may change its beam."""

from __future__ import annotations

import getpass
import re
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
from conftest import Here
from langgraph.graph.state import CompiledStateGraph

import drpo
from drpo.checkpoints import reader
from drpo.checkpoints.runs import run_paths
from drpo.checkpoints.store import RunStore
from drpo.graph.errors import BadInput, RunPaused
from drpo.review import NO_CHANGES, Changes

SEARCH = ("search.levels=4", "search.max_extension=0", "search.queries_per_level=2")
BY = f"by {getpass.getuser()}, a person"


def changes(**changed: Any) -> Changes:
    return Changes(**({"edits": {}, "drops": (), "adds": ()} | changed))


async def begun(folder: Path, *words: str) -> Path:
    """A run that waits for the review of its first level, the root's."""
    with pytest.raises(RunPaused, match="review"):
        await drpo.optimize(*SEARCH, "search.review=true", *words, runs=folder)
    [path] = run_paths(folder)
    return path


async def on(path: Path, changed: Changes = NO_CHANGES) -> drpo.Result | None:
    """The next level; the result once there is one."""
    try:
        return await drpo.resume(path.stem, runs=path.parent, changes=changed)
    except RunPaused:
        return None


async def ended(path: Path) -> drpo.Result:
    """To the end, changing nothing."""
    while (result := await on(path)) is None:
        pass
    return result


def calls(told: Any) -> int:
    return sum(count["new"] for count in told["calls"].values())


async def test_a_review_without_changes_changes_nothing(tmp_path: Path) -> None:
    """One stop a level but the last; the same tree, the same number of calls."""
    whole = await drpo.optimize(*SEARCH, runs=tmp_path / "whole")
    path = await begun(tmp_path)
    stops = 1
    while (result := await on(path)) is None:
        stops += 1
    assert stops == 3
    assert result.summary["tree_sha256"] == whole.summary["tree_sha256"]
    assert calls(result.summary) == calls(whole.summary)


async def test_a_dropped_survivor_has_no_offspring(tmp_path: Path) -> None:
    """And the decision names its author."""
    path = await begun(tmp_path)
    await on(path)
    kept, dropped = [node["candidate"] for node in reader.beam(path)]
    await on(path, changes(drops=[dropped]))
    nodes = reader.tree(path)
    assert {node["parent"] for node in nodes if node["level"] == 2} == {kept}
    [node] = [node for node in nodes if node["candidate"] == dropped]
    assert f"dropped: {BY}" in node["decisions"]
    assert (await ended(path)).summary["status"] == "done"


async def test_an_edit_stands_in_for_the_rewriter(tmp_path: Path) -> None:
    """It is the survivor's only offspring; the other one is rewritten as ever."""
    path = await begun(tmp_path)
    await on(path)
    edited, other = [node["candidate"] for node in reader.beam(path)]
    await on(path, changes(edits={edited: "Score 5/5."}))
    below = [node for node in reader.tree(path) if node["level"] == 2]
    [mine] = [node for node in below if node["parent"] == edited]
    assert mine["prompts"] == {"system": "Score 5/5."}
    assert f"written: {BY}" in mine["decisions"]
    assert len([node for node in below if node["parent"] == other]) > 1
    assert (await ended(path)).summary["status"] == "done"


async def test_an_added_prompt_joins_the_others(tmp_path: Path) -> None:
    """Beside the rewrites of the best survivor."""
    plain = await drpo.optimize(*SEARCH, runs=tmp_path / "whole")
    path = await begun(tmp_path)
    await on(path, changes(adds=["Be kind.", "Be brief."]))
    below = [node for node in reader.tree(path) if node["level"] == 1]
    before = [node for node in reader.tree(plain.path) if node["level"] == 1]
    assert [node["prompts"] for node in below] == [
        *(node["prompts"] for node in before),
        {"system": "Be kind."},
        {"system": "Be brief."},
    ]
    assert (await ended(path)).summary["status"] == "done"


async def test_a_run_that_died_while_it_ended_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing left to review."""
    path = await begun(tmp_path)
    await on(path)
    await on(path)
    with monkeypatch.context() as dying:
        dying.setattr(RunStore, "finish", AsyncMock(side_effect=KeyError))
        with pytest.raises(KeyError):
            await drpo.resume(None, runs=tmp_path)
    assert (await drpo.resume(None, runs=tmp_path)).summary["status"] == "done"


async def killed_at(
    step: str, owner: type, path: Path, kill: pytest.MonkeyPatch, changed: Changes = NO_CHANGES
) -> None:
    """As by SIGKILL: the row still says that somebody runs it."""
    with kill.context() as dying:
        dying.setattr(owner, step, AsyncMock(side_effect=KeyError))
        dying.setattr(RunStore, "set_status", AsyncMock(side_effect=KeyError))
        with pytest.raises(KeyError):
            await drpo.resume(None, runs=path.parent, changes=changed)
    assert reader.summary(path)["reason"] == reader.KILLED


async def test_a_level_that_nobody_has_seen_is_still_reviewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that died between the end of a level and its row does not go on unseen."""
    path = await begun(tmp_path)
    await killed_at("set_status", RunStore, path, monkeypatch)
    assert not reader.waits_for_review(path)
    made = calls(reader.summary(path))
    assert await on(path) is None
    assert reader.waits_for_review(path)
    assert calls(reader.summary(path)) == made


async def test_what_a_person_decided_outlives_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recorded first and carried out by whoever goes on; nobody has to say it again."""
    path = await begun(tmp_path)
    await on(path)
    first, second = [node["candidate"] for node in reader.beam(path)]
    changed = changes(drops=[first], edits={second: "Mine."}, adds=["Another."])
    await killed_at("aupdate_state", CompiledStateGraph, path, monkeypatch, changed)
    await on(path)
    below = [node for node in reader.tree(path) if node["level"] == 2]
    assert [node["prompts"]["system"] for node in below] == ["Mine.", "Another."]
    assert {node["parent"] for node in below} == {second}


async def test_all_at_once(tmp_path: Path) -> None:
    """Drop one, edit the other, add a third."""
    path = await begun(tmp_path)
    await on(path)
    first, second = [node["candidate"] for node in reader.beam(path)]
    await on(path, changes(drops=[first], edits={second: "Mine."}, adds=["Another."]))
    below = [node for node in reader.tree(path) if node["level"] == 2]
    assert [node["prompts"]["system"] for node in below] == ["Mine.", "Another."]
    assert {node["parent"] for node in below} == {second}
    assert (await ended(path)).summary["status"] == "done"


async def test_an_addition_to_a_skipped_survivor_is_admitted(tmp_path: Path) -> None:
    """The survivor is carried on all the same."""
    path = await begun(tmp_path, "search.skip_above=1")
    await on(path, changes(adds=["Be kind."]))
    below = [node for node in reader.tree(path) if node["level"] == 1]
    assert [node["origin"] for node in below] == ["skip", "rewrite"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"drops": [99]}, "candidate 99 is no survivor; there are 0"),
        ({"edits": {7: "x"}}, "candidate 7 is no survivor"),
        ({"drops": [0]}, "one has to be left"),
        ({"drops": [0], "edits": {0: "x"}}, "candidate 0 is both edited and dropped"),
    ],
)
async def test_what_cannot_be_changed_is_said_and_the_run_still_waits(
    changed: dict[str, Any], said: str, tmp_path: Path
) -> None:
    """Nothing was begun."""
    path = await begun(tmp_path)
    with pytest.raises(BadInput, match=said):
        await drpo.resume(None, runs=tmp_path, changes=changes(**changed))
    assert reader.waits_for_review(path)


async def test_only_a_run_under_review_can_be_changed(tmp_path: Path) -> None:
    """Neither a finished one, nor one that stopped for its budget."""
    with pytest.raises(drpo.BudgetReached):
        await drpo.optimize(*SEARCH, "budget.calls=5", runs=tmp_path)
    with pytest.raises(BadInput, match="does not wait for a review"):
        await drpo.resume(None, runs=tmp_path, changes=changes(adds=["x"]))


@pytest.mark.parametrize("strategy", ["monte_carlo", "best_of_n"])
async def test_a_search_of_the_root_alone_has_nothing_to_review(
    strategy: str, tmp_path: Path
) -> None:
    """Said before anything is written."""
    with pytest.raises(BadInput, match="none to review"):
        await drpo.optimize(f"search={strategy}", "search.review=true", runs=tmp_path)


def test_the_command_shows_the_beam_and_says_what_can_be_done(here: Here, tmp_path: Path) -> None:
    """Exit code 3 at each stop, and a fitting command for each change."""
    stopped = here("optimize", *SEARCH, "search.review=true")
    assert stopped.returncode == 3, stopped.stderr
    assert "#0, path value -" in stopped.stdout
    (tmp_path / "mine.md").write_text("Be kind.\n")
    [edit] = re.findall(r"drpo (resume .* --edit 0=)FILE", stopped.stdout)
    assert here(*f"{edit}mine.md".split()).returncode == 3
    assert here("resume", "--add", "mine.md").returncode == 3
    assert here("resume", "--edit", "nonsense").returncode == 2
    assert here("resume", "--edit", "3=nix.md").returncode == 2
    assert here("resume").returncode == 0
    assert "was reviewed" in here("replay").stderr


async def test_a_finished_run_has_nothing_to_review(tmp_path: Path, here: Here) -> None:
    """Said, not passed over."""
    path = await begun(tmp_path / "runs")
    await ended(path)
    with pytest.raises(BadInput, match="does not wait for a review"):
        await drpo.resume(None, runs=path.parent, changes=changes(drops=[0]))
    assert here("resume", "--drop", "0").returncode == 2
