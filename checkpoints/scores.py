"""Looks at what the judge said of one search's answers, read-only, for those who add it up.

Rows of the search for the prompt alone: what examples and validation asked is of other queries or
other ways to answer. Works on a file of any version, also while it is being written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlite_utils import Database

from drpo.checkpoints.facts import ensure_met, prompts_of
from drpo.checkpoints.rows import dumps, hashes_of, query_of, value_of
from drpo.graph.values import CANDIDATES_PER_SEARCH, Query, folded


class Scored(NamedTuple):
    """The judge's word on one aspect of one sample: a run has a hundred thousand of them."""

    candidate: int
    query: int
    """Its ordinal."""
    aspect: str
    value: float | None
    """1-5; None when unscored."""
    rationale: str


class Judged(NamedTuple):
    """What the judge said of one sample."""

    candidate: int
    query: int
    """Its ordinal."""
    scores: Sequence[Scored]
    unscored: str | None
    """Why no score is valid."""
    reward: float | None
    """1-5; None where no score is valid."""


class Node(NamedTuple):
    """A candidate in its tree, without its texts."""

    id: int
    level: int
    parent: int | None
    origin: str
    prompts: Mapping[str, str]
    """Hashes of texts, by name."""


def judged(db: Database) -> list[Judged]:
    """Every verdict, by candidate, query and sample."""
    ensure_met(db, "verdict")
    rows = db.query(
        "select candidate, query, scores, unscored, reward from verdict where candidate < ?"
        " order by candidate, query, sample",
        [CANDIDATES_PER_SEARCH],
    )
    return [_judged(row) for row in rows]


def _judged(row: Mapping[str, Any]) -> Judged:
    candidate, query = row["candidate"], row["query"]
    said = [
        Scored(candidate, query, each["aspect"], each["value"], each["rationale"])
        for each in value_of(row, "scores")
    ]
    return Judged(candidate, query, said, row["unscored"], row["reward"])


def candidate(db: Database, id_: int) -> dict[str, Any] | None:
    """Its row, with the texts of its prompts; of any of the run's searches. None without one."""
    for row in db.query("select * from candidate where id = ?", [id_]):
        return dict(row) | {"texts": prompts_of(db, row)}
    return None


def rewards_under(db: Database, id_: int) -> dict[int, list[float | None]]:
    """By query, of every candidate of its search that has the same prompts.

    What repeats a candidate, as a skip does, answers other queries than it.
    """
    ensure_met(db, "verdict")
    rows = db.query(
        "select verdict.query, verdict.reward from candidate asked"
        " join candidate same on same.prompts = asked.prompts and same.id / ?2 = asked.id / ?2"
        " join verdict on verdict.candidate = same.id"
        " where asked.id = ?1 order by verdict.query, same.id",
        [id_, CANDIDATES_PER_SEARCH],
    )
    return _by_query(rows)


def rewards_on(db: Database, path: Iterable[int]) -> dict[int, list[float | None]]:
    """By query, of all these candidates."""
    ensure_met(db, "verdict")
    rows = db.query(
        "select query, reward from verdict where candidate in (select value from json_each(?))"
        " order by query, candidate",
        [dumps(list(path))],
    )
    return _by_query(rows)


def _by_query(rows: Iterable[Mapping[str, Any]]) -> dict[int, list[float | None]]:
    found: dict[int, list[float | None]] = {}
    for row in rows:
        found.setdefault(row["query"], []).append(row["reward"])
    return found


def selections(db: Database) -> dict[int, frozenset[str]]:
    """Of each query, the identities of the aspects chosen for it."""
    return {
        row["query"]: frozenset(folded(aspect["name"]) for aspect in value_of(row, "aspects"))
        for row in db.query("select query, aspects from selection")
    }


def left_out(db: Database) -> int:
    """Verdicts of the run's other searches and of its validation."""
    return int(db["verdict"].count_where("candidate >= ?", [CANDIDATES_PER_SEARCH]))


def nodes(db: Database) -> dict[int, Node]:
    """Every candidate by id, in creation order."""
    ensure_met(db, "candidate")
    rows = db.query(
        "select id, level, parent, origin, prompts from candidate where id < ? order by id",
        [CANDIDATES_PER_SEARCH],
    )
    return {
        row["id"]: Node(row["id"], row["level"], row["parent"], row["origin"], hashes_of(row))
        for row in rows
    }


def queries(db: Database) -> dict[int, Query]:
    """By ordinal."""
    return {row["ordinal"]: query_of(row) for row in db.query("select * from query")}
