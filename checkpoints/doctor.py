"""Looks for damage in a run's file: what is broken, where, and what to do (FAULTS S5-S8).

Reads only. Knows the tables, and not what a search makes of them.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from sqlite_utils import Database

from drpo.checkpoints.rows import sha256
from drpo.checkpoints.runs import is_owned, reading
from drpo.graph.errors import BadInput, RunFailed

NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "afpfs", "9p", "fuse.sshfs", "lustre"})
"""File systems on which SQLite's locks are not to be relied on."""
MOST_NAMED = 5
UNREADABLE = (ValueError, TypeError, AttributeError, KeyError)
"""What values of an unknown shape raise."""
JSON_COLUMNS = {
    "run": ("settings", "fingerprint", "start", "estimate"),
    "query": ("messages", "tags"),
    "selection": ("aspects", "notes"),
    "candidate": ("prompts",),
    "rewrite": ("prompts",),
    "verdict": ("scores", "notes"),
    "call": ("parameters", "messages", "texts", "finish_reasons", "thinking"),
}
WAL_HEADER = 32


@dataclass(frozen=True, slots=True)
class Finding:
    """One look at a run's file."""

    what: str
    said: str
    """What is wrong and what to do; or what was looked at."""
    ok: bool = True


def examine(path: Path) -> list[Finding]:
    """Everything that can be known of one run's file without running it."""
    found = [_opened(path)]
    if found[0].ok:
        for what, look in _LOOKS:
            try:
                with reading(path) as db:
                    found.append(_told(what, look(db)))
            except (BadInput, RunFailed, sqlite3.Error, *UNREADABLE) as error:
                found.append(Finding(what, f"cannot be read: {error}", ok=False))
    return [*found, _log(path), _file_system(path)]


Problems = tuple[list[str], str]
"""What is wrong, each in a line, and what was looked at."""


def _told(what: str, looked: Problems) -> Finding:
    problems, seen = looked
    if not problems:
        return Finding(what, seen)
    more = f", and {len(problems) - MOST_NAMED} more" if len(problems) > MOST_NAMED else ""
    return Finding(what, "; ".join(problems[:MOST_NAMED]) + more, ok=False)


def _opened(path: Path) -> Finding:
    try:
        with reading(path) as db:
            row = next(db["run"].rows)
    except (BadInput, RunFailed) as error:
        return Finding("file", f"{error}; a copy of it, if there is one, is the way back", ok=False)
    return Finding("file", f"run {row['id']}, made by drpo {row['drpo_version']}")


def _integrity(db: Database) -> Problems:
    rows = [row[0] for row in db.execute("pragma integrity_check(20)").fetchall()]
    return ([] if rows == ["ok"] else rows, "SQLite finds every page in order")


def _references(db: Database) -> Problems:
    rows = db.execute("pragma foreign_key_check").fetchall()
    return (
        [f"{table} row {row} has no {parent}" for table, row, parent, _ in rows],
        "all rows meet",
    )


def _values(db: Database) -> Problems:
    """Every column that holds JSON."""
    problems = []
    for table, columns in JSON_COLUMNS.items():
        # A file of an older version lacks some.
        for column in (each for each in columns if each in db[table].columns_dict):
            count = db[table].count_where(f"{column} is not null and not json_valid({column})")
            problems += [f"{count} rows of {table} have a broken {column}"] if count else []
    return problems, "every value can be read"


def _texts(db: Database) -> Problems:
    """Every text against its hash, and every hash that is referred to against the texts."""
    bodies: Mapping[str, Any] = {row["sha256"]: row["body"] for row in db["text"].rows}
    changed = [
        f"text {name[:12]} is not what was stored"
        for name, body in bodies.items()
        if not isinstance(body, str) or sha256(body) != name
    ]
    missing = {name for name in _named(db) if name not in bodies}
    return (
        changed + [f"text {name[:12]} is missing" for name in sorted(missing)],
        f"{len(bodies)} texts are what was stored",
    )


def _named(db: Database) -> Iterator[str]:
    for table in ("candidate", "rewrite"):
        for row in db.query(f"select prompts from {table} where prompts is not null"):
            yield from json.loads(row["prompts"]).values()
    for row in db.query("select text from sample"):
        yield row["text"]
    for row in db["call"].rows:
        yield from (name for _, name in json.loads(row["messages"]))
        yield from json.loads(row["texts"])
        yield from json.loads(row.get("thinking", "[]"))


def _checkpoints(db: Database) -> Problems:
    """Each is decoded as LangGraph would, by the types that are allowed."""
    if "checkpoints" not in db.table_names():
        return [], "no checkpoint was written yet"
    serializer = JsonPlusSerializer(allowed_msgpack_modules=[])
    problems, count = [], 0
    stored = "select checkpoint_id as id, type, {} as body from {}"
    for table, column in (("checkpoints", "checkpoint"), ("writes", "value")):
        for row in db.query(stored.format(column, table)):
            count += 1
            try:
                serializer.loads_typed((row["type"], row["body"]))
            # Whatever a decoder may raise on bytes that nobody knows.
            except Exception as error:  # noqa: BLE001 - see above
                problems.append(f"{table} {row['id']} cannot be decoded: {error}")
    return problems, f"{count} checkpoints and writes can be decoded"


_LOOKS: tuple[tuple[str, Callable[[Database], Problems]], ...] = (
    ("integrity", _integrity),
    ("references", _references),
    ("values", _values),
    ("texts", _texts),
    ("checkpoints", _checkpoints),
)


def _log(path: Path) -> Finding:
    """A run that is written to, or was killed, has its last commits in a file beside it."""
    path = path.resolve()
    wal = path.with_name(f"{path.name}-wal")
    if wal.is_file() and wal.stat().st_size > WAL_HEADER:
        size = f"{wal.stat().st_size // 1024:,} KB"
        return Finding("log", f"{size} of commits are in {wal.name}; a copy needs both files")
    if _expects_log(path) and not wal.exists() and not is_owned(path):
        said = (
            f"{wal.name} is missing: the file was copied while its run was going, without it; "
            "commits may be lost. Copy both, or make the copy by `drpo fork`"
        )
        return Finding("log", said, ok=False)
    return Finding("log", "all commits are in the file")


def _expects_log(path: Path) -> bool:
    """The header says so, bytes 18 and 19; a run at rest has them changed back."""
    try:
        with path.open("rb") as file:
            return file.read(20)[18:20] == b"\x02\x02"
    except OSError:
        return False


def _file_system(path: Path) -> Finding:
    kind = file_system(path)
    if kind in NETWORK:
        said = f"{kind} is a network file system, whose locks cannot be relied on: move the runs"
        return Finding("file system", said, ok=False)
    return Finding("file system", kind or "unknown")


def file_system(path: Path) -> str:
    """The kind of file system that holds a file; empty where nobody knows."""
    where = path.resolve()
    mounts = {Path(each.mountpoint): each.fstype for each in psutil.disk_partitions(all=True)}
    return next((mounts[each] for each in (where, *where.parents) if each in mounts), "")
