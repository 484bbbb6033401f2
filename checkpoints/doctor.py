"""Looks for damage in a run's file: what is broken, where, and what to do (FAULTS S5-S8).

Reads only. Knows the tables, and not what a search makes of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from pydantic import ValidationError
from sqlite_utils import Database

from drpo.checkpoints.facts import unmet
from drpo.checkpoints.rows import (
    UNREADABLE,
    Damaged,
    flaws_of,
    hashes_of,
    loads,
    said_of,
    see_doctor,
    sha256,
    value_of,
)
from drpo.checkpoints.runs import is_file, is_owned, reading
from drpo.conf.older import up_to_date
from drpo.conf.schema import Settings
from drpo.graph.errors import BadInput, RunFailed, problem_of

NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "afpfs", "9p", "fuse.sshfs", "lustre"})
"""File systems on which SQLite's locks are not to be relied on."""
MOST_NAMED = 5
TABLES = (
    *("run", "query", "call", "attempt", "selection", "candidate", "rewrite", "sample"),
    *("verdict", "decision", "text", "left_out", "search", "example", "embedding", "arm"),
    *("reading", "finding"),
)
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
            # Damage is looked for, and no reason to stop.
            db.conn.row_factory = None
            return _told(what, look(db))
    except (BadInput, RunFailed) as error:
        return Finding(what, str(error).removesuffix(see_doctor(path)), ok=False)


def _told(what: str, looked: Problems) -> Finding:
    problems, seen = looked
    if not problems:
        return Finding(what, seen)
    more = f", and {len(problems) - MOST_NAMED} more" if len(problems) > MOST_NAMED else ""
    return Finding(what, "; ".join(problems[:MOST_NAMED]) + more, ok=False)


def _opened(path: Path) -> Finding:
    try:
        with reading(path) as db:
            row = next(db.query("select id, drpo_version from run"))
    except (BadInput, RunFailed) as error:
        said = str(error).removesuffix(see_doctor(path))
        return Finding("file", f"{said}; a copy of it, if there is one, is the way back", ok=False)
    return Finding("file", f"run {row['id']}, made by drpo {row['drpo_version']}")


def _integrity(db: Database) -> Problems:
    rows = [row[0] for row in db.execute("pragma integrity_check(20)").fetchall()]
    return ([] if rows == ["ok"] else rows, "SQLite finds every page in order")


def _references(db: Database) -> Problems:
    return list(unmet(db, TABLES)), "all rows meet"


def _values(db: Database) -> Problems:
    """Every value against what its column holds, and the settings."""
    problems = _not_utf8(db)
    if not problems:
        for table in (each for each in TABLES if each in db.table_names()):
            problems += [f"{table}: {flaw}" for row in db[table].rows for flaw in flaws_of(row)]
    if not problems:
        problems = _settings(db)
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


def _settings(db: Database) -> list[str]:
    [row] = db.query("select settings from run")
    try:
        Settings.model_validate(up_to_date(loads(row["settings"])))
    except ValidationError as error:
        why = "they are damaged, or another version of drpo made them"
        return [f"settings: {problem_of(error)}: {why}"]
    except UNREADABLE as error:
        return [f"the settings are damaged: {said_of(error)}"]
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
    """Hashes that rows refer to, as far as they can be read: `values` names the others."""
    for row in db.query("select text from sample"):
        yield row["text"]
    for table in ("candidate", "rewrite"):
        for row in db.query(f"select prompts from {table} where prompts is not null"):
            with suppress(Damaged):
                yield from hashes_of(row).values()
    for row in db["call"].rows:
        for column in (each for each in ("messages", "texts", "thinking") if each in row):
            with suppress(Damaged):
                said = value_of(row, column)
                yield from (name for _, name in said) if column == "messages" else said


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
