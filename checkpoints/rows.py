"""How values become rows: hashes, JSON without NaN, times, and the row types' way back."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shlex
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, get_args, get_type_hints

from drpo.checkpoints.shapes import FINDINGS, JSON, SURE, SURELY_PLAIN, Shape, an_object, flaw_of
from drpo.graph.values import Aspect, Example, Message, Query, Score, Selection, Verdict

UNREADABLE = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError)
"""What rows raise that are not what was stored: no JSON, no UTF-8, another shape."""
_HALF = re.compile(r"\\u[dD][89a-fA-F]")
"""How JSON writes half a character; a whole one outside the first 65,536 has two of them."""
_ROLES = get_args(get_type_hints(Message)["role"])
_PLACE = {
    "name": "finding",
    "key": "call",
    **{name: name for name in ("candidate", "query", "sample", "parent", "item", "number")},
}
"""Columns that say which row it is, beside its id, and how they are called then."""


class Damaged(ValueError):
    """A value of a run's file is not what was stored; one line that names it."""


def damaged(what: str, row: Mapping[str, Any], said: object) -> Damaged:
    """What to raise for something of a row."""
    id_ = row.get("ordinal", row.get("id"))
    kind = "query" if "ordinal" in row else "candidate" if isinstance(id_, int) else "id"
    places = {kind: id_} | {word: row[name] for name, word in _PLACE.items() if name in row}
    named = (f"{name} {id_}"[:40] for name, id_ in places.items() if id_ is not None)
    place = ", ".join(named)
    return Damaged(f"{what} of {place}: {said}" if place else f"{what}: {said}")


def sha256(text: str) -> str:
    """Hex digest of the text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def dumps(value: object) -> str:
    """Compact JSON; raises ValueError for NaN and infinities."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def said_of(error: Exception) -> str:
    """What one of UNREADABLE says of its row."""
    return str(error) if isinstance(error, Damaged) else f"{type(error).__name__}: {error}"


def see_doctor(run: str | Path = "RUN") -> str:
    """The end of what is said of a damaged run: where to look."""
    return f"; see `drpo doctor {shlex.quote(str(run))}`"


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _finite(said: str) -> float:
    value = float(said)
    if not math.isfinite(value):
        raise ValueError(f"{said[:40]} is too large a number")
    return value


_DECODER = json.JSONDecoder(parse_constant=_no_number, parse_float=_finite)


def decoded(text: str) -> Any:
    """JSON without NaN and numbers that are infinite. Raises ValueError for anything else."""
    return _DECODER.decode(text)


def loads(text: str) -> Any:
    """JSON as `dumps` writes it: as `decoded`, and without half a character. Raises ValueError."""
    value = decoded(text)
    if _HALF.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("half a character stands alone") from None
    return value


class SoundRow(sqlite3.Row):
    """A row, every value of which is one that its column holds."""

    def __new__(cls, cursor: sqlite3.Cursor, values: tuple[Any, ...]) -> Self:
        """As SQLite gives it. Raises Damaged."""
        row = super().__new__(cls, cursor, values)
        for name, value in zip(row.keys(), values, strict=True):
            # Here and not in `flaw_of`: a run has a million values.
            if type(value) in SURE.get(name, SURELY_PLAIN):
                continue
            wrong = flaw_of(name, value)
            if wrong is not None:
                raise damaged(name, dict(row), "it is missing" if value is None else wrong)
        return row


def flaws_of(row: Mapping[str, Any]) -> Iterator[str]:
    """All that is wrong with a row, each in a line that names it."""
    for name, value in row.items():
        wrong = flaw_of(name, value)
        try:
            if wrong is not None:
                raise damaged(name, row, wrong)
            if name == "messages" and "ordinal" in row:
                _turns(row)
            elif name in JSON and value is not None:
                value_of(row, name)
            elif name == "body" and "name" in row:
                finding_of(row)
        except Damaged as error:
            yield str(error)


def value_of(row: Mapping[str, Any], column: str, shape: Shape | None = None) -> Any:
    """What the JSON of a column says, in the shape that its name has by default. Raises Damaged."""
    try:
        value = loads(row[column])
    except UNREADABLE as error:
        raise damaged(column, row, f"it cannot be read: {error}") from None
    wrong = (shape or JSON[column])(value)
    if wrong is not None:
        raise damaged(column, row, wrong)
    return value


def hashes_of(row: Mapping[str, Any]) -> dict[str, str]:
    """The column `prompts`: hashes of texts, by name."""
    named: dict[str, str] = value_of(row, "prompts")
    return named


def now() -> str:
    """UTC, ISO-8601, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def query_row(query: Query) -> tuple[int, str, str, str, str | None, str | None, str]:
    """(ordinal, id, messages, tags, reference, answer, part) as the table `query` has them."""
    turns = dumps([[turn.role, turn.content] for turn in query.messages])
    tags = dumps(query.tags)
    return (query.ordinal, query.id, turns, tags, query.reference, query.answer, query.part)


def _turns(row: Mapping[str, Any]) -> tuple[Message, ...]:
    turns = tuple(Message(role, content) for role, content in value_of(row, "messages"))
    if not turns or not all(turn.role in _ROLES for turn in turns):
        raise damaged("messages", row, f"it needs turns, each of {', '.join(_ROLES)}")
    return turns


def query_of(row: Mapping[str, Any]) -> Query:
    """Back from its row; a file of an older version knows less until it is resumed."""
    turns, tags = _turns(row), tuple(value_of(row, "tags"))
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


def selection_of(row: Mapping[str, Any]) -> Selection:
    """Back from its row."""
    named = tuple(Aspect(**aspect) for aspect in value_of(row, "aspects"))
    return Selection(named, row["reason"], tuple(value_of(row, "notes")))


def scores_json(verdict: Verdict) -> str:
    """The column `verdict.scores`."""
    scores = [asdict(score) for score in verdict.scores]
    # Only where the judge was asked several times.
    given = [{k: v for k, v in each.items() if k != "spread" or v is not None} for each in scores]
    return dumps(given)


def finding_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a row of the table `finding` says."""
    found: dict[str, Any] = value_of(row, "body", FINDINGS.get(row["name"], an_object))
    return found


def verdict_of(row: Mapping[str, Any]) -> Verdict:
    """Back from its row."""
    read = tuple(Score(**score) for score in value_of(row, "scores"))
    return Verdict(read, row["unscored"], tuple(value_of(row, "notes")))
