"""Checkpoints: one that fails stops the run, they hold plain values only, and stay small."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import AsyncGenerator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, patch

import aiosqlite
import pytest
from langgraph._internal import _serde
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.serde import _msgpack
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

import drpo
from drpo.checkpoints import store as store_module
from drpo.checkpoints.runs import run_paths
from drpo.checkpoints.saver import RunSaver
from drpo.checkpoints.store import RunStore
from drpo.models import providers
from drpo.models.provider import Call, Completion
from drpo.models.sandbox.provider import Sandbox

SEARCH = ("search=greedy", "search.levels=4")
PAPER = ("search=paper", "search.max_extension=0", "search.recycle_queries=true")
FAULTS = [(kind, left) for kind in ("aput", "aput_writes") for left in (1, 2, 5, 9)]
"""Which of the saver's two writes fails, and the how manieth of them."""


class Broken:
    """What a search has around it while its disk is full: saver and models that take notes."""

    def __init__(self, kind: str, left: int) -> None:
        """The `left`-th write of this `kind` fails, and every later one does not."""
        self.kind = kind
        self.left = left
        self.calls_after = 0
        """Model calls that began after the failure."""

    @property
    def failed(self) -> bool:
        """Whether the write has failed."""
        return self.left <= 0

    def count(self, kind: str) -> None:
        """One more write of a kind."""
        if kind == self.kind:
            self.left -= 1
            if self.left == 0:
                raise sqlite3.OperationalError("database or disk is full")

    def saver(self) -> type[RunSaver]:
        """A saver that fails below the one that is tested, where SQLite would."""
        broken = self

        class Lower(AsyncSqliteSaver):
            async def aput(self, *arguments: Any, **named: Any) -> Any:
                broken.count("aput")
                return await super().aput(*arguments, **named)

            async def aput_writes(self, *arguments: Any, **named: Any) -> None:
                broken.count("aput_writes")
                await super().aput_writes(*arguments, **named)

        return type("BrokenSaver", (RunSaver, Lower), {})

    def model(self) -> type[Sandbox]:
        """The sandbox, counted."""
        broken = self

        class Counted(Sandbox):
            async def complete(self, call: Call) -> Completion:
                broken.calls_after += broken.failed
                return await super().complete(call)

        return Counted


def run_broken(kind: str, left: int, folder: Path) -> tuple[BaseException, Broken]:
    """What stopped a search whose disk is full at that write."""
    broken = Broken(kind, left)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_module, "RunSaver", broken.saver())
        patch.setattr(providers, "Sandbox", broken.model())
        try:
            drpo.optimize_blocking(*SEARCH, runs=folder)
        except Exception as error:  # noqa: BLE001 - which one it is, is what is tested
            return error, broken
    raise AssertionError("the search went on to its end")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> drpo.Result:
    """The same search, uninterrupted."""
    return drpo.optimize_blocking(*SEARCH, runs=tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize(("kind", "left"), FAULTS)
def test_s1_s2_a_write_that_fails_stops_the_run_as_failed(
    kind: str, left: int, tmp_path: Path
) -> None:
    """By the public error, with SQLite's reason."""
    error, _ = run_broken(kind, left, tmp_path)
    assert isinstance(error, drpo.RunFailed), repr(error)
    assert "database or disk is full" in str(error)


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "lenient"])
@pytest.mark.parametrize(("kind", "left"), FAULTS)
def test_s1_s2_no_model_is_asked_after_a_write_that_failed(
    kind: str, left: int, strict: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LangGraph alone would run on to the end; in strict mode it works with a copy of the saver."""
    monkeypatch.setattr(_serde, "STRICT_MSGPACK_ENABLED", strict)
    _, broken = run_broken(kind, left, tmp_path)
    assert broken.failed
    assert broken.calls_after == 0


@pytest.mark.parametrize(("kind", "left"), FAULTS)
def test_a_run_whose_write_failed_can_be_resumed_to_the_same_tree(
    kind: str, left: int, tmp_path: Path, whole: drpo.Result
) -> None:
    """Once there is room again, and nothing is paid for twice."""
    run_broken(kind, left, tmp_path)
    resumed = drpo.resume_blocking(runs=tmp_path).summary
    assert resumed["tree_sha256"] == whole.summary["tree_sha256"]
    for role, count in whole.summary["calls"].items():
        assert resumed["calls"][role]["new"] == count["new"]


@pytest.mark.parametrize("kind", ["aput", "aput_writes"])
def test_the_status_tells_of_a_write_that_failed(kind: str, tmp_path: Path) -> None:
    """For whoever looks at the run later."""
    run_broken(kind, 5, tmp_path)
    [path] = run_paths(tmp_path)
    with closing(sqlite3.connect(path)) as db:
        [(status, reason)] = db.execute("select status, reason from run")
    assert status == "failed"
    assert "database or disk is full" in reason


@pytest.fixture(scope="module", params=[1, 8], ids="{} queries a level".format)
def checkpoints(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[tuple[str, bytes, bytes]]]:
    """Type, checkpoint and metadata of each superstep of the paper's search."""
    words = (*PAPER, "search.levels=6", f"search.queries_per_level={request.param}")
    # A finished run would drop all but the last.
    with patch.object(RunStore, "finish", AsyncMock()):
        path = drpo.optimize_blocking(*words, runs=tmp_path_factory.mktemp("paper")).path
    with closing(sqlite3.connect(path)) as db:
        yield db.execute("select type, checkpoint, metadata from checkpoints").fetchall()


def values_of(kind: str, blob: bytes) -> dict[str, Any]:
    """The channels of a checkpoint, read without a single allowed type."""
    serializer = JsonPlusSerializer(allowed_msgpack_modules=[])
    read: dict[str, Any] = serializer.loads_typed((kind, blob))["channel_values"]
    return read


def only_builtins(value: object) -> bool:
    """Whether a value is made of numbers, texts, lists and mappings alone."""
    if isinstance(value, dict):
        return all(only_builtins(each) for pair in value.items() for each in pair)
    if isinstance(value, (list, tuple)):
        return all(only_builtins(each) for each in value)
    return value is None or type(value) in (bool, int, float, str)


def test_checkpoints_are_read_strictly() -> None:
    """The tests below would mean little otherwise."""
    assert _msgpack.STRICT_MSGPACK_ENABLED


def test_c4_checkpoints_hold_plain_values(checkpoints: list[tuple[str, bytes, bytes]]) -> None:
    """Apart from LangGraph's own sends, which carry plain values too."""
    assert len(checkpoints) > 15
    for kind, blob, _ in checkpoints:
        values = values_of(kind, blob)
        assert all(only_builtins(send.arg) for send in values.pop("__pregel_tasks", ()))
        assert only_builtins(values)


def test_s9_checkpoints_are_small(checkpoints: list[tuple[str, bytes, bytes]]) -> None:
    """At most 4 KB, and 100 bytes for each pending send."""
    for kind, blob, metadata in checkpoints:
        sends = len(values_of(kind, blob).get("__pregel_tasks", ()))
        assert len(blob) + len(metadata) <= 4096 + 100 * sends


def test_s9_checkpoints_grow_linearly_with_the_levels(tmp_path: Path) -> None:
    """Twenty levels more cost about twice what ten more cost; texts in state would cost four."""
    sizes = []
    for levels in (10, 20, 40):
        with patch.object(RunStore, "finish", AsyncMock()):
            path = drpo.optimize_blocking(*PAPER, f"search.levels={levels}", runs=tmp_path).path
        with closing(sqlite3.connect(path)) as db:
            [(kept,)] = db.execute(
                "select sum(length(checkpoint) + length(metadata)) from checkpoints"
            )
            [(pending,)] = db.execute("select sum(length(value)) from writes")
        sizes.append(kept + pending)
    assert sizes[2] - sizes[1] < 2.5 * (sizes[1] - sizes[0])


@checkpointer_test("drpo")
async def conforming() -> AsyncGenerator[RunSaver, None]:
    """A saver on a file of its own."""
    with tempfile.TemporaryDirectory() as folder:
        async with aiosqlite.connect(Path(folder) / "run.sqlite") as connection:
            yield RunSaver(connection)


async def test_the_saver_conforms_to_langgraph() -> None:
    """The base, and every extended part there is."""
    report = await validate(conforming)
    results = report.results
    assert {
        name: (each.tests_failed, each.failures) for name, each in results.items()
    } == dict.fromkeys(results, (0, []))
    assert all(each.tests_passed > 0 for each in results.values())
    assert {"prune", "delete_for_runs", "copy_thread"} <= set(results)


def test_s9_a_finished_run_keeps_its_last_checkpoint_alone(tmp_path: Path) -> None:
    """Nobody goes on from the others."""
    path = drpo.optimize_blocking(*PAPER, "search.levels=4", runs=tmp_path).path
    with closing(sqlite3.connect(path)) as db:
        [(kept,)] = db.execute("select count(*) from checkpoints")
        [(writes,)] = db.execute("select count(*) from writes")
    assert (kept, writes) == (1, 0)
