"""The runs of a folder: one file each. Made, found, owned, and held against what made them.

The run's row is committed before anything slow, so that a run killed before its first checkpoint
can start again from its stored settings.
"""

from __future__ import annotations

import os
import platform
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from sqlite_utils import Database

from drpo.checkpoints.facts import ensure_met
from drpo.checkpoints.rows import (
    EXAMPLES,
    UNREADABLE,
    SoundRow,
    dumps,
    example_rows,
    now,
    query_of,
    query_row,
    said_of,
    see_doctor,
    value_of,
)
from drpo.checkpoints.schema import migrations
from drpo.graph.errors import BadInput, RunFailed, RunOwned
from drpo.graph.state import SearchState
from drpo.graph.values import Example, Kind, Query

BUSY_TIMEOUT_S = 30
"""How long a file that another program holds is waited for."""
LOOKING_S = 0.3
"""Longer than anybody holds a lock who only looks."""
HEARTBEAT_S = 10.0
HEARTBEATS_MISSED = 6
"""After so many an owner on another machine counts as dead."""

END = ".sqlite"
Fingerprint = Mapping[str, Any]
"""What a run relies on, by part: node names, edges, state keys, template hashes."""


@dataclass(frozen=True, slots=True)
class StoredRun:
    """What it takes to go on with a run."""

    id: str
    path: Path
    settings: str
    """JSON of `Settings`."""
    fingerprint: Fingerprint
    queries: tuple[Query, ...]
    start: SearchState | None = None
    """The state that a fork begins with; None for the beginning of a search."""
    examples: tuple[Example, ...] = ()
    """That the target may be shown, as the user gave them."""
    kind: Kind = "search"


def create_run(
    folder: Path,
    *,
    settings: str,
    fingerprint: Fingerprint,
    queries: Sequence[Query],
    version: str,
    estimate: Mapping[str, Any] | None = None,
    examples: Sequence[Example] = (),
    kind: Kind = "search",
) -> StoredRun:
    """A new run's file with everything the search needs, readable by its owner alone.

    Raises BadInput when the folder cannot be written.
    """
    run_id = str(uuid.uuid4())
    path = folder / f"{run_id}{END}"
    # Nobody takes it for a run before it is one.
    unfinished = path.with_suffix(".new")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        unfinished.touch(mode=0o600, exist_ok=False)
        with open_database(sqlite3.connect(unfinished)) as db:
            migrations.apply(db)
            with db.conn:
                db.conn.execute(
                    "insert into run (id, status, created_at, updated_at, settings, fingerprint,"
                    " drpo_version, estimate, kind) values (?, 'running', ?, ?, ?, ?, ?, ?, ?)",
                    (
                        run_id,
                        now(),
                        now(),
                        settings,
                        dumps(fingerprint),
                        version,
                        None if estimate is None else dumps(estimate),
                        kind,
                    ),
                )
                db.conn.executemany(
                    "insert into query values (?, ?, ?, ?, ?, ?, ?)",
                    [query_row(query) for query in queries],
                )
                texts, rows = example_rows(examples)
                db.conn.executemany("insert or ignore into text values (?, ?)", texts)
                db.conn.executemany("insert into example values (?, ?, ?, null)", rows)
        unfinished.rename(path)
    except (OSError, sqlite3.Error) as error:
        with suppress(OSError):
            unfinished.unlink()
        raise BadInput(f"cannot make a run in {str(folder)!r}: {error}") from None
    return StoredRun(
        run_id,
        path,
        settings,
        fingerprint,
        tuple(queries),
        examples=tuple(examples),
        kind=kind,
    )


def load_run(path: Path) -> StoredRun:
    """A run as it was stored. Raises BadInput for a file that is none."""
    with reading(path) as db:
        row = next(db.query("select * from run"))
        queries = tuple(query_of(each) for each in db.query("select * from query order by ordinal"))
        start = row.get("start")
        examples = tuple(stored_examples(db))
        return StoredRun(
            row["id"],
            path,
            row["settings"],
            value_of(row, "fingerprint"),
            queries,
            start and value_of(row, "start"),
            examples,
            row.get("kind", "search"),
        )


def stored_examples(db: Database) -> Iterator[Example]:
    """Of a run, in order; a file of an older version has none."""
    if "example" in db.table_names():
        ensure_met(db, "example")
        for row in db.query(EXAMPLES):
            yield Example(row["query"], row["answer"])


def find_run(
    folder: Path, prefix: str | None, *, say: Callable[[str], None] = lambda _: None
) -> Path:
    """The one run whose id begins with `prefix`, or the newest. Raises BadInput.

    `say` is told of files beside the newest run that are newer and cannot be read.
    """
    files = run_files(folder, prefix or "")
    found = files.runs
    if not found and files.unreadable:
        raise BadInput(next(iter(files.unreadable.values())))
    if not found and (not prefix or not run_paths(folder)):
        raise BadInput(f"there are no runs in {str(folder)!r}; `drpo optimize` makes one")
    if prefix is None:
        for said in files.newer_than(found[-1]):
            say(f"{said}; taking the older run {found[-1].stem[:8]}")
        return found[-1]
    if len(found) == 1:
        return found[0]
    if not found:
        raise BadInput(f"no run in {str(folder)!r} begins with {prefix!r}; see `drpo runs`")
    names = ", ".join(path.stem[: len(prefix) + 4] for path in found[:4])
    raise BadInput(f"{prefix!r} is not unique in {str(folder)!r}: {names}")


def find_file(folder: Path, prefix: str | None) -> Path:
    """As `find_run`, but also a file that cannot be read as a run, or a path to one."""
    if prefix is not None:
        paths = _files(folder, prefix)
        if len(paths) == 1:
            return paths[0]
        if is_file(Path(prefix)):
            return Path(prefix)
    return find_run(folder, prefix)


def is_file(path: Path) -> bool:
    """Also for a name that no file can have; what is a pipe or leads round in a circle is none."""
    try:
        return path.is_file()
    except OSError:
        return False


def _files(folder: Path, prefix: str) -> list[Path]:
    try:
        names = sorted(path.name for path in folder.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BadInput(f"cannot look into {str(folder)!r}: {error.strerror}") from None
    return [folder / name for name in names if name.endswith(END) and name.startswith(prefix)]


@dataclass(frozen=True, slots=True)
class RunFiles:
    """What a folder has in files that are called like runs."""

    runs: Sequence[Path]
    """Oldest first."""
    unreadable: Mapping[Path, str]
    """The others, and what is wrong with each."""

    def newer_than(self, run: Path) -> list[str]:
        """Of what is wrong with the unreadable ones, those written to after this run was."""
        since = _written(run)
        return [said for path, said in self.unreadable.items() if _written(path) > since]


def _written(path: Path) -> float:
    """When, in seconds; never, where nobody knows."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def run_files(folder: Path, prefix: str = "") -> RunFiles:
    """The files in a folder that are called like runs whose ids begin so.

    Raises BadInput for what is no folder, or cannot be looked into.
    """
    made: dict[Path, str] = {}
    unreadable: dict[Path, str] = {}
    for path in _files(folder, prefix):
        try:
            with reading(path) as db:
                made[path] = str(next(db.query("select created_at from run"))["created_at"])
        except BadInput as error:
            unreadable[path] = str(error)
    return RunFiles(sorted(made, key=lambda path: made[path]), unreadable)


def run_paths(folder: Path, prefix: str = "") -> Sequence[Path]:
    """The files of the runs in a folder whose ids begin so, oldest first; others are left out."""
    return run_files(folder, prefix).runs


def readings_beside(run: Path, reused: Path | None = None) -> int:
    """How many other runs have read some of its queries of `confirm`.

    Of its folder, and the one whose answers it reuses. A file that cannot be read does not count.
    """
    with reading(run) as db:
        mine = _confirm_queries(db)
    paths = {path.resolve() for path in (*run_paths(run.parent), reused) if path is not None}
    count = 0
    for path in paths - {run.resolve()}:
        with suppress(BadInput), reading(path) as db:
            if "reading" in db.table_names() and db["reading"].count:
                count += not mine.isdisjoint(_confirm_queries(db))
    return count


def _confirm_queries(db: Database) -> set[str]:
    return {
        row["messages"] for row in db.query("select messages from query where part = 'confirm'")
    }


def remove_run(path: Path) -> None:
    """Take a run's file away, with its log and whatever SQLite has beside it.

    Raises RunOwned where a process runs it, RunFailed where it cannot be.
    """
    lock = _lock(path)
    try:
        lock.acquire(timeout=LOOKING_S, poll_interval=LOOKING_S / 10)
        ends = ("-wal", "-shm", "-journal")
        for beside in (path, *(path.with_name(path.name + end) for end in ends)):
            beside.unlink(missing_ok=True)
        for log in log_files(path):
            # Whatever a person put in its place is not the run's.
            with suppress(OSError):
                log.unlink(missing_ok=True)
    except Timeout:
        raise RunOwned(f"run {path.stem} is being run; stop it first") from None
    except OSError as error:
        raise RunFailed(f"cannot delete {path}: {error.strerror}") from None
    finally:
        if lock.is_locked:
            _give_up(lock)


def log_files(path: Path) -> tuple[Path, Path]:
    """What happened to the run of this file: the newer lines, and older ones if there are many."""
    newer = path.with_suffix(".log")
    return newer, newer.with_name(f"{newer.name}.1")


def before_session(path: Path) -> dict[str, Any]:
    """The run's row as its last session left it; `calls` is 0 where there was none."""
    with reading(path) as db:
        return next(db.query("select *, (select count(*) from call) as calls from run"))


@contextmanager
def reading(path: Path) -> Iterator[Database]:
    """A run's file, to look at.

    Raises BadInput when it is no run of ours or damaged, also for what the caller cannot read of
    it, and RunFailed when another program holds it.
    """
    if not is_file(path):
        raise BadInput(f"there is no file {str(path)!r}")
    try:
        with open_database(
            sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S)
        ) as db:
            db.conn.row_factory = SoundRow
            # One view of the file, however far its run goes on meanwhile.
            db.conn.execute("begin")
            if "run" not in db.table_names() or not db["run"].count:
                raise BadInput(f"{str(path)!r} is no run of drpo")
            yield db
    except sqlite3.Error as error:
        if is_busy(error):
            raise RunFailed(f"cannot read {path}: {error} by another program") from None
        raise BadInput(f"cannot read {str(path)!r}: {error}{see_doctor(path)}") from error
    except UNREADABLE as error:
        raise BadInput(f"{str(path)!r} is damaged: {said_of(error)}{see_doctor(path)}") from error


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another program holds the file; any other error of a read is damage."""
    # Python's own errors, as of a text that is not UTF-8, have no code.
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY


@contextmanager
def owning(path: Path, *, most_recoveries: int, settings: str | None = None) -> Iterator[None]:
    """Be the only process that runs this run, from now on by these settings.

    A run whose owner died is taken over. Raises RunOwned naming the process that runs it, and
    RunFailed after more than `most_recoveries` take-overs between which no call was answered
    (FAULTS P7, P8).
    """
    lock = _lock(path)
    try:
        # Whoever only asks whether the run is owned holds it for a moment, too.
        lock.acquire(timeout=LOOKING_S, poll_interval=LOOKING_S / 10)
    except Timeout:
        with reading(path) as db:
            raise _owned(path, next(db["run"].rows)) from None
    except OSError as error:
        raise RunFailed(f"cannot write {lock.lock_file}: {error.strerror}") from None
    try:
        with _writing(path) as db:
            migrations.apply(db)
            _take_over(path, db, most_recoveries, settings)
        yield
    finally:
        _give_up(lock)


@contextmanager
def _writing(path: Path) -> Iterator[Database]:
    """Raises RunFailed, naming the file, when it is locked for too long or cannot be written."""
    try:
        with open_database(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)) as db:
            try:
                yield db
            finally:
                # The log of a run that was killed is in the file now, and nobody shall miss it.
                with suppress(sqlite3.OperationalError):
                    db.conn.execute("pragma journal_mode = delete")
    except sqlite3.Error as error:
        raise RunFailed(f"cannot write {path}: {error}") from None


def _take_over(path: Path, db: Database, most: int, settings: str | None) -> None:
    row, calls = next(db["run"].rows), db["call"].count
    died = row["status"] == "running" and row["owner_pid"] is not None
    if died and row["owner_host"] != platform.node() and _beats(row["heartbeat_at"]):
        raise _owned(path, row)
    again = row["recoveries"] if calls == row["recovered_at"] else 0
    recoveries = again + died if died or row["status"] == "failed" else 0
    reason = f"it died {recoveries} times in a row without an answer in between"
    with db.conn:
        if recoveries > most:
            db.conn.execute(
                "update run set status = 'failed', reason = ?, recoveries = ?", (reason, recoveries)
            )
        else:
            db.conn.execute(
                "update run set owner_host = ?, owner_pid = ?, heartbeat_at = ?,"
                " status = 'running', reason = null, recoveries = ?, recovered_at = ?,"
                " settings = coalesce(?, settings)",
                (platform.node(), os.getpid(), now(), recoveries, calls, settings),
            )
    if recoveries > most:
        raise RunFailed(
            f"run {row['id']}: {reason}; once that is mended, storage.recoveries={recoveries} "
            "lets it go on"
        )


def _owned(path: Path, row: Mapping[str, Any]) -> RunOwned:
    owner = f"process {row['owner_pid']} on {row['owner_host']}"
    return RunOwned(f"run {path.stem} is being run by {owner}")


def _beats(heartbeat_at: str | None) -> bool:
    """Whether an owner on another machine, whose lock may not reach here, was alive just now."""
    if heartbeat_at is None:
        return False
    age = datetime.now(UTC) - datetime.fromisoformat(heartbeat_at)
    return age.total_seconds() < HEARTBEATS_MISSED * HEARTBEAT_S


def is_owned(path: Path) -> bool:
    """Whether a process runs this run now."""
    lock = _lock(path)
    if not Path(lock.lock_file).exists():
        return False
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:
        # Somebody else's, or in a folder that may only be read.
        with reading(path) as db:
            return _beats(next(db["run"].rows).get("heartbeat_at"))
    _give_up(lock)
    return False


def hold_against(run: StoredRun, current: Fingerprint) -> None:
    """Raises BadInput naming the first part in which the program changed since the run began."""
    for part in sorted({*run.fingerprint, *current}):
        before, after = run.fingerprint.get(part), current.get(part)
        if part == "templates" and isinstance(before, Mapping) and isinstance(after, Mapping):
            # One that came with a newer program was not there to be used.
            after = {name: value for name, value in after.items() if name in before}
        if before != after:
            raise BadInput(
                f"run {run.id} cannot be resumed: the {part} changed since it began "
                f"({_difference(before, after)}); `drpo fork {run.id[:8]}` goes on in a copy"
            )


def _difference(before: Any, after: Any) -> str:
    """What is in only one of two lists, or differs between two mappings."""
    if isinstance(before, dict) and isinstance(after, dict):
        names = [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
        return ", ".join(names)
    gone = [f"without {name}" for name in before or () if name not in (after or ())]
    new = [f"with {name}" for name in after or () if name not in (before or ())]
    return ", ".join(gone + new)


def _lock(path: Path) -> FileLock:
    # One lock, by whatever name the file is called.
    return FileLock(path.resolve().with_suffix(".lock"))


def _give_up(lock: FileLock) -> None:
    # Unlinked while it is held: filelock notices when it gets hold of a file that is gone.
    with suppress(OSError):
        Path(lock.lock_file).unlink()
    lock.release()


@contextmanager
def open_database(connection: sqlite3.Connection) -> Iterator[Database]:
    """By sqlite-utils, closed in the end; nothing in the file's schema is trusted."""
    with closing(connection):
        connection.execute("pragma trusted_schema = off")
        yield Database(connection)
