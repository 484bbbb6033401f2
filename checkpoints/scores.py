"""Looks at what the judge said of one search's answers, read-only, for those who add it up.

Rows of the search for the prompt alone: what examples and validation asked is of other queries or
other ways to answer. Works on a file of any version, also while it is being written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlite_utils import Database

from drpo.checkpoints.rows import query_of
from drpo.graph.values import CANDIDATES_PER_SEARCH, Query, Score, folded


@dataclass(frozen=True, slots=True)
class Judged:
    """What the judge said of one sample."""

    candidate: int
    query: int
    """Its ordinal."""
    scores: tuple[Score, ...]
    unscored: str | None
    """Why no score is valid."""
    reward: float | None
    """1-5; None where no score is valid."""


@dataclass(frozen=True, slots=True)
class Node:
    """A candidate in its tree, without its texts."""

    id: int
    level: int
    parent: int | None
    origin: str
    prompts: Mapping[str, str]
    """Hashes of texts, by name."""


def judged(db: Database) -> list[Judged]:
    """Every verdict, by candidate, query and sample."""
    rows = db.query(
        "select candidate, query, scores, unscored, reward from verdict where candidate < ?"
        " order by candidate, query, sample",
        [CANDIDATES_PER_SEARCH],
    )
    return [
        Judged(
            row["candidate"],
            row["query"],
            tuple(Score(**score) for score in json.loads(row["scores"])),
            row["unscored"],
            row["reward"],
        )
        for row in rows
    ]


def left_out(db: Database) -> int:
    """Verdicts of the run's other searches and of its validation."""
    return int(db["verdict"].count_where("candidate >= ?", [CANDIDATES_PER_SEARCH]))


def nodes(db: Database) -> dict[int, Node]:
    """Every candidate by id, in creation order."""
    rows = db.query(
        "select id, level, parent, origin, prompts from candidate where id < ? order by id",
        [CANDIDATES_PER_SEARCH],
    )
    return {row["id"]: Node(**(row | {"prompts": json.loads(row["prompts"])})) for row in rows}


def texts(db: Database) -> dict[str, str]:
    """The prompts of these candidates, by their hashes."""
    rows = db.query(
        "select distinct sha256, body from candidate, json_each(prompts)"
        " join text on sha256 = json_each.value where candidate.id < ?",
        [CANDIDATES_PER_SEARCH],
    )
    return {row["sha256"]: row["body"] for row in rows}


def queries(db: Database) -> dict[int, Query]:
    """By ordinal."""
    return {row["ordinal"]: query_of(row) for row in db.query("select * from query")}


def selections(db: Database) -> dict[int, tuple[str, ...]]:
    """Of each query, by ordinal, the aspects by their identities, in alphabetical order."""
    found: dict[int, tuple[str, ...]] = {}
    for row in db.query("select query, aspects from selection"):
        aspects: list[dict[str, Any]] = json.loads(row["aspects"])
        found[row["query"]] = tuple(sorted(folded(aspect["name"]) for aspect in aspects))
    return found
