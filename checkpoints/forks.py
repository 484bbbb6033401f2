"""Forks: a copy of a run's file under a new id, taken back to the beginning of one of its levels.

What led there is kept, what came after is gone, and every answer stays in the ledger as inherited:
an unchanged question costs nothing. The fork's search begins with the admission of that level.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from drpo.checkpoints.rows import dumps, now, sha256
from drpo.checkpoints.runs import (
    BUSY_TIMEOUT_S,
    Fingerprint,
    StoredRun,
    load_run,
    open_database,
)
from drpo.checkpoints.schema import migrations
from drpo.graph.errors import BadInput
from drpo.graph.values import ROOT


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """Where a fork begins."""

    level: int
    candidate: int | None = None
    """The only one of its level that the fork goes on with; None for all."""
    prompts: Mapping[str, str] | None = None
    """A person's prompts in that candidate's place."""
    author: str = ""
    """Who wrote them."""


def copy_database(source: Path, target: Path) -> None:
    """One whole and compact file of a run, also of a running one (FAULTS S5).

    Raises BadInput where it cannot be made.
    """
    try:
        target.touch(mode=0o600, exist_ok=False)
        uri = f"{source.resolve().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S)) as connection:
            connection.execute("vacuum into ?", (str(target),))
    except (OSError, sqlite3.Error) as error:
        with suppress(OSError):
            target.unlink()
        raise BadInput(f"cannot copy {str(source)!r} to {str(target)!r}: {error}") from None


def fork_run(
    source: StoredRun,
    place: Beginning | None,
    *,
    settings: str,
    level_limit: tuple[int, int],
    fingerprint: Fingerprint,
    version: str,
    folder: Path | None = None,
) -> StoredRun:
    """A fork in its own file, in the folder of its parent; without a place, of the beginning.

    `level_limit` has the levels of the search and the most that skips may add. Raises BadInput.
    """
    run_id = str(uuid.uuid4())
    path = (folder or source.path.parent) / f"{run_id}.sqlite"
    # Nobody takes it for a run before it is one.
    unfinished = path.with_suffix(".fork")
    copy_database(source.path, unfinished)
    try:
        with open_database(sqlite3.connect(unfinished)) as db:
            migrations.apply(db)
            with db.conn:
                start = None if place is None else _take_back(db, place, level_limit)
                if place is None:
                    _forget(db, 0, 0)
                _ask_anew(db, source.settings, settings)
                _rename(db, source.id, run_id, settings, fingerprint, version, start)
            db.conn.execute("vacuum")
        unfinished.rename(path)
    except (sqlite3.Error, OSError) as error:
        raise BadInput(f"cannot fork {str(source.path)!r}: {error}") from None
    finally:
        unfinished.unlink(missing_ok=True)
    return load_run(path)


def _take_back(db: Database, place: Beginning, level_limit: tuple[int, int]) -> dict[str, Any]:
    """To the admission of the place's level; the state that it begins with."""
    level = place.level
    rows = list(db.query("select * from candidate where level = ? order by id", [level]))
    if not rows:
        raise BadInput(f"there is no level {level} to go back to")
    limit = _limit(db, level, *level_limit)
    if limit <= level:
        raise BadInput(
            f"search.levels={level_limit[0]}: the fork begins at level {level}; allowed are "
            f"{level_limit[0] + level + 1 - limit} and more, or an earlier --level"
        )
    first = rows[0]["id"]
    if place.candidate is not None:
        [chosen] = [row for row in rows if row["id"] == place.candidate]
        _choose(db, chosen, place)
        rows = [chosen]
    parents = [row["parent"] for row in rows if row["parent"] is not None]
    skipped = {row["parent"] for row in rows if row["origin"] == "skip"}
    beam = list(dict.fromkeys(parents))
    _forget_rewrites(db, level)
    _forget(db, level, first)
    return {
        "level": level,
        "level_limit": limit,
        "beam": beam,
        "skips": [parent for parent in beam if parent in skipped],
        "first_candidate": first,
        "next_candidate": first,
    }


def _choose(db: Database, chosen: Mapping[str, Any], place: Beginning) -> None:
    """Only this candidate is admitted again, with a person's prompts if there are any."""
    if chosen["item"] is None and place.prompts is not None and chosen["id"] != ROOT:
        raise BadInput(
            f"candidate {chosen['id']} only repeats candidate {chosen['parent']}: edit that one"
        )
    parent, item = chosen["parent"], chosen["item"]
    # Where the root is rewritten at every level, what it had at earlier ones stays.
    db.execute(
        "delete from rewrite where parent = :parent and item is not :item and not exists ("
        " select 1 from candidate where level < :level"
        " and candidate.parent = rewrite.parent and candidate.item = rewrite.item)",
        {"parent": parent, "item": item, "level": place.level},
    )
    if place.prompts is not None and item is not None:
        for text in place.prompts.values():
            db.execute("insert or ignore into text values (?, ?)", [sha256(text), text])
        named = {name: sha256(text) for name, text in place.prompts.items()}
        db.execute(
            "update rewrite set prompts = ?, author = ? where parent = ? and item = ?",
            [dumps(named), place.author, parent, item],
        )


def _forget_rewrites(db: Database, level: int) -> None:
    """Those that no level up to this one has admitted or refused; parents number theirs on."""
    db.execute(
        "delete from rewrite where not exists (select 1 from candidate where level <= :level"
        " and candidate.parent = rewrite.parent and candidate.item = rewrite.item)"
        " and not exists (select 1 from decision where node = 'admit' and level <= :level"
        " and decision.candidate = rewrite.parent and decision.item = rewrite.item)",
        {"level": level},
    )


def _forget(db: Database, level: int, first_candidate: int) -> None:
    """All that was decided from this level's admission on; answers stay, in the ledger."""
    for table in ("verdict", "sample"):
        db.execute(f"delete from {table} where candidate >= ?", [first_candidate])
    # A query that no kept verdict is about is selected for anew; unchanged, the ledger answers.
    db.execute("delete from selection where query not in (select query from verdict)")
    db.execute("delete from decision where level >= ?", [level])
    if first_candidate == 0:
        db.execute("delete from rewrite")
    db.execute("delete from candidate where id >= ?", [first_candidate])
    for table in ("checkpoints", "writes"):
        if table in db.table_names():
            db.execute(f"delete from {table}")


def _limit(db: Database, level: int, levels: int, most_more: int) -> int:
    """The level limit at the entry of a level: each earlier level with a skip moved it by one."""
    [row] = db.query(
        "select count(distinct level) as n from decision where node = 'skip' and level < ?", [level]
    )
    return int(min(levels + row["n"], levels + most_more))


def _ask_anew(db: Database, before: str, after: str) -> None:
    """What another model takes is not known."""
    old, new = (json.loads(settings).get("models", {}) for settings in (before, after))
    changed = [role for role in new if new[role] != old.get(role)]
    db.conn.executemany("delete from left_out where role = ?", [(role,) for role in changed])


def _rename(
    db: Database,
    parent: str,
    run_id: str,
    settings: str,
    fingerprint: Fingerprint,
    version: str,
    start: Mapping[str, Any] | None,
) -> None:
    told = "not started yet" if start is None else f"begins at level {start['level']}"
    db.execute("update call set inherited = 1, hits = 0")
    db.execute("delete from traced")
    db.execute(
        "update run set id = ?, parent = ?, status = 'paused', reason = ?, created_at = ?,"
        " updated_at = ?, settings = ?, fingerprint = ?, drpo_version = ?, start = ?,"
        " owner_host = null, owner_pid = null, heartbeat_at = null, recoveries = 0,"
        " recovered_at = 0, seconds = 0, estimate = null",
        [
            run_id,
            parent,
            f"a fork of {parent[:8]}, {told}",
            now(),
            now(),
            settings,
            dumps(fingerprint),
            version,
            None if start is None else json.dumps(start),
        ],
    )
