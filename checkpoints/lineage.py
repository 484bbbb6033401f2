"""Looks at one candidate's line back to its root, read-only: prompts, and what each was judged.

Reads by key alone, so that a long run takes no longer than a short one with the same line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlite_utils import Database

from drpo.checkpoints.facts import line_of
from drpo.checkpoints.rows import (
    Damaged,
    dumps,
    hashes_of,
    query_of,
    selection_of,
    value_of,
    verdict_of,
)
from drpo.graph.errors import BadInput
from drpo.graph.values import CANDIDATES_PER_SEARCH, Query, Verdict, folded


@dataclass(frozen=True, slots=True)
class Step:
    """One candidate of the line."""

    id: int
    level: int
    parent: int | None
    prompts: Mapping[str, str]
    """Hashes of the texts, by name."""
    author: str | None
    """The person who wrote it, if one did."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the judge said of one sample."""

    candidate: int
    query: int
    """Ordinal."""
    sample: int
    verdict: Verdict


def line(db: Database, candidate: int) -> list[Step]:
    """From the candidate to its root. Raises BadInput where there is no such candidate."""
    found = {row["id"]: row for row in line_of(db, candidate)}
    if candidate not in found:
        [(last,)] = db.execute(
            "select max(id) from candidate where id < ?", [CANDIDATES_PER_SEARCH]
        ).fetchall()
        allowed = "it has none yet" if last is None else f"allowed are 0 to {last}"
        raise BadInput(f"candidate {candidate}: this run has no such candidate; {allowed}")
    authors, steps = _authors(db, list(found)), [found.pop(candidate)]
    while steps[-1]["parent"] is not None:
        steps.append(found.pop(steps[-1]["parent"]))
    return [
        Step(
            row["id"],
            row["level"],
            row["parent"],
            hashes_of(row),
            authors.get((row["parent"], row["item"])),
        )
        for row in steps
    ]


def _authors(db: Database, parents: Sequence[int]) -> dict[tuple[int, int], str]:
    """Of these candidates' rewrites that a person wrote, by parent and number."""
    # A file of an older version knows none.
    if "author" not in db["rewrite"].columns_dict:
        return {}
    rows = db.query(
        "select rewrite.parent, item, author from json_each(?)"
        " join rewrite on rewrite.parent = json_each.value where author is not null",
        [dumps(list(parents))],
    )
    return {(row["parent"], row["item"]): row["author"] for row in rows}


def judgements(db: Database, candidates: Sequence[int]) -> Iterator[Judgement]:
    """Of these candidates, each in the order in which its rewriter is shown them."""
    rows = db.query(
        "select candidate, query, sample, scores, unscored, notes from json_each(?)"
        " join verdict on candidate = json_each.value order by candidate, query, sample",
        [dumps(list(candidates))],
    )
    for row in rows:
        yield Judgement(row["candidate"], row["query"], row["sample"], verdict_of(row))


def answer(db: Database, candidate: int, query: int, sample: int) -> str:
    """The text of one sample."""
    rows = db.query(
        "select body from sample join text on sha256 = text"
        " where candidate = ? and query = ? and sample = ?",
        [candidate, query, sample],
    )
    for row in rows:
        return str(row["body"])
    raise Damaged(f"the answer of candidate {candidate} to query {query} is missing")


def queries(db: Database, ordinals: Sequence[int]) -> dict[int, Query]:
    """By ordinal."""
    rows = db.query(
        "select query.* from json_each(?) join query on ordinal = json_each.value",
        [dumps(list(ordinals))],
    )
    found = {row["ordinal"]: query_of(row) for row in rows}
    for lost in set(ordinals) - found.keys():
        raise Damaged(f"there is no query {lost}, which was answered")
    return found


def definitions(db: Database, ordinals: Sequence[int]) -> dict[tuple[int, str], str]:
    """Of the aspects selected for these queries, by ordinal and folded name.

    A selection without one has the pool's.
    """
    [run] = db.query("select settings from run")
    pool = value_of(run, "settings").get("rewards", {}).get("aspects", {})
    known = {folded(name): text for name, text in pool.items()}
    rows = db.query(
        "select selection.* from json_each(?) join selection on query = json_each.value",
        [dumps(list(ordinals))],
    )
    found: dict[tuple[int, str], str] = {}
    for row in rows:
        for each in selection_of(row).aspects:
            name = folded(each.name)
            found[row["query"], name] = each.definition or known.get(name, "")
    return found
