"""A run as a trace: its rows as spans, run -> search -> level -> node -> call.

Every id is a function of the run's id and of what a row is about, so that spans made while the run
goes on, after a kill or of the finished file are the same spans. Knows nothing of OpenTelemetry's
own classes. Rows have the times of calls alone: a node lasts from its first call to its last.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlite_utils import Database

from drpo.checkpoints.facts import searches
from drpo.checkpoints.rows import finding_of, value_of
from drpo.checkpoints.span_rows import (
    LevelRows,
    levels_of,
    rows_of_level,
    times_of,
    unanswered,
)
from drpo.graph.values import CANDIDATES_PER_SEARCH
from drpo.tracing import conventions as names
from drpo.wording import plain, shortened

Value = str | bool | int | float | Sequence[str]
Attributes = Mapping[str, Value]
LONGEST_REASON = 300
"""Characters of why something was so."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
WHOLE = -1
"""In place of a search or a level: all of them."""


@dataclass(frozen=True, slots=True)
class Happening:
    """Something at one moment of a span."""

    name: str
    at: datetime
    attributes: Attributes


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Something that took time."""

    id: int
    """64 bits, never 0."""
    parent: int | None
    name: str
    began: datetime
    ended: datetime
    attributes: Attributes
    happenings: tuple[Happening, ...] = ()
    links: tuple[int, ...] = ()
    """Calls of other spans whose answers were used here."""
    failed: str | None = None
    asks: bool = False
    """Whether it is a call to a model."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What is exported at once: the spans of a level, of a search, or of the run itself."""

    search: int
    level: int


RUN = Unit(WHOLE, WHOLE)


def trace_id(run_id: str) -> int:
    """128 bits: the run's own id, so that a trace is found by it."""
    try:
        return uuid.UUID(run_id).int or 1
    except ValueError:
        return int.from_bytes(hashlib.sha256(run_id.encode()).digest()[:16])


def units(db: Database) -> list[Unit]:
    """Of all that the run has, in the order in which it came to be; the run itself is the last."""
    found = [Unit(*place) for place in levels_of(db)]
    wholes = [Unit(row["number"], WHOLE) for row in searches(db)]
    return [*found, *wholes, RUN]


def settled(db: Database) -> list[Unit]:
    """Those of whose spans nothing changes any more while the run goes on."""
    rows = db.query(
        "select distinct candidate / ? as search, level from decision where node = 'advance'",
        [CANDIDATES_PER_SEARCH],
    )
    return sorted((Unit(**row) for row in rows), key=lambda unit: (unit.level, unit.search))


class Trace:
    """The spans of one run's file."""

    def __init__(self, db: Database, *, texts: bool = False) -> None:
        """`texts`: with what was asked and answered."""
        self._db = db
        self._row = next(db.query("select * from run"))
        self._texts = texts
        self._kinds = {row["number"]: row for row in searches(db)}
        self.id = trace_id(self._row["id"])

    def spans(self, unit: Unit) -> list[Span]:
        """Of one unit, the parents first."""
        if unit == RUN:
            return [self._run(), *self._findings()]
        if unit.level == WHOLE:
            return [self._search(unit.search)]
        rows = rows_of_level(self._db, unit.search, unit.level, texts=self._texts)
        return list(_Level(self, rows).spans())

    def id_of(self, *place: object) -> int:
        """Of the span that is about this place in the run."""
        said = json.dumps([self._row["id"], *place]).encode()
        return int.from_bytes(hashlib.sha256(said).digest()[:8]) or 1

    def parent_of(self, search: int) -> int:
        """The span above the levels of a search."""
        return self.id_of("search", search) if search in self._kinds else self.id_of("run")

    @property
    def created(self) -> datetime:
        """When the run was made."""
        return _time(self._row["created_at"])

    def _run(self) -> Span:
        row, settings = self._row, value_of(self._row, "settings")
        kind = row.get("kind", "search")
        told = {
            names.OPERATION: names.WORKFLOW,
            names.WORKFLOW_NAME: f"drpo {kind}",
            names.AGENT_NAME: f"drpo {kind}",
            names.RUN: row["id"],
            names.KIND: kind,
            names.STATUS: row["status"],
            names.REASON: _short(row["reason"]),
            names.PARENT: row.get("parent"),
            "drpo.version": row["drpo_version"],
            "drpo.seed": settings.get("seed"),
        }
        began, ended = self._times()
        return Span(
            id=self.id_of("run"),
            parent=None,
            name=f"{names.WORKFLOW} drpo {kind}",
            began=began,
            ended=ended,
            attributes=_given(told),
            happenings=tuple(_failed(row, ended) for row in unanswered(self._db)),
            failed=row["reason"] if row["status"] == "failed" else None,
        )

    def _search(self, number: int) -> Span:
        began, ended = times_of(self._db, number)
        told = self._kinds[number]
        return Span(
            id=self.id_of("search", number),
            parent=self.id_of("run"),
            name=f"search {told['kind']}",
            began=_time(began) if began else self.created,
            ended=_time(ended) if ended else self.created,
            attributes=_given(
                {names.SEARCH: number, names.KIND: told["kind"], names.QUERY: told["query"]}
            ),
        )

    def _times(self) -> tuple[datetime, datetime]:
        """Of all of it: a run that was killed noted nothing after its last calls."""
        noted = (self._row["created_at"], self._row["updated_at"], *times_of(self._db))
        times = [_time(each) for each in noted if each is not None]
        return min(times), max(times)

    def _findings(self) -> Iterator[Span]:
        if "finding" not in self._db.table_names():
            return
        _, at = self._times()
        for row in self._db.query("select name, body from finding order by name"):
            body = finding_of(row).items()
            simple = {
                f"{names.FINDING}.{key}": plain(value) if isinstance(value, str) else value
                for key, value in body
                if isinstance(value, str | bool | int | float)
            }
            yield Span(
                id=self.id_of("finding", row["name"]),
                parent=self.id_of("run"),
                name=f"finding {row['name']}",
                began=at,
                ended=at,
                attributes={names.FINDING: row["name"], **simple},
            )


@dataclass(slots=True)
class _Node:
    """What one node did at one place, so far."""

    attributes: dict[str, Any]
    calls: list[Mapping[str, Any]] = field(default_factory=list)
    happenings: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    used: list[str] = field(default_factory=list)
    """Keys of the calls that its rows are taken from."""
    failed: str | None = None


class _Level:
    """Of one level of one search."""

    def __init__(self, trace: Trace, rows: LevelRows) -> None:
        self._trace, self._rows = trace, rows
        self._nodes: dict[tuple[Any, ...], _Node] = {}
        """By the node's name and what it was about."""
        self._calls = {call["key"]: call for call in rows.calls}
        self._id = trace.id_of("level", rows.search, rows.level)

    def spans(self) -> Iterator[Span]:
        """The level, then each node with its calls."""
        for row in self._rows.selections:
            self._node("select_rewards", row["query"]).used.append(row["call"])
        for row in self._rows.rewrites:
            self._node("rewrite", row["parent"]).used.append(row["call"])
        for row in self._rows.evaluations:
            self._evaluation(row)
        for call in self._rows.calls:
            self._node(*self._place(call)).calls.append(call)
        began, ended = self._times(self._rows.calls, None)
        yield Span(
            id=self._id,
            parent=self._trace.parent_of(self._rows.search),
            name=f"level {self._rows.level}",
            began=began,
            ended=ended,
            attributes={names.SEARCH: self._rows.search, names.LEVEL: self._rows.level},
        )
        for place, node in self._nodes.items():
            yield from self._node_spans(place, node, began)
        for row in self._rows.decisions:
            yield self._decision(row, began, ended)

    def _node(self, name: str, *about: int) -> _Node:
        keys = {
            "select_rewards": (names.QUERY,),
            "rewrite": (names.CANDIDATE,),
            "evaluate": (names.CANDIDATE, names.QUERY, names.REPEAT),
        }[name]
        numbers = dict(zip(keys, about, strict=True))
        told: dict[str, Any] = {names.NODE: name, **numbers}
        if names.QUERY in numbers:
            told[names.QUERY] = plain(self._rows.queries.get(numbers[names.QUERY], ""))
        return self._nodes.setdefault((name, *about), _Node(told))

    def _evaluation(self, row: Mapping[str, Any]) -> None:
        node = self._node("evaluate", row["candidate"], row["query"], row["sample"])
        node.used += [row["asked"], row["judged"]]
        said = row["failure"] or row["unscored"]
        node.attributes |= {names.REWARD: row["reward"], names.UNSCORED: _short(said)}
        node.failed = _short(said) if row["reward"] is None else None
        for score in value_of(row, "scores") if row["scores"] else ():
            told = {names.ASPECT: plain(score["aspect"]), names.SCORE: score["value"]}
            told[names.UNSCORED] = _short(score["unscored"])
            if self._rows.texts is not None:
                told[names.EXPLANATION] = plain(score["rationale"] or "")
            node.happenings.append((names.EVALUATION, told))

    def _place(self, call: Mapping[str, Any]) -> tuple[Any, ...]:
        """The node that asked."""
        if call["role"] == "rewarder":
            return ("select_rewards", call["query"])
        if call["role"] == "rewriter":
            return ("rewrite", call["candidate"])
        here = self._rows.evaluations_of.get((call["candidate"], call["query"]), ())
        exact = [row for row in here if call["key"] in (row["asked"], row["judged"])]
        mine = exact or [row for row in here if self._is_of(call, row)] or here
        repeat = mine[0]["sample"] if mine else 0
        return ("evaluate", call["candidate"], call["query"], repeat)

    def _is_of(self, call: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
        """Whether a call that gave no row is about the answer in this one."""
        if call["role"] == "target":
            return bool(row["sample"] == call["sample"])
        # One more draw of the judge's, or its first try: it was told the same answer.
        judged = self._calls.get(row["judged"])
        return judged is not None and _told_first(judged) == _told_first(call)

    def _node_spans(self, place: tuple[Any, ...], node: _Node, at: datetime) -> Iterator[Span]:
        began, ended = self._times(node.calls, at)
        id_ = self._trace.id_of(self._rows.search, self._rows.level, *place)
        mine = {call["key"] for call in node.calls}
        others = [key for key in node.used if key is not None and key not in mine]
        links = [self._rows.paid[key] for key in dict.fromkeys(others) if key in self._rows.paid]
        yield Span(
            id=id_,
            parent=self._id,
            name=place[0],
            began=began,
            ended=ended,
            attributes=_given(node.attributes | {names.LEVEL: self._rows.level}),
            happenings=tuple(
                Happening(name, ended, _given(told)) for name, told in node.happenings
            ),
            links=tuple(self._call_id(*link) for link in links),
            failed=node.failed,
        )
        for call in node.calls:
            yield self._call(call, id_)

    def _call(self, call: Mapping[str, Any], parent: int) -> Span:
        began, ended = self._times([call], None)
        given = value_of(call, "parameters")
        model = plain(call["model"])
        told = {
            names.OPERATION: names.CHAT,
            names.PROVIDER: plain(call["provider"]),
            names.MODEL: model,
            **{name: given[key] for key, name in names.REQUEST.items() if _is_number(given, key)},
            names.CHOICES: call["n"] if call["n"] > 1 else None,
            names.FINISH_REASONS: [plain(each) for each in value_of(call, "finish_reasons")],
            names.INPUT_TOKENS: call["prompt_tokens"],
            names.OUTPUT_TOKENS: call["completion_tokens"],
            names.ESTIMATED: bool(call["tokens_estimated"]),
            names.COST: call["cost_usd"],
            names.ROLE: call["role"],
            names.LEVEL: call["level"],
            names.CANDIDATE: call["candidate"],
            names.QUERY: plain(self._rows.queries.get(call["query"], "")) or None,
            names.REPEAT: call["sample"],
            names.CALL: call["key"].partition("!")[0],
            names.OUTCOME: call["outcome"],
            names.ERROR: None if call["outcome"] == "ok" else call["outcome"],
        }
        if self._rows.texts is not None:
            told |= _messages(call, self._rows.texts)
        return Span(
            id=self._call_id(call["key"], call["finished_at"]),
            parent=parent,
            name=f"{names.CHAT} {model}",
            began=began,
            ended=ended,
            attributes=_given(told),
            happenings=tuple(self._attempts(call)),
            failed=None if call["outcome"] == "ok" else call["outcome"],
            asks=True,
        )

    def _call_id(self, key: str, finished_at: str) -> int:
        """The same when a run that stopped at failures has put the call's row aside."""
        return self._trace.id_of("call", key.partition("!")[0], finished_at)

    def _attempts(self, call: Mapping[str, Any]) -> Iterator[Happening]:
        for each in self._rows.attempts.get(call["key"], ()):
            if each["problem"] is not None:
                yield _failed(each, _time(call["finished_at"]))

    def _decision(self, row: Mapping[str, Any], began: datetime, ended: datetime) -> Span:
        """It takes no time: `admit` before the level's answers, the others at its end."""
        at = began if row["node"] == "admit" else ended
        place = (row["node"], row["candidate"], row["item"])
        return Span(
            id=self._trace.id_of("decision", self._rows.level, *place),
            parent=self._id,
            name=row["node"],
            began=at,
            ended=at,
            attributes=_given(
                {
                    names.NODE: row["node"],
                    names.LEVEL: self._rows.level,
                    names.CANDIDATE: row["candidate"],
                    names.ITEM: row["item"] if row["item"] >= 0 else None,
                    names.ACTION: row["action"],
                    names.REASON: _short(row["reason"]),
                }
            ),
        )

    def _times(
        self, calls: Iterable[Mapping[str, Any]], otherwise: datetime | None
    ) -> tuple[datetime, datetime]:
        """From the first attempt to the last answer; without a call, no time at all."""
        begins, ends = [], []
        for call in calls:
            ended = _time(call["finished_at"])
            tried = [_time(each["started_at"]) for each in self._rows.attempts.get(call["key"], ())]
            begins.append(min([*tried, ended]))
            ends.append(ended)
        if not begins:
            moment = self._rows.moment
            at = otherwise or (_time(moment) if moment else self._trace.created)
            return at, at
        return min(begins), max(ends)


def _failed(attempt: Mapping[str, Any], latest: datetime) -> Happening:
    """An attempt that got no usable reply."""
    at = _time(attempt["started_at"]) + timedelta(seconds=attempt["seconds"])
    told = {names.NUMBER: attempt["number"], names.PROBLEM: _short(attempt["problem"])}
    # What a clock said and what was measured differ by a moment.
    return Happening(names.ATTEMPT, min(at, latest), _given(told))


def _told_first(call: Mapping[str, Any]) -> list[Any]:
    """What it was asked before anything was asked again."""
    asked: list[Any] = value_of(call, "messages")
    return asked[:2]


def _messages(call: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, str]:
    """As JSON in ASCII, so that nothing in it acts on whoever shows it."""
    asked = [
        {"role": role, "parts": [{"type": "text", "content": texts[text]}]}
        for role, text in value_of(call, "messages")
    ]
    reasons, thoughts = value_of(call, "finish_reasons"), value_of(call, "thinking")
    said = [
        {
            "role": "assistant",
            "parts": [
                *({"type": "reasoning", "content": texts[each]} for each in thoughts[at : at + 1]),
                {"type": "text", "content": texts[text]},
            ],
            "finish_reason": reasons[at] if at < len(reasons) else "",
        }
        for at, text in enumerate(value_of(call, "texts"))
    ]
    return {names.INPUT_MESSAGES: json.dumps(asked), names.OUTPUT_MESSAGES: json.dumps(said)}


def _given(told: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if value is not None}


def _is_number(given: Mapping[str, Any], key: str) -> bool:
    return isinstance(given.get(key), int | float)


def _short(text: str | None) -> str | None:
    return None if text is None else shortened(text, LONGEST_REASON)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def nanoseconds(at: datetime) -> int:
    """Since 1970."""
    return (at - _EPOCH) // timedelta(microseconds=1) * 1000
