"""Which spans a run's file calls for, row by row, told from its tables alone.

A place is what a span is about, e.g. `("evaluate", 3, "q7", 0)`. What makes spans is not used.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan

from drpo.graph.values import ARMS, CANDIDATES_PER_SEARCH, PROMPT_SEARCH

Place = tuple[Any, ...]
Tree = Counter[tuple[Place, Place | None]]
"""How many spans there are about one place below another."""
Row = Mapping[str, Any]
TOP: Place = ("invoke_workflow",)
KEYS = {
    "invoke_workflow": (),
    "search": ("drpo.search",),
    "level": ("drpo.search", "drpo.level"),
    "finding": ("drpo.finding",),
    "select_rewards": ("drpo.query",),
    "rewrite": ("drpo.candidate", "drpo.level"),
    "evaluate": ("drpo.candidate", "drpo.query", "drpo.sample"),
    "chat": ("drpo.call",),
}
"""By the first word of a span's name, which attributes say what it is about."""
OF_DECISIONS = ("drpo.level", "drpo.candidate", "drpo.item")
NO_ITEM = -1
FIRST_TURNS = 2


class Tables:
    """All rows of a run's file."""

    def __init__(self, path: Path) -> None:
        with closing(sqlite3.connect(path)) as db:
            db.row_factory = sqlite3.Row
            names = [name for (name,) in db.execute("select name from sqlite_schema")]
            self._rows = {
                name: [dict(row) for row in db.execute(f"select * from {name}")]
                for name in names
                if name in _TABLES
            }
        self.queries = {row["ordinal"]: row["id"] for row in self.of("query")}
        self.levels = {row["id"]: row["level"] for row in self.of("candidate")}
        self.calls = {row["key"]: row for row in self.of("call")}

    def of(self, table: str) -> list[dict[str, Any]]:
        """One table's."""
        return self._rows[table]

    @property
    def paid(self) -> list[dict[str, Any]]:
        """Calls that the run made itself."""
        return [row for row in self.of("call") if not row["inherited"]]

    def search_of_query(self, query: int) -> int:
        """The one that the query is for."""
        for row in sorted(self.of("search"), key=lambda row: row["number"]):
            if row["query"] == query:
                return int(row["number"])
        [part] = [row["part"] for row in self.of("query") if row["ordinal"] == query]
        return ARMS if part in ("select", "confirm") else PROMPT_SEARCH


_TABLES = (
    *("query", "candidate", "call", "attempt", "selection", "rewrite", "sample", "verdict"),
    *("decision", "search", "finding"),
)


def called_for(path: Path) -> Tree:
    """One span a row, below the one that it belongs to."""
    tables = Tables(path)
    searches = {row["number"] for row in tables.of("search")}
    found: Tree = Counter({(TOP, None): 1})
    found.update((("search", number), TOP) for number in searches)
    found.update((("finding", row["name"]), TOP) for row in tables.of("finding"))
    below_levels = Counter(
        [
            *_selections(tables),
            *_rewrites(tables),
            *_evaluations(tables),
            *_decisions(tables),
        ]
    )
    levels = {
        *(level for _, level in below_levels),
        *(_level(row["id"], row["level"]) for row in tables.of("candidate")),
    }
    found.update(below_levels)
    found.update((level, ("search", level[1]) if level[1] in searches else TOP) for level in levels)
    found.update(_calls(tables))
    return found


def _level(candidate: int, level: int) -> Place:
    return ("level", candidate // CANDIDATES_PER_SEARCH, level)


def _selections(tables: Tables) -> Iterator[tuple[Place, Place]]:
    for row in tables.of("selection"):
        search = tables.search_of_query(row["query"])
        used = [each for each in tables.of("sample") if each["query"] == row["query"]]
        levels = [tables.levels[each["candidate"]] for each in used]
        asked = tables.calls.get(row["call"])
        if asked is not None and not asked["inherited"] and asked["query"] == row["query"]:
            levels = [asked["level"]]
        elif not levels:
            here = [each for each in tables.of("candidate") if each["search"] == search]
            levels = [1 + max(each["level"] for each in here)]
        level = min(levels)
        yield ("select_rewards", tables.queries[row["query"]]), ("level", search, level)


def _rewrites(tables: Tables) -> Iterator[tuple[Place, Place]]:
    came_to = {(row["parent"], row["item"]): row["level"] for row in tables.of("candidate")}
    for row in tables.of("decision"):
        if row["node"] == "admit":
            came_to[row["candidate"], row["item"]] = row["level"]
    rewritten = {
        (row["parent"], came_to[row["parent"], row["item"]]) for row in tables.of("rewrite")
    }
    for parent, level in rewritten:
        yield ("rewrite", parent, level), _level(parent, level)


def _evaluations(tables: Tables) -> Iterator[tuple[Place, Place]]:
    for row in tables.of("sample"):
        level = _level(row["candidate"], tables.levels[row["candidate"]])
        yield _evaluation(tables, row), level


def _evaluation(tables: Tables, row: Row) -> Place:
    return ("evaluate", row["candidate"], tables.queries[row["query"]], row["sample"])


def _decisions(tables: Tables) -> Iterator[tuple[Place, Place]]:
    for row in tables.of("decision"):
        place = (row["node"], row["level"], row["candidate"], row["item"])
        yield place, _level(row["candidate"], row["level"])


def _calls(tables: Tables) -> Iterator[tuple[Place, Place]]:
    for row in tables.paid:
        match row["role"]:
            case "rewarder":
                above: Place = ("select_rewards", tables.queries[row["query"]])
            case "rewriter":
                above = ("rewrite", row["candidate"], row["level"])
            case _:
                above = _evaluation(tables, row | {"sample": _repeat(tables, row)})
        yield _call(row), above


def _call(row: Row) -> Place:
    return ("chat", row["key"].partition("!")[0], row["finished_at"])


def _repeat(tables: Tables, call: Row) -> int:
    """Which answer of the candidate to the query a call of the target or of the judge is about."""
    table = "sample" if call["role"] == "target" else "verdict"
    place = (call["candidate"], call["query"])
    rows = [row for row in tables.of(table) if (row["candidate"], row["query"]) == place]
    gave = [row for row in rows if row["call"] == call["key"]]
    if not gave and call["role"] == "judge":
        gave = [row for row in rows if row["call"] and _asked_the_same(tables, row["call"], call)]
    [*_, repeat] = [call["sample"], *(row["sample"] for row in sorted(gave, key=_last))]
    return int(repeat)


def _last(row: Row) -> int:
    return -int(row["sample"])


def _asked_the_same(tables: Tables, key: str, call: Row) -> bool:
    """Before anything was asked again."""
    one, other = (json.loads(each["messages"]) for each in (tables.calls[key], call))
    return bool(one[:FIRST_TURNS] == other[:FIRST_TURNS])


def tree(spans: Sequence[ReadableSpan]) -> Tree:
    """What is below what. Raises AssertionError where a parent is missing or a span is not one."""
    by_id = {id_of(span): span for span in spans}
    assert len(by_id) == len(spans), "a span was sent twice"
    found: Tree = Counter()
    for span in spans:
        above = None if span.parent is None else place_of(by_id[span.parent.span_id])
        found[place_of(span), above] += 1
    return found


def id_of(span: ReadableSpan) -> int:
    """64 bits."""
    assert span.context is not None
    return int(span.context.span_id)


def place_of(span: ReadableSpan) -> Place:
    """By the name and the attributes of the span."""
    told, name = dict(span.attributes or {}), span.name.split()[0]
    place = (name, *(told.get(key, NO_ITEM) for key in KEYS.get(name, OF_DECISIONS)))
    return (*place, _moment(span.end_time)) if name == "chat" else place


def _moment(nanoseconds: int | None) -> str:
    """As the file writes it."""
    at = datetime.fromtimestamp((nanoseconds or 0) / 1e9, UTC)
    return at.isoformat(timespec="milliseconds")


def failed_attempts(path: Path) -> Counter[Place]:
    """Attempts without a usable reply, by the call that they belong to; None: nobody answered."""
    tables = Tables(path)
    inherited = {row["key"] for row in tables.of("call") if row["inherited"]}
    return Counter(
        (
            _call(tables.calls[row["call"]]) if row["call"] in tables.calls else TOP,
            row["number"],
        )
        for row in tables.of("attempt")
        if row["problem"] is not None and row["call"] not in inherited
    )


def told_attempts(spans: Sequence[ReadableSpan]) -> Counter[Place]:
    """The same, by the spans' events."""
    return Counter(
        (place_of(span), dict(event.attributes or {})["drpo.attempt.number"])
        for span in spans
        for event in span.events
        if event.name == "drpo.attempt"
    )


def scores(path: Path) -> dict[Place, list[tuple[str, Any]]]:
    """Of each evaluation, aspect by aspect; none where the judge has not spoken."""
    tables = Tables(path)
    found: dict[Place, list[tuple[str, Any]]]
    found = {_evaluation(tables, row): [] for row in tables.of("sample")}
    for row in tables.of("verdict"):
        given = [(each["aspect"], each["value"]) for each in json.loads(row["scores"])]
        found[_evaluation(tables, row)] = given
    return found


def told_scores(spans: Sequence[ReadableSpan]) -> dict[Place, list[tuple[str, Any]]]:
    """The same, by the spans' events."""
    return {
        place_of(span): [
            (str(told["gen_ai.evaluation.name"]), told.get("gen_ai.evaluation.score.value"))
            for event in span.events
            for told in [dict(event.attributes or {})]
            if event.name == "gen_ai.evaluation.result"
        ]
        for span in spans
        if span.name == "evaluate"
    }


def outside(spans: Sequence[ReadableSpan]) -> list[str]:
    """What begins or ends, or happens, outside of what it is below or in."""
    by_id = {id_of(span): span for span in spans}
    found = []
    for span in spans:
        above = span if span.parent is None else by_id[span.parent.span_id]
        began, ended = _times(span)
        first, last = _times(above)
        if not first <= began <= ended <= last:
            found.append(f"{place_of(span)} in {place_of(above)}")
        found += [
            f"{event.name} of {place_of(span)}"
            for event in span.events
            if not began <= event.timestamp <= ended
        ]
    return found


def _times(span: ReadableSpan) -> tuple[int, int]:
    assert span.start_time is not None
    assert span.end_time is not None
    return span.start_time, span.end_time
