"""Small facts of a run's file that several looks at it need, read-only.

Works on a file of any version, also while it is being written, and on a damaged one.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping
from typing import Any

from sqlite_utils import Database

from drpo.checkpoints.rows import dumps


def bodies(db: Database, hashes: Iterable[str]) -> dict[str, str]:
    """Texts by their hashes."""
    rows = db.query(
        "select sha256, body from text where sha256 in (select value from json_each(?))",
        [dumps(list(hashes))],
    )
    return {row["sha256"]: row["body"] for row in rows}


def prompts_of(db: Database, prompts: str) -> dict[str, str]:
    """By name, of a candidate's column."""
    named: dict[str, str] = json.loads(prompts)
    texts = bodies(db, named.values())
    return {name: texts[text] for name, text in named.items()}


def line_of(db: Database, candidate: int) -> list[dict[str, Any]]:
    """Rows of the candidate and its ancestors, by level; none where there is no such candidate."""
    # Not `union all`: in a damaged file the line may be a circle.
    rows = db.query(
        "with recursive line (id, parent) as (select id, parent from candidate where id = ?"
        " union select up.id, up.parent from candidate up join line on up.id = line.parent)"
        " select candidate.* from candidate join line using (id) order by level",
        [candidate],
    )
    return list(rows)


def path_value(row: Mapping[str, Any]) -> float | None:
    """Of a candidate's row; None where nothing on its path was scored."""
    return row["path_sum"] / row["path_count"] if row["path_count"] else None


def paid(db: Database) -> str:
    """Where the calls are that this run paid for; a file of an older version has no others."""
    return "paid" if "paid" in db.view_names() else "call"


def calls_of(db: Database) -> dict[int, list[str]]:
    """Keys of the calls behind each candidate: what wrote it, answered under it and judged that.

    One that wrote several candidates, or answered for several, stands at each. One of which nothing
    came stands where it was for: a rewriter's at the first candidate of its level and parent, and
    at the parent where there is none.
    """
    written = list(
        db.query(
            "select candidate.id, level, candidate.parent, call from candidate"
            " left join rewrite on rewrite.parent = candidate.parent"
            " and rewrite.item = candidate.item order by candidate.id"
        )
    )
    evaluated: dict[int, list[str]] = {}
    for candidate, *_, key in db.execute(
        "select candidate, query, sample, 0 as turn, call from sample where call is not null"
        " union all select candidate, query, sample, 1, call from verdict where call is not null"
        " order by candidate, query, sample, turn"
    ):
        evaluated.setdefault(candidate, []).append(key)
    of_answers = {key for keys in evaluated.values() for key in keys}
    vain = _vain(db, of_answers | {row["call"] for row in written})
    found: dict[int, list[str]] = {}
    for row in written:
        found[row["id"]] = [
            *([row["call"]] if row["call"] else []),
            *vain.pop(("rewriter", row["parent"], row["level"]), ()),
            *evaluated.get(row["id"], ()),
            *vain.get(("target", row["id"], row["level"]), ()),
            *vain.get(("judge", row["id"], row["level"]), ()),
        ]
    for (role, candidate, _), keys in vain.items():
        if role == "rewriter" and candidate in found:
            found[candidate] += keys
    return {candidate: list(dict.fromkeys(keys)) for candidate, keys in found.items()}


def _vain(db: Database, used: Container[str]) -> dict[tuple[str, int, int], list[str]]:
    """Calls that nothing was made of, asked in vain or again, by role, candidate and level."""
    found: dict[tuple[str, int, int], list[str]] = {}
    for key, *place in db.execute(
        "select key, role, candidate, level from call where candidate is not null"
    ):
        if key not in used:
            role, candidate, level = place
            found.setdefault((role, candidate, level), []).append(key)
    return found


def searches(db: Database) -> list[dict[str, Any]]:
    """Number and kind of each, with id and text of the query that one is about.

    None where the run is one search.
    """
    if "search" not in db.table_names():
        return []
    rows = list(
        db.query(
            "select number, kind, query.id as query, messages from search"
            " left join query on query.ordinal = search.query order by number"
        )
    )
    for row in rows:
        turns = json.loads(row.pop("messages") or "[]")
        row["text"] = turns[-1][1] if turns else None
    return rows
