"""Rows of FAULTS by their ids: process, storage, code. Others are beside what they are about."""

from __future__ import annotations

import pickle
import platform
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiosqlite
import ormsgpack
import pytest
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from openai_server import OpenAIServer

import drpo
from benchmarks.killing import BEFORE_THE_FIRST, POINTS
from benchmarks.memory import measure
from drpo.checkpoints import runs, store
from drpo.checkpoints.doctor import examine
from drpo.checkpoints.reader import status
from drpo.checkpoints.runs import create_run, load_run, owning, reading, run_paths
from drpo.checkpoints.store import RunStore, open_store
from drpo.graph.errors import BadInput, RunFailed, RunOwned
from drpo.models import providers
from drpo.models.provider import Call, Completion
from drpo.models.sandbox.provider import Sandbox

ROOT = Path(__file__).parents[1]
SHORT = ("search=greedy", "search.levels=2", "search.max_extension=0", "search.rewrites=2")
FREE: dict[str, Any] = {"most_recoveries": 3}


def new_calls(told: Any) -> int:
    return sum(count["new"] for count in told["calls"].values())


def changed(path: Path, sql: str, *values: Any) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(sql, values)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the short search comes to, uninterrupted."""
    return drpo.optimize_blocking(*SHORT, runs=tmp_path_factory.mktemp("whole")).summary


@pytest.mark.parametrize("point", [*POINTS, BEFORE_THE_FIRST])
def test_p1_p2_p3_a_kill_at_any_point_changes_nothing(
    point: str, whole: Any, tmp_path: Path
) -> None:
    """`kill -9` of itself, just before or after; resumed, it ends in the same tree."""
    command = [sys.executable, "-m", "benchmarks.killing", point, "1", "--", "optimize", *SHORT]
    words = [*command, "--runs", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    [path] = run_paths(tmp_path)
    assert status(path) == "paused"
    resumed = drpo.resume_blocking(runs=tmp_path).summary
    assert resumed["tree_sha256"] == whole["tree_sha256"]
    assert new_calls(resumed) == new_calls(whole)
    assert all(each.ok for each in examine(path))


def test_p6_memory_stays_flat() -> None:
    """Texts that pile up anywhere would cost tens of kilobytes a superstep."""
    assert measure(400).bytes_per_superstep < 8 * 1024


def dead_owner(folder: Path, **columns: Any) -> Path:
    """A run whose process died without a word."""
    path = create_run(folder, settings="{}", fingerprint={}, queries=[], version="test").path
    columns = {"owner_host": platform.node(), "owner_pid": 1, **columns}
    for name, value in columns.items():
        changed(path, f"update run set {name} = ?", value)
    return path


def test_p7_a_run_that_dies_again_and_again_is_failed(tmp_path: Path) -> None:
    """With the reason and what lets it go on; one answer in between counts from anew."""
    path = dead_owner(tmp_path)
    for _ in range(3):
        with owning(path, **FREE):
            pass
    with (
        pytest.raises(RunFailed, match=r"died 4 times.*storage\.recoveries=4"),
        owning(path, **FREE),
    ):
        pass
    assert status(path) == "failed"
    with pytest.raises(RunFailed, match="died 4 times"), owning(path, **FREE):
        pass
    with reading(path) as db:
        assert "died 4 times" in next(db["run"].rows)["reason"]
    with owning(path, most_recoveries=4):
        assert status(path) == "running"


def test_p7_progress_between_two_deaths_is_no_crash_loop(tmp_path: Path) -> None:
    """Nor is an orderly end."""
    path = dead_owner(tmp_path)
    for calls in range(10):
        with owning(path, **FREE):
            columns = "key, role, level, sample, n, provider, model, parameters, messages, texts"
            changed(
                path,
                f"insert into call ({columns}, finish_reasons, prompt_tokens, completion_tokens,"
                " tokens_estimated, finished_at, seconds)"
                " values (?, 'judge', 0, 0, 1, 'x', 'x', '{}', '[]', '[]', '[]', 0, 0, 0, '', 0)",
                str(calls),
            )
    changed(path, "update run set status = 'paused'")
    with owning(path, **FREE):
        assert next(iter(load_run(path).queries), None) is None


def test_p8_a_second_process_is_refused_by_name(tmp_path: Path) -> None:
    """Host and process, no call; a dead holder is taken over."""
    words = ["optimize", *SHORT, "models.judge.latency_ms=60000", "--runs", str(tmp_path)]
    with subprocess.Popen(
        [sys.executable, "-m", "drpo", *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as holder:
        assert holder.stderr is not None
        while b"level 0/" not in holder.stderr.readline():
            pass
        [path] = run_paths(tmp_path)
        named = f"process {holder.pid} on {platform.node()}"
        with pytest.raises(RunOwned, match=named):
            drpo.resume_blocking(runs=tmp_path)
        holder.kill()
    assert status(path) == "paused"
    with owning(path, **FREE):
        assert status(path) == "running"


def test_p8_an_owner_on_another_machine_is_believed_while_its_heart_beats(tmp_path: Path) -> None:
    """Its lock may not reach here, as on a network file system."""
    now = datetime.now(UTC)
    beating = dead_owner(tmp_path, owner_host="far", heartbeat_at=now.isoformat())
    with pytest.raises(RunOwned, match="process 1 on far"), owning(beating, **FREE):
        pass
    stopped = (now - timedelta(minutes=10)).isoformat()
    with owning(dead_owner(tmp_path, owner_host="far", heartbeat_at=stopped), **FREE):
        pass


async def test_p8_a_running_search_says_that_it_is_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Again and again, in its row."""
    beats: list[None] = []
    heartbeat = RunStore.heartbeat

    async def counted(self: RunStore, seconds: float) -> None:
        beats.append(None)
        await heartbeat(self, seconds)

    monkeypatch.setattr("drpo.run.HEARTBEAT_S", 0.001)
    monkeypatch.setattr(RunStore, "heartbeat", counted)
    await drpo.optimize(*SHORT, "models.judge.latency_ms=50", runs=tmp_path)
    assert len(beats) > 1


class Failing:
    """Storage whose k-th operation fails, like a full disk, and models that are counted."""

    def __init__(self, patch: pytest.MonkeyPatch, at: int) -> None:
        self.left = at
        self.calls_after = 0
        for kind, name in (
            (AsyncSqliteSaver, "aput"),
            (AsyncSqliteSaver, "aput_writes"),
            (aiosqlite.Connection, "executemany"),
        ):
            patch.setattr(kind, name, self._counted(getattr(kind, name)))
        failing = self

        class Counted(Sandbox):
            async def complete(self, call: Call) -> Completion:
                failing.calls_after += failing.left <= 0
                return await super().complete(call)

        patch.setattr(providers, "Sandbox", Counted)

    def _counted(self, method: Any) -> Any:
        def counted(*arguments: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                raise sqlite3.OperationalError("database or disk is full")
            return method(*arguments, **named)

        return counted


def test_s1_s2_whichever_write_fails_nothing_more_is_paid_and_nothing_is_lost(
    whole: Any, tmp_path: Path
) -> None:
    """For every k of a short run: it stops, says so, and is resumed to the same tree."""
    for k in range(1, 1000):
        folder = tmp_path / str(k)
        with pytest.MonkeyPatch.context() as patch:
            failing = Failing(patch, k)
            try:
                drpo.optimize_blocking(*SHORT, "concurrency=4", runs=folder)
            except RunFailed as error:
                assert "disk is full" in str(error)  # noqa: PT017 - the last k does not fail
        assert failing.calls_after == 0, k
        [path] = run_paths(folder)
        if failing.left > 0:
            break
        resumed = drpo.resume_blocking(runs=folder).summary
        assert resumed["tree_sha256"] == whole["tree_sha256"], k
        assert all(each.ok for each in examine(path)), k
    assert k > 30


async def test_s3_a_file_that_another_program_holds_is_waited_for_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thirty seconds; a short time here. Once it is free the run goes on."""
    assert runs.BUSY_TIMEOUT_S == 30
    with pytest.raises(drpo.BudgetReached):
        await drpo.optimize(*SHORT, "budget.calls=3", runs=tmp_path)
    [path] = run_paths(tmp_path)
    monkeypatch.setattr(runs, "BUSY_TIMEOUT_S", 0.05)
    monkeypatch.setattr("drpo.checkpoints.store.BUSY_TIMEOUT_S", 0.05)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("begin exclusive")
        with pytest.raises((RunFailed, BadInput), match=rf"{path.name}.*locked"):
            await drpo.resume(None, "budget.calls=null", runs=tmp_path)
    assert (await drpo.resume(None, "budget.calls=null", runs=tmp_path)).summary["status"] == "done"


async def test_s3_a_file_that_is_held_while_it_is_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of a run."""
    monkeypatch.setattr("drpo.checkpoints.store.BUSY_TIMEOUT_S", 0.05)
    run = create_run(tmp_path, settings="{}", fingerprint={}, queries=[], version="test")
    async with open_store(run.path) as opened:
        with closing(sqlite3.connect(run.path, isolation_level=None)) as other:
            other.execute("begin immediate")
            with pytest.raises(RunFailed, match=rf"{run.path.name}.*locked"):
                await opened.heartbeat(0.0)
            with pytest.raises(RunFailed):
                opened.ensure_healthy()


async def test_s4_the_log_is_bounded_and_a_long_reader_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It shrinks to its limit when the reader has gone."""
    monkeypatch.setattr(store, "WAL_LIMIT_BYTES", 100_000)
    run = create_run(tmp_path, settings="{}", fingerprint={}, queries=[], version="test")
    wal = Path(f"{run.path}-wal")
    async with open_store(run.path) as opened:

        async def fill(name: str) -> None:
            for number in range(40):
                await opened.write(store.add_text([f"{name} {number} " + "x" * 20_000]))

        with closing(sqlite3.connect(run.path)) as reader:
            reader.execute("begin")
            reader.execute("select count(*) from text").fetchone()
            await fill("first")
            assert wal.stat().st_size > 500_000
            assert "another program reads" in str(opened.swollen_log())
        await fill("second")
        await fill("third")
        assert wal.stat().st_size > 500_000
        await opened.saver.conn.execute_fetchall("pragma wal_checkpoint(restart)")
        await opened.heartbeat(0.0)
        assert wal.stat().st_size <= store.WAL_LIMIT_BYTES
        assert opened.swollen_log() is None


class Planted:
    """Would run code where a checkpoint is read carelessly."""

    built = 0

    def __init__(self) -> None:
        Planted.built += 1

    def __reduce__(self) -> Any:
        """As a pickle names it."""
        return (Planted, ())


@pytest.mark.parametrize("kind", ["pickle", "msgpack", "json"])
def test_c4_a_crafted_checkpoint_builds_nothing(kind: str, tmp_path: Path) -> None:
    """Neither a pickle, nor a constructor that is named in the data."""
    with pytest.raises(drpo.BudgetReached):
        drpo.optimize_blocking(*SHORT, "budget.calls=4", runs=tmp_path)
    [path] = run_paths(tmp_path)
    named = ormsgpack.packb([Planted.__module__, "Planted", []])
    blobs = {
        "pickle": pickle.dumps(Planted()),
        "msgpack": ormsgpack.packb({"channel_values": ormsgpack.Ext(0, named)}),
        "json": b'{"lc": 2, "type": "constructor", "id": ["test_faults", "Planted"], "kwargs": {}}',
    }
    Planted.built = 0
    changed(path, "update checkpoints set type = ?, checkpoint = ?", kind, blobs[kind])
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it is, it is no success
        drpo.resume_blocking(None, "budget.calls=null", runs=tmp_path)
    assert not Planted.built


async def test_c5_i7_no_key_is_in_any_file_log_or_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Not even one that a provider echoes, in a failure that is retried and in one that is not."""
    keys = ("sk-planted-000111222", "plainkey998877")
    for key in keys:
        monkeypatch.setenv("OPENAI_API_KEY", key)
        async with OpenAIServer() as server:
            words = ["models=openai", *SHORT, "models.judge.attempts=2"]
            words.append(f"openai.base_url={server.base_url}")
            server.fail_next(status=500, message=f"bad header Bearer {key}")
            server.fail_next(status=400, role="judge", message=f"no such key {key}", times=9)
            with pytest.raises(drpo.DrpoError) as raised:
                await drpo.optimize(*words, runs=tmp_path)
        assert key not in str(raised.value)
    said = capfdbinary.readouterr()
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) >= 2
    for text in (*written, said.out, said.err):
        assert not any(key.encode() in text for key in keys)


@pytest.mark.parametrize(
    "setting",
    [
        "openai.base_url=http://user:sk-planted-0001@127.0.0.1:1/v1",
        "'openai.base_url=\"http://127.0.0.1:1/v1?key=sk-planted-0001\"'",
        "openai.api_key_env=sk-planted-0001",
        "models.judge.api_key_env=sk-planted-0001",
    ],
)
async def test_i7_a_key_in_the_settings_is_refused_and_not_repeated(
    setting: str, tmp_path: Path
) -> None:
    """They are stored with the run; only the name of a variable may be."""
    with pytest.raises(BadInput) as raised:
        await drpo.optimize("models=openai", *SHORT, setting.strip("'"), runs=tmp_path)
    assert "planted" not in str(raised.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("$._target_", "os.system"),
        ("$.models.judge._target_", "os.system"),
        ("$.models.judge.provider", "os.system"),
        ("$.prompts.folder", "planted"),
    ],
)
def test_i5_a_file_that_names_code_runs_none(name: str, value: str, tmp_path: Path) -> None:
    """A class is refused, and so are templates that the run did not begin with."""
    with pytest.raises(drpo.BudgetReached):
        drpo.optimize_blocking(*SHORT, "budget.calls=4", runs=tmp_path)
    folder = tmp_path / "planted"
    folder.mkdir()
    (folder / "target_chat.jinja").write_text(
        "{% block system %}{{ ''.__class__.__mro__ }}{% endblock %}"
        "{% block example_user %}{% endblock %}{% block example_assistant %}{% endblock %}"
    )
    [path] = run_paths(tmp_path)
    planted = str(folder) if value == "planted" else value
    changed(path, "update run set settings = json_set(settings, ?, ?)", name, planted)
    with pytest.raises(BadInput):
        drpo.resume_blocking(None, "budget.calls=null", runs=tmp_path)
