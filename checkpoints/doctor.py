"""Looks for damage in a run's file: what is broken, where, and what to do (FAULTS S5-S8).

Reads only. Knows the tables, and not what a search makes of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from pydantic import ValidationError
from sqlite_utils import Database

from drpo.checkpoints.rows import (
    SEE_DOCTOR,
    UNREADABLE,
    query_of,
    selection_of,
    sha256,
    verdict_of,
)
from drpo.checkpoints.runs import is_file, is_owned, reading
from drpo.conf.older import up_to_date
from drpo.conf.schema import Settings
from drpo.graph.errors import BadInput, RunFailed

NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "afpfs", "9p", "fuse.sshfs", "lustre"})
"""File systems on which SQLite's locks are not to be relied on."""
MOST_NAMED = 5
TABLES = (
    *("run", "query", "call", "attempt", "selection", "candidate", "rewrite", "sample"),
    *("verdict", "decision", "text", "left_out", "example", "embedding"),
)
OBJECTS = ("settings", "fingerprint", "start", "estimate", "prompts", "parameters")
"""Columns that hold a JSON object; the others hold lists."""
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
NO_VECTOR = "length(vector) = 0 or length(vector) % 4"
"""Of numbers of four bytes."""


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
    if not is_file(path):
        return found
    if found[0].ok:
        found += [_looked(path, what, look) for what, look in _LOOKS]
    return [*found, _log(path), _file_system(path)]


Problems = tuple[list[str], str]
"""What is wrong, each in a line, and what was looked at."""


def _looked(path: Path, what: str, look: Callable[[Database], Problems]) -> Finding:
    try:
        with reading(path) as db:
            return _told(what, look(db))
    except (BadInput, RunFailed) as error:
        return Finding(what, str(error).removesuffix(SEE_DOCTOR), ok=False)


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
        said = str(error).removesuffix(SEE_DOCTOR)
        return Finding("file", f"{said}; a copy of it, if there is one, is the way back", ok=False)
    return Finding("file", f"run {row['id']}, made by drpo {row['drpo_version']}")


def _integrity(db: Database) -> Problems:
    rows = [row[0] for row in db.execute("pragma integrity_check(20)").fetchall()]
    return ([] if rows == ["ok"] else rows, "SQLite finds every page in order")


def _references(db: Database) -> Problems:
    rows = db.execute("pragma foreign_key_check").fetchall()
    lost = [f"{table} row {row} has no {parent}" for table, row, parent, _ in rows]
    circles = db.query("select id, parent from candidate where parent >= id")
    lost += [f"candidate {row['id']} cannot come from {row['parent']}" for row in circles]
    return lost, "all rows meet"


def _values(db: Database) -> Problems:
    """Every text that has to be UTF-8 or JSON, and the settings."""
    problems = _not_utf8(db)
    if problems:
        return problems, ""
    for table, columns in JSON_COLUMNS.items():
        # A file of an older version lacks some.
        for column in (each for each in columns if each in db[table].columns_dict):
            kind = "object" if column in OBJECTS else "array"
            sound = f"iif(json_valid({column}), json_type({column}) = '{kind}', 0)"
            count = db[table].count_where(f"{column} is not null and not {sound}")
            problems += [f"{count} rows of {table} have a broken {column}"] if count else []
    if "embedding" in db.table_names():
        count = db["embedding"].count_where(f"typeof(vector) != 'blob' or {NO_VECTOR}")
        problems += [f"{count} rows of embedding have a broken vector"] if count else []
    if not problems:
        problems = _settings(db)
        _read_back(db)
    return problems, "every value can be read"


def _not_utf8(db: Database) -> list[str]:
    """Columns that have texts which Python cannot read."""
    tables = [table for table in TABLES if table in db.table_names()]
    db.conn.text_factory = bytes
    problems = []
    for table in tables:
        columns = [name.decode() for _, name, *_ in db.execute(f"pragma table_info({table})")]
        for column in columns:
            texts = db.execute(f"select {column} from {table} where typeof({column}) = 'text'")
            count = sum(not _is_utf8(text) for (text,) in texts)
            problems += [f"{count} rows of {table} have a {column} not in UTF-8"] if count else []
    db.conn.text_factory = str
    return problems


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _read_back(db: Database) -> None:
    """Raises one of UNREADABLE where a search could not."""
    for row in db["query"].rows:
        query_of(row)
    for row in db["selection"].rows:
        selection_of(row["aspects"], row["reason"], row["notes"])
    for row in db["verdict"].rows:
        verdict_of(row["scores"], row["unscored"], row["notes"])


def _settings(db: Database) -> list[str]:
    [row] = db.query("select settings from run")
    try:
        Settings.model_validate(up_to_date(json.loads(row["settings"])))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        why = "they are damaged, or another version of drpo made them"
        return [f"settings: {place}: {first['msg']}: {why}"]
    except UNREADABLE as error:
        return [f"the settings are damaged: {type(error).__name__}: {error}"]
    return []


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
    if _expects_log(path) and not is_owned(path):
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
