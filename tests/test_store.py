"""A run's file: rows, transactions, owners, resting state, checkpoints that fail."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database

import drpo
from drpo.checkpoints.runs import (
    create_run,
    find_file,
    find_run,
    hold_against,
    is_owned,
    load_run,
    owning,
    reading,
    run_paths,
)
from drpo.checkpoints.schema import migrations
from drpo.checkpoints.store import RunStore, open_store
from drpo.graph.context import Place
from drpo.graph.errors import BadInput, RunFailed
from drpo.graph.requests import Answer
from drpo.graph.values import (
    Aspect,
    Candidate,
    Decision,
    Evaluation,
    Message,
    Query,
    Rewrite,
    Sample,
    Score,
    Selection,
    Standing,
    Verdict,
)

QUERIES = [
    Query(0, "a", (Message("user", "One?"),), ("x",), "1, say."),
    Query(1, "b", (Message("user", "1"), Message("assistant", "2"), Message("user", "3 \u00e9"))),
]


def new(folder: Path) -> Any:
    return create_run(
        folder, settings="{}", fingerprint={"nodes": ["a"]}, queries=QUERIES, version="test"
    )


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[RunStore]:
    async with open_store(new(tmp_path).path) as opened:
        yield opened


def candidate(ordinal: int, parent: int | None = None, level: int = 0, **more: Any) -> Candidate:
    prompts = {"system": f"prompt {ordinal}", "planner": "plan"}
    return Candidate(ordinal, level, parent, prompts, "rewrite" if parent else "root", **more)


def kept(candidate: int, level: int) -> Decision:
    return Decision("advance", level, candidate, -1, "kept", "good")


async def test_a_run_comes_back_as_it_was_made(tmp_path: Path) -> None:
    """Settings, fingerprint and queries, several turns and a reference among them."""
    made = new(tmp_path)
    assert load_run(made.path) == made


def test_c3_a_file_from_before_references_opens_and_is_brought_up_to_date(tmp_path: Path) -> None:
    """To look at as it is; whoever owns it migrates it."""
    made = new(tmp_path)
    with closing(sqlite3.connect(made.path)) as db, db:
        db.execute("alter table query drop column reference")
        db.execute("delete from _sqlite_migrations where name = 'm003_reference'")
    without = tuple(replace(query, reference=None) for query in QUERIES)
    assert load_run(made.path).queries == without
    with owning(made.path, most_recoveries=3):
        assert load_run(made.path).queries == without
    with closing(Database(made.path)) as after:
        assert "reference" in after["query"].columns_dict


async def test_a_selection_comes_back(store: RunStore) -> None:
    """And is none before it is made."""
    said = Selection((Aspect("Clarity", "clear"), Aspect("Wit", "funny")), "so", ("a note",))
    assert await store.selection(0) is None
    await store.add_selection(0, Answer(said))
    assert await store.selection(0) == said


async def test_candidates_come_back_and_are_written_once(store: RunStore) -> None:
    """Writing them again, as after a kill, changes nothing."""
    made = [candidate(0), candidate(1, 0, 1, item=2)]
    for _ in range(2):
        await store.admit(made, [Decision("admit", 1, 0, 0, "refused", "empty")])
    assert await store.candidates([1, 0]) == made
    assert await store.read("select count(*) from decision") == [(1,)]


async def test_a_path_is_the_last_of_the_line_oldest_first(store: RunStore) -> None:
    """At most as long as wanted."""
    line = [candidate(n, n - 1 if n else None, n) for n in range(5)]
    await store.admit(line, [])
    assert [each.id for each in await store.path(4, 3)] == [2, 3, 4]
    assert [each.id for each in await store.path(1, 9)] == [0, 1]


async def test_rewrites_come_back_with_their_reasons(store: RunStore) -> None:
    """In the rewriter's order; none for a candidate without."""
    await store.admit([candidate(0), candidate(1, 0, 1)], [])
    said = (Rewrite({"system": "new"}), Rewrite(None, "no JSON"))
    await store.add_rewrites(0, 0, Answer(said))
    assert await store.rewrites(0, 0) == list(said)
    assert await store.rewrites(1, 0) == []


async def test_rewrites_of_a_later_level_stand_beside_the_earlier_ones(store: RunStore) -> None:
    """Numbered on, and read from their first number."""
    await store.admit([candidate(0)], [])
    for level in range(2):
        await store.add_rewrites(0, level, Answer((Rewrite({"system": f"of {level}"}),)))
    assert await store.rewrites(0, 1) == [Rewrite({"system": "of 1"})]
    assert len(await store.rewrites(0, 0)) == 2


async def test_evaluations_come_back(store: RunStore) -> None:
    """By candidate, then query, unscored aspects and failures among them."""
    await store.admit([candidate(0)], [])
    sample = Sample("", "it is empty")
    verdict = Verdict((Score("Clarity", 4.5, "so"), Score("Wit", None, "", "N/A")), None, ("n",))
    for query in (1, 0):
        await store.add_sample(Place(0, 0, query), Answer(sample))
        await store.add_verdict(Place(0, 0, query), Answer(verdict))
    found = await store.evaluations([0])
    assert found == [Evaluation(0, query, sample, verdict) for query in (0, 1)]


async def test_standings_lead_to_path_sums_and_progress(store: RunStore) -> None:
    """Sums are kept to the last bit."""
    await store.admit([candidate(0)], [])
    await store.settle([Standing(0, 4.0, (4.0,), 0.0, 0)], [0], [kept(0, 0)])
    await store.admit([candidate(1, 0, 1), candidate(2, 0, 1), candidate(3, 1, 2)], [])
    at = [Standing(1, 0.1 + 0.2, (), 0.1 + 0.2, 1), Standing(2, 5.0, (), 5.0, 1)]
    await store.settle(at, [2, 1], [kept(2, 1), kept(1, 1)])
    assert await store.path_sums([3]) == {3: (0.30000000000000004, 1)}
    assert await store.standings([2, 1]) == [replace(each, scores=()) for each in at]
    assert await store.progress() == (2, [(2, 5.0), (1, 0.30000000000000004)])


async def test_a_failed_write_leaves_nothing_half_done(store: RunStore) -> None:
    """One transaction: all of it or none, and the next write is its own."""
    with pytest.raises(RunFailed, match="cannot write"):
        await store.write(
            ("insert into text values (?, ?)", [("h", "b")]),
            ("insert into nothing values (?)", [(1,)]),
        )
    await store.admit([candidate(0)], [])
    assert await store.read("select * from text where sha256 = 'h'") == []


async def test_writes_at_the_same_time_are_all_committed(store: RunStore) -> None:
    """Those of the same shape share a transaction, and each keeps the order of its own rows."""
    add, change = "insert into text values (?, ?)", "update text set body = ? where sha256 = ?"
    alike = [store.write((add, [(f"t{n}", "a")]), (change, [("b", f"t{n}")])) for n in range(20)]
    other = store.write((add, [("o", "a")]), (change, []), (change, [("c", "o")]))
    await asyncio.gather(*alike, other)
    found = dict(await store.read("select sha256, body from text"))
    assert found == {f"t{n}": "b" for n in range(20)} | {"o": "c"}


async def test_a_write_that_fails_fails_all_that_share_its_transaction(store: RunStore) -> None:
    """Nobody is told that something is kept which is not."""
    good, bad = [("insert into text values (?, ?)", [(name, "b")]) for name in ("x", "x")]
    said = await asyncio.gather(store.write(good), store.write(bad), return_exceptions=True)
    assert [type(each) for each in said] == [RunFailed, RunFailed]
    assert await store.read("select * from text") == []


async def test_a_write_is_finished_though_nobody_waits_for_it(store: RunStore) -> None:
    """What was paid for is kept when its asker is cancelled, and others are not held up."""
    add = "insert into text values (?, ?)"
    async with store.saver.lock:
        asked = [asyncio.create_task(store.write((add, [(name, "b")]))) for name in ("x", "y")]
        await asyncio.sleep(0)
        asked[0].cancel()
    await asked[1]
    assert asked[0].cancelled()
    assert await store.read("select sha256 from text order by 1") == [("x",), ("y",)]


async def test_what_no_row_can_hold_reaches_whoever_wrote_it(store: RunStore) -> None:
    """It is not taken for a broken file, and nothing hangs."""
    with pytest.raises(RunFailed, match="too large"):
        await store.write(("insert into text values (?, ?)", [("x", 2**70)]))
    await store.write(("insert into text values (?, ?)", [("x", "b")]))


async def test_a_row_needs_what_it_refers_to(store: RunStore) -> None:
    """Foreign keys are on."""
    with pytest.raises(RunFailed, match="FOREIGN KEY"):
        await store.admit([candidate(1, 77, 1)], [])


async def test_a_run_at_rest_is_one_private_file(tmp_path: Path) -> None:
    """No log, no lock beside it, readable by its owner alone."""
    run = new(tmp_path)
    with owning(run.path, most_recoveries=3):
        async with open_store(run.path) as opened:
            await opened.admit([candidate(0)], [])
    summary_of = load_run(run.path)
    assert summary_of.id == run.id
    assert [path.name for path in tmp_path.iterdir()] == [run.path.name]
    assert run.path.stat().st_mode & 0o777 == 0o600


def test_a_run_that_cannot_be_made_leaves_no_file(tmp_path: Path) -> None:
    """BadInput says that nothing was written."""
    twice = [Query(at, "same", (Message("user", str(at)),)) for at in range(2)]
    with pytest.raises(BadInput, match="cannot make a run"):
        create_run(tmp_path, settings="{}", fingerprint={}, queries=twice, version="test")
    assert not list(tmp_path.iterdir())


async def test_a_file_can_be_looked_at_while_it_is_written(store: RunStore) -> None:
    """Committed rows are there for everybody."""
    await store.admit([candidate(0)], [])
    with closing(Database(store.file)) as db:
        assert db["candidate"].count == 1


def test_views_read_well(tmp_path: Path) -> None:
    """By sqlite-utils, without decoding anything."""
    path = drpo.optimize_blocking("experiment=smoke", runs=tmp_path).path
    with closing(Database(path)) as db:
        assert {"timeline", "cost_per_role", "branches"} <= set(db.view_names())
        assert {row["role"] for row in db["cost_per_role"].rows} == {
            "target",
            "rewarder",
            "judge",
            "rewriter",
        }
        assert next(db["branches"].rows)["system"] == "You are a helpful assistant."
        assert not migrations.pending(db)


HOLD = """
import pathlib, sys
from drpo.checkpoints.runs import owning
with owning(pathlib.Path(sys.argv[1]), most_recoveries=3):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_p8_a_second_owner_is_refused_and_a_dead_one_replaced(tmp_path: Path) -> None:
    """It names the holder; after kill -9 the lock is free."""
    path = new(tmp_path).path
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert is_owned(path)
        held_by = rf"process {holder.pid} on {os.uname().nodename}"
        with pytest.raises(RunFailed, match=held_by), owning(path, most_recoveries=3):
            pass
        holder.kill()
    assert not is_owned(path)
    with owning(path, most_recoveries=3):
        assert is_owned(path)


def test_a_run_is_found_by_its_beginning(tmp_path: Path) -> None:
    """Unique, or named; the newest by default; other files are no runs."""
    with pytest.raises(BadInput, match="no runs"):
        find_run(tmp_path, None)
    first, second = new(tmp_path).path, new(tmp_path).path
    (tmp_path / "junk.sqlite").write_bytes(b"not a database at all")
    (tmp_path / "empty.sqlite").touch()
    with closing(sqlite3.connect(tmp_path / "other.sqlite")) as other:
        other.execute("create table t (a)")
    assert sorted(run_paths(tmp_path)) == sorted([first, second])
    assert find_run(tmp_path, first.stem[:8]) == first
    with pytest.raises(BadInput, match="not unique"):
        find_run(tmp_path, "")
    with pytest.raises(BadInput, match="begins with 'zz'"):
        find_run(tmp_path, "zz")


@pytest.mark.parametrize(
    ("current", "says"),
    [
        ({"nodes": ["a", "b"]}, r"nodes changed.*with b"),
        ({"nodes": []}, r"nodes changed.*without a"),
        ({"nodes": ["a"], "templates": {"judge": "2"}}, r"templates changed"),
    ],
)
def test_c1_a_changed_program_is_named(current: Any, says: str, tmp_path: Path) -> None:
    """LangGraph alone would go on and call a part of the state success."""
    run = new(tmp_path)
    hold_against(run, {"nodes": ["a"]})
    with pytest.raises(BadInput, match=says):
        hold_against(run, current)


def test_c1_a_changed_template_stops_a_resume(tmp_path: Path) -> None:
    """The template that changed is named."""
    folder = tmp_path / "mine"
    folder.mkdir()
    source = Path(__file__).parents[1] / "nodes" / "templates" / "judge.jinja"
    (folder / "judge.jinja").write_text(source.read_text() + " ")
    words = ("experiment=smoke", f"prompts.folder={folder}", "budget.calls=3")
    with pytest.raises(drpo.BudgetReached):
        drpo.optimize_blocking(*words, runs=tmp_path)
    (folder / "judge.jinja").write_text(source.read_text() + "  ")
    with pytest.raises(BadInput, match=r"templates changed.*judge"):
        drpo.resume_blocking(None, "budget.calls=null", runs=tmp_path)


def test_c3_a_run_with_settings_of_another_version_is_not_resumed(tmp_path: Path) -> None:
    """One line names the first that there is no more."""
    with pytest.raises(drpo.BudgetReached):
        drpo.optimize_blocking("experiment=smoke", "budget.calls=3", runs=tmp_path)
    [path] = run_paths(tmp_path)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("update run set settings = json_set(settings, '$.search.levles', 9)")
    with pytest.raises(BadInput, match=r"another version.*'search\.levles' is no setting"):
        drpo.resume_blocking(runs=tmp_path)


async def test_a_look_at_a_running_search_sees_one_moment_of_it(tmp_path: Path) -> None:
    """However much is written between its first and its last query."""
    done = await drpo.optimize("search.levels=2", runs=tmp_path)
    with closing(sqlite3.connect(done.path)) as running:
        running.execute("pragma journal_mode = wal")
    with reading(done.path) as looking:
        before = looking["call"].count
        with closing(sqlite3.connect(done.path)) as writing, writing:
            writing.execute("delete from attempt")
        assert looking["call"].count == before
        assert looking["attempt"].count > 0


async def test_one_held_file_does_not_hide_another(tmp_path: Path) -> None:
    """A run is found by its name, without opening its neighbours."""
    one = await drpo.optimize("search.levels=1", runs=tmp_path)
    two = await drpo.optimize("search.levels=1", "seed=1", runs=tmp_path)
    with closing(sqlite3.connect(two.path, isolation_level=None)) as holding:
        holding.execute("begin exclusive")
        assert find_run(tmp_path, one.run_id) == one.path
        assert find_file(tmp_path, one.run_id[:8]) == one.path


async def test_whoever_only_looks_does_not_turn_a_resume_away(tmp_path: Path) -> None:
    """`runs` asks of every run whether it is owned."""
    done = await drpo.optimize("search.levels=1", runs=tmp_path)
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            is_owned(done.path)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(20):
            with owning(done.path, most_recoveries=20):
                pass
    finally:
        stop.set()
        thread.join()
