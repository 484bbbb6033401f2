"""What the columns of a run's file hold, and what is wrong with a value that is something else.

By the names of columns, which mean the same in every table. Knows no rows, and no SQL.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from drpo.graph.values import HIGHEST_SCORE, LOWEST_SCORE, ROLES

Shape = Callable[[Any], str | None]
"""What is wrong with a value; None where nothing is."""

LARGEST = 1e300
"""What is beyond it cannot be added up."""
LARGEST_WHOLE = 2**63 - 1
"""That SQLite takes."""
LARGEST_COUNT = 10**12
"""Some millions of them can be added up."""


def _plain(value: object) -> str | None:
    if isinstance(value, bytes):
        return f"{_shown(value)} is neither a text nor a number"
    return number(value) if isinstance(value, float) else None


def _identity(value: object) -> str | None:
    return None if isinstance(value, str | int) else f"{_shown(value)} is no id"


def text(value: object) -> str | None:
    """In UTF-8."""
    return None if isinstance(value, str) else f"{_shown(value)} is no text"


def flag(value: object) -> str | None:
    """True or false."""
    return None if isinstance(value, bool) else f"{_shown(value)} is neither true nor false"


def number(value: object) -> str | None:
    """A finite one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"{_shown(value)} is no number"
    return None if -LARGEST <= value <= LARGEST else f"{_shown(value)} is too large, or no number"


def whole(value: object) -> str | None:
    """A whole number that SQLite takes."""
    if isinstance(value, bool) or not isinstance(value, int):
        return f"{_shown(value)} is no whole number"
    return None if -LARGEST_WHOLE <= value <= LARGEST_WHOLE else f"{_shown(value)} is too large"


def count(value: object) -> str | None:
    """How many, or a place among so many."""
    if not isinstance(value, int) or whole(value) is not None:
        return whole(value)
    return None if 0 <= value <= LARGEST_COUNT else f"{_shown(value)} is below 0, or too large"


def time(value: object) -> str | None:
    """ISO-8601 with its zone."""
    if isinstance(value, str):
        with suppress(ValueError):
            if datetime.fromisoformat(value).tzinfo is not None:
                return None
    return f"{_shown(value)} is no time"


def score(value: object) -> str | None:
    """Of one aspect."""
    if number(value) is None and LOWEST_SCORE <= value <= HIGHEST_SCORE:  # type: ignore[operator]
        return None
    return f"{_shown(value)} is no number from {LOWEST_SCORE:g} to {HIGHEST_SCORE:g}"


def vector(value: object) -> str | None:
    """Of numbers of four bytes."""
    sound = isinstance(value, bytes) and value and len(value) % 4 == 0
    return None if sound else f"{_shown(value)} is no vector"


def optional(shape: Shape) -> Shape:
    """That, or nothing."""
    return lambda value: None if value is None else shape(value)


def every(shape: Shape) -> Shape:
    """A list, all of whose items are that."""

    def flaw(value: object) -> str | None:
        if not isinstance(value, list):
            return f"{_shown(value)} is no list"
        return _first((f"item {at}", shape(each)) for at, each in enumerate(value))

    return flaw


def named(shape: Shape) -> Shape:
    """An object, all of whose values are that."""

    def flaw(value: object) -> str | None:
        if not isinstance(value, dict):
            return an_object(value)
        return _first((_shown(name), shape(each)) for name, each in value.items())

    return flaw


def fields(
    shapes: Mapping[str, Shape], more: Mapping[str, Shape] | None = None, *, closed: bool = False
) -> Shape:
    """An object that has these fields, may have those of `more`, and unless `closed`, others."""
    known = {**shapes, **(more or {})}

    def flaw(value: object) -> str | None:
        if not isinstance(value, dict):
            return an_object(value)
        lost = next((name for name in shapes if name not in value), None)
        if lost is not None:
            return f"there is no {lost}"
        other = next((name for name in value if closed and name not in known), None)
        if other is not None:
            return f"{_shown(other)} is not known"
        return _first((name, shape(value[name])) for name, shape in known.items() if name in value)

    return flaw


def an_object(value: object) -> str | None:
    """Of JSON."""
    return None if isinstance(value, dict) else f"{_shown(value)} is no object"


def _pair(value: object) -> str | None:
    if not isinstance(value, list) or len(value) != 2:  # noqa: PLR2004 - a pair
        return f"{_shown(value)} is no pair"
    return text(value[0]) or text(value[1])


def _first(found: Iterable[tuple[str, str | None]]) -> str | None:
    return next((f"{where}: {wrong}" for where, wrong in found if wrong is not None), None)


def _shown(value: object) -> str:
    return reprlib.repr(value)


_COUNTS = (
    *("level", "n", "ordinal", "number", "path_count", "with_examples", "recoveries"),
    *("recovered_at", "hits", "inherited", "prompt_tokens", "completion_tokens"),
    *("tokens_estimated", "prompt", "completion", "tokens", "new_calls", "from_ledger"),
)
_MAYBE_WHOLE = ("candidate", "sample", "item", "beam_rank", "owner_pid")
_TEXTS = (
    *("status", "settings", "fingerprint", "drpo_version", "kind", "origin", "provider", "model"),
    *("role", "outcome", "node", "body", "aspects", "tags", "part", "parameters"),
    *("finish_reasons", "key", "name"),
)
_MAYBE_TEXTS = (
    *("notes", "scores", "messages", "prompts", "estimate", "start", "unscored", "failure"),
    *("reason", "reference", "answer", "author", "problem", "call"),
)
COLUMNS: Mapping[str, Shape] = {
    **dict.fromkeys(_COUNTS, count),
    **dict.fromkeys(_MAYBE_WHOLE, optional(whole)),
    **dict.fromkeys(_TEXTS, text),
    **dict.fromkeys(_MAYBE_TEXTS, optional(text)),
    **dict.fromkeys(("created_at", "updated_at", "finished_at", "started_at"), time),
    "heartbeat_at": optional(time),
    "id": _identity,
    "vector": vector,
    **dict.fromkeys(("path_sum", "seconds"), number),
    **dict.fromkeys(("reward", "before", "cost_usd", "cost"), optional(number)),
}
"""By name, also of what queries add up; others hold a text or a number that is finite, or nothing:
`query` is an ordinal or an id, and `parent` a candidate or a run."""

_EXTREMES: Sequence[object] = (b"", "", -LARGEST_WHOLE, LARGEST_WHOLE, -math.inf, math.inf, None)
"""A shape that takes those of a type takes all that SQLite has of it."""


def _sure(shape: Shape) -> frozenset[type]:
    doubtful = {type(value) for value in _EXTREMES if shape(value) is not None}
    return frozenset(type(value) for value in _EXTREMES) - doubtful


SURE = {name: _sure(shape) for name, shape in COLUMNS.items()}
"""By column, types of which every value is fine."""
SURELY_PLAIN = _sure(_plain)


def flaw_of(column: str, value: object) -> str | None:
    """What is wrong with what SQLite has in a column of this name; JSON is not looked into."""
    return COLUMNS.get(column, _plain)(value)


_RANGE: Shape = fields(dict.fromkeys(("low", "expected", "high"), number))
_MODEL: Shape = fields({"provider": text, "model": text})

JSON: Mapping[str, Shape] = {
    "settings": fields(
        {
            "seed": whole,
            "models": fields(dict.fromkeys(ROLES, _MODEL)),
            "search": fields({"levels": whole, "width": whole}),
        },
        {
            "sandbox": fields({"world": text, "profile": text, "seed": whole}),
            "rewards": fields({}, {"aspects": named(text)}),
        },
    ),
    "fingerprint": fields({}, {"templates": named(text), "sandbox world": named(text)}),
    "start": fields(
        {
            **dict.fromkeys(("level", "level_limit", "first_candidate", "next_candidate"), whole),
            **dict.fromkeys(("beam", "skips"), every(whole)),
        }
    ),
    "estimate": fields({"total": fields({"calls": _RANGE, "cost_usd": optional(_RANGE)})}),
    "messages": every(_pair),
    "tags": every(text),
    "aspects": every(fields({"name": text, "definition": text}, closed=True)),
    "notes": every(text),
    "prompts": named(text),
    "scores": every(
        fields(
            {
                "aspect": text,
                "value": optional(score),
                "rationale": text,
                "unscored": optional(text),
            },
            {"spread": optional(number)},
            closed=True,
        )
    ),
    "parameters": an_object,
    "texts": every(text),
    "thinking": every(text),
    "finish_reasons": every(text),
}
"""By column."""

_CHOICE: Mapping[str, Shape] = {"challenger": whole, "with_examples": flag}
_UNTESTED: Shape = fields({**_CHOICE, "real": flag})
_TESTED: Shape = fields(
    {
        **_CHOICE,
        **dict.fromkeys(("real", "exploratory"), flag),
        **dict.fromkeys(("queries", "reading"), whole),
        **dict.fromkeys(("estimate", "p", "min_gain"), number),
        **dict.fromkeys(("low", "high"), optional(number)),
        "tested": text,
        "arms": every(fields({"name": text, "mean": optional(number), "unscored": whole})),
    }
)


def _confirmation(value: object) -> str | None:
    untested = isinstance(value, dict) and value.get("tested", "") is None
    return _UNTESTED(value) if untested else _TESTED(value)


FINDINGS: Mapping[str, Shape] = {
    "examples": fields({"too_long": whole}),
    "select": fields(
        {
            **_CHOICE,
            "arms": every(
                fields({"prompt": whole, "with_examples": flag, "mean": optional(number)})
            ),
        }
    ),
    "confirm": _confirmation,
    "truth": named(number),
}
"""By name."""
