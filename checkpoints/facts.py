"""Small facts of a run's file that several looks at it need, read-only.

Works on a file of any version, also while it is being written, and on a damaged one.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any

from sqlite_utils import Database

from drpo.checkpoints.rows import Damaged, dumps, hashes_of, value_of

_UNMET = {
    "candidate": {
        "candidate {} cannot come from {}": "select id, parent from candidate where parent >= id",
    },
    "verdict": {
        "candidate {}, query {} has a verdict and no sample": """
            select candidate, query from verdict
            where (candidate, query, sample) not in (select candidate, query, sample from sample)
        """,
        "query {} has a verdict and no selection": """
            select distinct query from verdict where query not in (select query from selection)
        """,
    },
    "decision": {
        "the decision {} of level {} is about candidate {}, which there is not": """
            select node, level, candidate from decision
            where candidate not in (select id from candidate)
        """,
    },
    "call": {
        "call {} is about query {}, which there is not": """
            select substr(key, 1, 12), query from call
            where query not in (select ordinal from query)
        """,
    },
    "finding": {
        "the finding {} is about candidate {}, which there is not": """
            select name, iif(json_valid(body), json_extract(body, '$.challenger'), null) as chosen
            from finding where chosen not in (select id from candidate)
        """,
    },
}
"""What SQLite does not look after: by table, what to say of each row of a look."""


def unmet(db: Database, tables: Iterable[str]) -> Iterator[str]:
    """A line for each row that refers to one that there is not, or to none where it has to."""
    for table in (each for each in tables if each in db.table_names()):
        # Of a column that may not be null SQLite takes for granted that it is not.
        null = [f"typeof({each.name}) = 'null'" for each in db[table].columns if each.notnull]
        for row in db[table].rows_where(" or ".join(null) or "0", select="rowid as row"):
            yield f"{table} row {row['row']} lacks what it has to have"
        for name, row, parent, _ in db.execute(f"pragma foreign_key_check({table})"):
            yield f"{name} row {row} refers to a {parent} that there is not"
        for said, sql in _UNMET.get(table, {}).items():
            yield from (said.format(*row) for row in db.execute(sql))


def ensure_met(db: Database, *tables: str) -> None:
    """Raises Damaged where anything in these tables is unmet."""
    for said in unmet(db, tables):
        raise Damaged(said)


def bodies(db: Database, hashes: Iterable[str]) -> dict[str, str]:
    """Texts by their hashes. Raises Damaged where one is missing."""
    wanted = set(hashes)
    rows = db.query(
        "select sha256, body from text where sha256 in (select value from json_each(?))",
        [dumps(sorted(wanted))],
    )
    found = {row["sha256"]: row["body"] for row in rows}
    for text in wanted - found.keys():
        raise Damaged(f"text {text[:12]} is missing")
    return found


def prompts_of(db: Database, row: Mapping[str, Any]) -> dict[str, str]:
    """By name, of a candidate's row."""
    named = hashes_of(row)
    texts = bodies(db, named.values())
    return {name: texts[text] for name, text in named.items()}


def line_of(db: Database, candidate: int) -> list[dict[str, Any]]:
    """Rows of the candidate and its ancestors, by level; none where there is no such candidate."""
    # Not `union all`: in a damaged file the line may be a circle.
    rows = list(
        db.query(
            "with recursive line (id, parent) as (select id, parent from candidate where id = ?"
            " union select up.id, up.parent from candidate up join line on up.id = line.parent)"
            " select candidate.* from candidate join line using (id) order by level",
            [candidate],
        )
    )
    there = {row["id"] for row in rows}
    for row in rows:
        if row["parent"] is not None and row["parent"] not in there - {row["id"]}:
            raise Damaged(f"candidate {row['id']} cannot come from {row['parent']}")
    return rows


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
        turns = value_of(row, "messages") if row["messages"] else []
        del row["messages"]
        row["text"] = turns[-1][1] if turns else None
    return rows
