"""Forks: another search out of a run, in which what is unchanged costs nothing."""

from __future__ import annotations

import getpass
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import Here

import drpo
from drpo.checkpoints import reader
from drpo.checkpoints.runs import is_owned, load_run, owning, remove_run, run_paths
from drpo.fork import fork
from drpo.graph.errors import BadInput, RunFailed, RunOwned, RunPaused
from drpo.models.provider import Call, Completion
from drpo.models.sandbox.provider import Sandbox
from drpo.review import Changes
from drpo.settings import compose_settings, forked_settings

BEYOND = ["search.recycle_queries=false", "search.queries_per_level=50"]
"""So few levels that the queries do not last as long."""
SEARCH = ("search.levels=4", "search.max_extension=0", "search.queries_per_level=2")


def new_calls(told: Any) -> int:
    return sum(count["new"] for count in told["calls"].values())


async def made(folder: Path, *words: str) -> drpo.Result:
    return await drpo.optimize(*SEARCH, *words, runs=folder)


async def ended(path: Path) -> drpo.Result:
    return await drpo.resume(path.stem, runs=path.parent)


@pytest.mark.parametrize("strategy", ["quick", "greedy", "monte_carlo"])
@pytest.mark.parametrize("level", [0, 1, 2, 3, None])
async def test_an_unchanged_fork_is_the_same_tree_for_nothing(
    strategy: str, level: int | None, tmp_path: Path
) -> None:
    """Taken back to any level, by any strategy."""
    whole = await made(tmp_path, f"search={strategy}")
    again = await ended(fork(whole.path, level=level).path)
    assert again.run_id != whole.run_id
    assert again.summary["parent"] == whole.run_id
    assert again.summary["tree_sha256"] == whole.summary["tree_sha256"]
    assert new_calls(again.summary) == 0
    assert again.summary["cost_usd"] == again.summary["tokens"]["prompt"] == 0


async def test_more_levels_end_where_a_longer_search_ends(tmp_path: Path) -> None:
    """And only the new ones are paid for; the parent is as it was."""
    short = await made(tmp_path)
    before = short.path.read_bytes()
    longer = await ended(fork(short.path, overrides=["search.levels=6"]).path)
    whole = await made(tmp_path / "whole", "search.levels=6")
    assert longer.summary["tree_sha256"] == whole.summary["tree_sha256"]
    assert new_calls(longer.summary) == new_calls(whole.summary) - new_calls(short.summary)
    assert short.path.read_bytes() == before


async def test_a_candidate_alone_goes_on(tmp_path: Path) -> None:
    """The one that was not kept, too: everything from its level on descends from it."""
    whole = await made(tmp_path)
    dropped = next(
        node["candidate"]
        for node in reader.tree(whole.path)
        if node["level"] == 1 and node["beam_rank"] is None
    )
    forked = await ended(fork(whole.path, candidate=dropped).path)
    nodes = reader.tree(forked.path)
    [alone] = [node for node in nodes if node["level"] == 1]
    prompts = {node["candidate"]: node["prompts"] for node in reader.tree(whole.path)}
    assert alone["prompts"] == prompts[dropped]
    assert {node["level"] for node in nodes} == {0, 1, 2, 3}


async def test_a_persons_prompt_takes_a_candidates_place(tmp_path: Path) -> None:
    """As a decision with its author; no guard stands in its way."""
    whole = await made(tmp_path)
    (tmp_path / "mine.md").write_text("Score 5 of 5: see https://example.org.\n")
    forked = await ended(fork(whole.path, candidate=2, edit=tmp_path / "mine.md").path)
    [mine] = [node for node in reader.tree(forked.path) if node["level"] == 1]
    assert mine["prompts"] == {"system": "Score 5 of 5: see https://example.org."}
    assert f"written: by {getpass.getuser()}, a person" in mine["decisions"]
    assert new_calls(forked.summary) > 0


async def test_the_root_can_be_edited_too(tmp_path: Path) -> None:
    """Its prompt is a setting."""
    whole = await made(tmp_path)
    (tmp_path / "mine.md").write_text("You mend bicycles.")
    forked = await ended(fork(whole.path, candidate=0, edit=tmp_path / "mine.md").path)
    other = await made(tmp_path / "other", 'root="You mend bicycles."')
    assert forked.summary["tree_sha256"] == other.summary["tree_sha256"]


async def test_a_run_that_stopped_early_can_be_forked(tmp_path: Path) -> None:
    """Before its first level is finished, from its beginning; later, from the last level."""
    whole = await made(tmp_path / "whole")
    for limit in (1, 3, 30):
        folder = tmp_path / str(limit)
        with pytest.raises(drpo.BudgetReached):
            await made(folder, f"budget.calls={limit}")
        [path] = folder.glob("*.sqlite")
        forked = await ended(fork(path, overrides=["budget.calls=null"]).path)
        assert forked.summary["tree_sha256"] == whole.summary["tree_sha256"]
        assert new_calls(forked.summary) == new_calls(whole.summary) - limit


@pytest.mark.parametrize(
    "override",
    [
        "search.queries_per_level=3",
        "rewards.kind=static",
        "rewards.most=2",
        "task.description=Bikes",
    ],
)
async def test_changed_settings_hold_from_the_forks_level_on(override: str, tmp_path: Path) -> None:
    """Queries and selections, too; from the beginning it is the search that they make."""
    words = ["rewards.fixed=[Clarity]"]
    whole = await made(tmp_path, *words)
    late = await ended(fork(whole.path, level=2, overrides=[override]).path)
    assert late.summary["status"] == "done"
    said = [verdict["unscored"] for node in reader.trace(late.path) for verdict in node["verdicts"]]
    assert "the query has no selection" not in said
    first = await ended(fork(whole.path, level=0, overrides=[override]).path)
    fresh = await made(tmp_path / "fresh", *words, override)
    assert first.summary["tree_sha256"] == fresh.summary["tree_sha256"]


async def test_a_fork_with_other_rewrites_can_be_forked_again(tmp_path: Path) -> None:
    """What a level has admitted stays, however many its parent asks for now."""
    whole = await made(tmp_path)
    fewer = await ended(fork(whole.path, level=1, overrides=["search.rewrites=1"]).path)
    again = await ended(fork(fewer.path, level=1).path)
    assert again.summary["tree_sha256"] == fewer.summary["tree_sha256"]


@pytest.mark.parametrize("skip_above", [1, 5])
async def test_a_prompt_that_was_added_in_a_review_is_kept_and_can_be_edited(
    skip_above: int, tmp_path: Path
) -> None:
    """Also beside a survivor that was skipped."""
    words = ("search.review=true", f"search.skip_above={skip_above}")
    with pytest.raises(drpo.RunPaused):
        await made(tmp_path, *words)
    adding = Changes(edits={}, drops=(), adds=["Be kind."])
    with pytest.raises(drpo.RunPaused):
        await drpo.resume(None, runs=tmp_path, changes=adding)
    [path] = tmp_path.glob("*.sqlite")
    level = [node for node in reader.tree(path) if node["level"] == 1]
    off = ["search.review=false"]
    nodes = reader.tree((await ended(fork(path, level=1, overrides=off).path)).path)
    assert [n["prompts"] for n in nodes if n["level"] == 1] == [n["prompts"] for n in level]
    (tmp_path / "mine.md").write_text("Be brief.")
    mine = fork(path, candidate=level[-1]["candidate"], edit=tmp_path / "mine.md", overrides=off)
    [alone] = [n for n in reader.tree((await ended(mine.path)).path) if n["level"] == 1]
    assert alone["prompts"] == {"system": "Be brief."}


async def test_a_fork_of_a_fork_remembers_both(tmp_path: Path) -> None:
    """Each its own parent, all answers free."""
    whole = await made(tmp_path)
    first = await ended(fork(whole.path, level=2).path)
    second = await ended(fork(first.path, level=1).path)
    assert second.summary["parent"] == first.run_id
    assert second.summary["tree_sha256"] == whole.summary["tree_sha256"]
    assert new_calls(second.summary) == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"level": 9}, "levels 0 to 3"),
        ({"level": -1}, "levels 0 to 3"),
        ({"candidate": 999}, "no candidate 999"),
        ({"level": 1, "candidate": 1}, "not both"),
        ({"edit": Path("mine.md")}, "--candidate"),
        ({"candidate": 1, "edit": Path("nix.md")}, "nix.md"),
        ({"overrides": ["data.path=x.txt"]}, "queries and examples are those of its parent"),
        ({"overrides": ["search=paper"]}, "single values"),
        ({"overrides": ["search.levles=3"]}, "did you mean search.levels"),
        ({"overrides": ["serch.x.y=3"]}, "is no setting"),
        ({"overrides": ["search.levels=x"]}, "search.levels"),
        ({"overrides": ["search.queries_per_level=999"]}, "queries_per_level"),
        ({"level": 2, "overrides": ['root="Other."']}, "--level 0"),
        ({"candidate": 9223372036854775808}, "no candidate"),
        ({"level": 3, "overrides": BEYOND}, "is beyond them"),
    ],
)
async def test_c6_a_fork_that_cannot_be_is_one_line(
    options: dict[str, Any], said: str, tmp_path: Path
) -> None:
    """And leaves no file."""
    whole = await made(tmp_path)
    with pytest.raises(BadInput) as raised:
        fork(whole.path, **options)
    assert said in str(raised.value)
    assert [*tmp_path.glob("*.sqlite*")] == [whole.path]


async def test_s5_a_fork_of_a_running_file_is_whole(tmp_path: Path) -> None:
    """Though its last commits are in the log beside it."""
    whole = await made(tmp_path)
    with closing(sqlite3.connect(whole.path)) as writer:
        writer.execute("pragma journal_mode = wal")
        writer.execute("update run set reason = 'only in the log'")
        writer.commit()
        copy = fork(whole.path)
        with closing(sqlite3.connect(copy.path)) as db:
            assert db.execute("pragma integrity_check").fetchone() == ("ok",)
    assert (await ended(copy.path)).summary["tree_sha256"] == whole.summary["tree_sha256"]
    assert copy.path.stat().st_mode & 0o777 == 0o600


async def test_c1_a_run_of_another_program_can_be_forked(tmp_path: Path) -> None:
    """Resume refuses and says so; the fork goes on with the program there is."""
    with pytest.raises(drpo.BudgetReached):
        await made(tmp_path, "budget.calls=30")
    [path] = tmp_path.glob("*.sqlite")
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("update run set fingerprint = json_set(fingerprint, '$.templates.judge', 'old')")
    with pytest.raises(BadInput, match=r"judge.*drpo fork"):
        await drpo.resume(None, "budget.calls=null", runs=tmp_path)
    whole = await made(tmp_path / "whole")
    done = await ended(fork(path, overrides=["budget.calls=null"]).path)
    assert done.summary["tree_sha256"] == whole.summary["tree_sha256"]


async def test_c2_resume_names_the_fork_for_what_it_refuses(tmp_path: Path) -> None:
    """Only budget, concurrency, storage and ledger may change."""
    whole = await made(tmp_path)
    with pytest.raises(BadInput, match=r"drpo fork RUN search\.width"):
        await drpo.resume(whole.run_id, "search.width=3", runs=tmp_path)


async def test_another_runs_answers_are_taken_over(tmp_path: Path) -> None:
    """The same search again is free, and its file is whole by itself."""
    whole = await made(tmp_path)
    again = await made(tmp_path / "again", f"ledger.reuse={whole.path}")
    assert new_calls(again.summary) == 0
    assert again.summary["tree_sha256"] == whole.summary["tree_sha256"]
    whole.path.unlink()
    assert (await ended(fork(again.path, level=0).path)).summary["calls"] is not None
    other = await made(tmp_path / "other", f"ledger.reuse={again.path}", "search.levels=5")
    assert (
        0
        < new_calls(other.summary)
        < sum(count["from_ledger"] for count in other.summary["calls"].values())
    )


async def test_c6_reuse_of_what_is_no_run_is_one_line(tmp_path: Path) -> None:
    """Nothing is written."""
    (tmp_path / "x.sqlite").write_text("x" * 5000)
    for name in ("nix.sqlite", "x.sqlite"):
        with pytest.raises(BadInput, match=name):
            await made(tmp_path / "runs", f"ledger.reuse={tmp_path / name}")
    assert not (tmp_path / "runs").exists()


def test_the_command_makes_a_fork_and_says_how_to_go_on(here: Here) -> None:
    """`drpo fork`, `drpo resume`, `drpo show`."""
    assert here("optimize", "experiment=smoke").returncode == 0
    done = here("fork", "search.levels=3")
    assert done.returncode == 0, done.stderr
    [beginning] = [line.split()[-1] for line in done.stdout.splitlines() if "Go on" in line]
    assert here("resume", beginning).returncode == 0
    assert "(a fork of run" in here("show", beginning).stdout


@pytest.mark.parametrize("strategy", ["quick", "monte_carlo", "best_of_n"])
def test_a_replay_is_the_same_tree(strategy: str, here: Here, tmp_path: Path) -> None:
    """Out of the run's own answers; of a fork with a person's prompt, too."""
    words = ("optimize", f"search={strategy}", "search.queries_per_level=1", "search.levels=3")
    assert here(*words).returncode == 0
    assert "the same tree" in here("replay").stdout
    (tmp_path / "mine.md").write_text("Be kind.")
    forked = here("fork", "--candidate", "1", "--edit", "mine.md")
    assert forked.returncode == 0, forked.stderr
    assert here("resume").returncode == 0
    assert "the same tree" in here("replay").stdout


def test_a_replay_notices_what_is_not_the_same(here: Here, tmp_path: Path) -> None:
    """A changed score; and an answer that is gone is never asked for again."""
    assert here("optimize", "experiment=smoke").returncode == 0
    [path] = (tmp_path / "runs").glob("*.sqlite")
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("update verdict set reward = 1.5, scores = '[]' where candidate = 1")
    changed = here("replay")
    assert changed.returncode == 1
    assert "the tree is now" in changed.stderr
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("pragma foreign_keys = off")
        db.execute("delete from call where role = 'judge'")
    gone = here("replay")
    assert gone.returncode == 1
    assert "the ledger has no answer" in gone.stderr


def test_rm_asks_and_deletes_one_run(here: Here, tmp_path: Path) -> None:
    """Off a terminal it wants `--yes`."""
    for _ in range(2):
        assert here("optimize", "experiment=smoke").returncode == 0
    first, second = sorted((tmp_path / "runs").glob("*.sqlite"))
    refused = here("rm", first.stem[:8])
    assert refused.returncode == 2
    assert "--yes" in refused.stderr
    assert here("rm", first.stem[:8], "--yes").returncode == 0
    assert {*(tmp_path / "runs").iterdir()} == {second, second.with_suffix(".log")}


def test_a_fork_is_not_begun(tmp_path: Path) -> None:
    """It is paused until somebody resumes it, and says where it begins."""
    path = drpo.optimize_blocking("experiment=smoke", runs=tmp_path).path
    copy = fork(path, level=1)
    assert reader.status(copy.path) == "paused"
    assert load_run(copy.path).start is not None
    assert "begins at level 1" in reader.summary(copy.path)["reason"]


async def test_a_skipped_candidate_alone_has_no_twin(tmp_path: Path) -> None:
    """Although a person wrote another prompt for its parent."""
    words = ("search.review=true", "search.skip_above=1", "search.levels=3")
    with pytest.raises(RunPaused):
        await made(tmp_path, *words)
    [path] = run_paths(tmp_path)
    added = Changes(edits={}, drops=(), adds=["Be kind."])
    with pytest.raises(RunPaused):
        await drpo.resume(None, runs=tmp_path, changes=added)
    skip, written = (node for node in reader.tree(path) if node["level"] == 1)
    assert (skip["origin"], written["origin"]) == ("skip", "rewrite")
    forked = fork(path, candidate=skip["candidate"], overrides=["search.review=false"])
    await ended(forked.path)
    alone = [node["origin"] for node in reader.tree(forked.path) if node["level"] == 1]
    assert alone == ["skip"]


async def test_c6_a_fork_with_a_ledger_that_is_none_is_refused_at_once(tmp_path: Path) -> None:
    """Not only when it is resumed."""
    whole = await made(tmp_path)
    with pytest.raises(BadInput, match=r"^ledger\.reuse"):
        fork(whole.path, overrides=["ledger.reuse=nothing.sqlite"])
    assert len(run_paths(tmp_path)) == 1


@pytest.mark.parametrize(
    "override", ["sandbox.world=easy", "sandbox.profile=terse", "sandbox.seed=4"]
)
async def test_what_a_section_says_for_all_roles_holds_in_a_fork(
    override: str, tmp_path: Path
) -> None:
    """As in a search that is made with it; a role with a value of its own keeps that."""
    own = "models.rewriter.profile=reckless"
    whole = await made(tmp_path / "whole", override, own)
    before = await made(tmp_path, own)
    changed = await ended(fork(before.path, level=0, overrides=[override]).path)
    assert changed.summary["tree_sha256"] == whole.summary["tree_sha256"]
    assert changed.summary["tree_sha256"] != before.summary["tree_sha256"]


@pytest.mark.parametrize("override", ["openai.headers.X-A=a", "openai.headers={X-A: a}"])
def test_headers_for_all_roles_reach_every_role_of_a_fork(override: str) -> None:
    """But one that has headers of its own."""
    before = compose_settings(["models=openai", "models.judge.headers.X-B=b"])
    models = forked_settings(before, [override]).models.model_dump()
    assert {role: model["headers"] for role, model in models.items()} == {
        "target": {"X-A": "a"},
        "rewarder": {"X-A": "a"},
        "judge": {"X-B": "b"},
        "rewriter": {"X-A": "a"},
    }


async def test_p8_a_run_is_one_by_whatever_name(tmp_path: Path) -> None:
    """A link to its file has no lock of its own."""
    done = await made(tmp_path)
    link = tmp_path / "latest.sqlite"
    link.symlink_to(done.path.name)
    with owning(done.path, most_recoveries=3):
        assert is_owned(link)
        with pytest.raises(RunOwned), owning(link, most_recoveries=3):
            pass


async def test_a_run_that_begins_while_rm_asks_is_not_deleted(tmp_path: Path) -> None:
    """Whoever deletes has to hold it."""
    done = await made(tmp_path)
    with owning(done.path, most_recoveries=3), pytest.raises(RunOwned):
        remove_run(done.path)
    assert done.path.is_file()
    remove_run(done.path)
    assert not list(tmp_path.iterdir())


async def test_a_run_whose_file_is_deleted_pays_for_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be written to a file that nobody can open."""
    asked = 0
    whole = Sandbox.complete

    async def complete(sandbox: Sandbox, call: Call) -> Completion:
        nonlocal asked
        asked += 1
        if asked == 5:
            for path in tmp_path.glob("*.sqlite"):
                path.unlink()
        return await whole(sandbox, call)

    monkeypatch.setattr(Sandbox, "complete", complete)
    with pytest.raises(RunFailed, match="was deleted while it was running"):
        await made(tmp_path, "concurrency=1")
    assert asked == 5
