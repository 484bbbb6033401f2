"""How values become rows: hashes, JSON without NaN, times, and the row types' way back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from drpo.graph.values import Aspect, Example, Message, Query, Score, Selection, Verdict

UNREADABLE = (ValueError, TypeError, AttributeError, LookupError, RecursionError)
"""What rows raise that are not what was stored: no JSON, no UTF-8, another shape."""
SEE_DOCTOR = "; see `drpo doctor`"


def sha256(text: str) -> str:
    """Hex digest of the text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def dumps(value: object) -> str:
    """Compact JSON; raises ValueError for NaN and infinities."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def now() -> str:
    """UTC, ISO-8601, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def query_row(query: Query) -> tuple[int, str, str, str, str | None, str | None, str]:
    """(ordinal, id, messages, tags, reference, answer, part) as the table `query` has them."""
    turns = dumps([[turn.role, turn.content] for turn in query.messages])
    tags = dumps(query.tags)
    return (query.ordinal, query.id, turns, tags, query.reference, query.answer, query.part)


def query_of(row: Mapping[str, Any]) -> Query:
    """Back from its row; a file of an older version knows less until it is resumed."""
    turns = tuple(Message(role, content) for role, content in json.loads(row["messages"]))
    tags = tuple(json.loads(row["tags"]))
    return Query(
        row["ordinal"],
        row["id"],
        turns,
        tags,
        row.get("reference"),
        row.get("answer"),
        row.get("part", "train"),
    )


EXAMPLES = (
    "select asked.body as query, said.body as answer from example"
    " join text asked on asked.sha256 = example.query"
    " join text said on said.sha256 = example.answer order by number"
)
"""The texts of the table `example`, in order."""


def example_rows(
    examples: Sequence[Example],
) -> tuple[list[tuple[str, str]], list[tuple[int, str, str]]]:
    """Rows of the table `text`, and (number, query, answer) as the table `example` has them."""
    texts = [(sha256(text), text) for each in examples for text in (each.query, each.answer)]
    rows = [(at, sha256(each.query), sha256(each.answer)) for at, each in enumerate(examples)]
    return texts, rows


def selection_of(aspects: str, reason: str, notes: str) -> Selection:
    """Back from its columns."""
    named = tuple(Aspect(**aspect) for aspect in json.loads(aspects))
    return Selection(named, reason, tuple(json.loads(notes)))


def scores_json(verdict: Verdict) -> str:
    """The column `verdict.scores`."""
    scores = [asdict(score) for score in verdict.scores]
    # Only where the judge was asked several times.
    given = [{k: v for k, v in each.items() if k != "spread" or v is not None} for each in scores]
    return dumps(given)


def verdict_of(scores: str, unscored: str | None, notes: str) -> Verdict:
    """Back from its columns."""
    read = tuple(Score(**score) for score in json.loads(scores))
    return Verdict(read, unscored, tuple(json.loads(notes)))
