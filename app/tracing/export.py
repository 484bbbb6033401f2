"""The trace of a run for other tools: as OTLP in JSON lines, or to a collector.

Each line is one ExportTraceServiceRequest, as the OpenTelemetry protocol writes it in JSON, in
ASCII: the file that a collector's `otlpjsonfile` receiver reads.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlite_utils import Database

import drpo
from drpo.checkpoints.rows import SoundRow
from drpo.checkpoints.runs import open_database, reading
from drpo.checkpoints.schema import migrations
from drpo.conf.schema import TelemetrySettings
from drpo.graph.errors import BadInput, RunFailed
from drpo.settings import stored_settings
from drpo.tracing import conventions
from drpo.tracing.spans import Attributes, Span, Trace, nanoseconds, units
from drpo.tracing.telemetry import batches, sender_of

if TYPE_CHECKING:
    from drpo.tracing.otel import Sender

TRIES = 5
"""Of one request, where the collector says that it is busy."""
LONGEST_WAIT_S = 30.0
"""However long the collector asks for."""
INTERNAL, CLIENT = 1, 3
"""Kinds of spans."""
ERROR = 2
"""A span's status."""


def lines(path: Path, *, texts: bool = False) -> Iterator[str]:
    """One a level, and one a search; the last is the run itself. Raises BadInput."""
    with _readable(path) as db:
        trace = Trace(db, texts=texts)
        for unit in units(db):
            request = _request(trace.id, trace.spans(unit))
            yield json.dumps(request, separators=(",", ":"), allow_nan=False) + "\n"


def send(path: Path, settings: TelemetrySettings, say: Callable[[str], None]) -> None:
    """All of a run's spans to the collector that the settings name.

    Raises BadInput, and RunFailed where they could not be sent.
    """
    count = 0
    with _readable(path) as db, closing(sender_of(_with_own_headers(settings, db))) as sender:
        trace = Trace(db, texts=settings.texts)
        for unit in units(db):
            spans = trace.spans(unit)
            for batch in batches(spans):
                _sent(sender, trace.id, spans[batch])
            count += len(spans)
    say(f"sent {count:,} spans of trace {trace.id:032x}")


def _with_own_headers(settings: TelemetrySettings, db: Database) -> TelemetrySettings:
    """Those of the run, where it goes to the run's own collector."""
    [row] = db.query("select id, settings from run")
    with suppress(BadInput):
        own = stored_settings(row["id"], row["settings"]).telemetry
        if own.otlp == settings.otlp:
            return settings.model_copy(update={"headers": own.headers})
    return settings


def _sent(sender: Sender, trace: int, spans: Sequence[Span]) -> None:
    for tries_left in reversed(range(TRIES)):
        problem = sender.send(trace, spans)
        if problem is None:
            return
        if problem.again_in_s is None or not tries_left:
            raise RunFailed(f"spans could not be sent: {problem}")
        time.sleep(min(problem.again_in_s, LONGEST_WAIT_S))


@contextmanager
def _readable(path: Path) -> Iterator[Database]:
    """The run's file; one of an older version in memory, brought up to date."""
    with reading(path) as db:
        if not list(migrations.pending(db)):
            yield db
            return
        with open_database(sqlite3.connect(":memory:")) as copy:
            db.conn.backup(copy.conn)
            migrations.apply(copy)
            copy.conn.row_factory = SoundRow
            yield copy


def _request(trace: int, spans: list[Span]) -> dict[str, Any]:
    service = {"service.name": "drpo", "service.version": drpo.__version__}
    scope = {"name": "drpo", "version": drpo.__version__}
    inside = {
        "scope": scope,
        "schemaUrl": conventions.SCHEMA_URL,
        "spans": [_span(trace, span) for span in spans],
    }
    whose = {"resource": {"attributes": _attributes(service)}, "scopeSpans": [inside]}
    return {"resourceSpans": [whose]}


def _span(trace: int, span: Span) -> dict[str, Any]:
    told: dict[str, Any] = {
        "traceId": f"{trace:032x}",
        "spanId": f"{span.id:016x}",
        "name": span.name,
        "kind": CLIENT if span.asks else INTERNAL,
        "startTimeUnixNano": str(nanoseconds(span.began)),
        "endTimeUnixNano": str(nanoseconds(span.ended)),
        "attributes": _attributes(span.attributes),
    }
    if span.parent is not None:
        told["parentSpanId"] = f"{span.parent:016x}"
    if span.happenings:
        told["events"] = [
            {
                "timeUnixNano": str(nanoseconds(each.at)),
                "name": each.name,
                "attributes": _attributes(each.attributes),
            }
            for each in span.happenings
        ]
    if span.links:
        told["links"] = [
            {"traceId": f"{trace:032x}", "spanId": f"{other:016x}"} for other in span.links
        ]
    if span.failed is not None:
        told["status"] = {"code": ERROR, "message": span.failed}
    return told


def _attributes(told: Attributes) -> list[dict[str, Any]]:
    return [{"key": name, "value": _value(value)} for name, value in told.items()]


def _value(value: object) -> dict[str, Any]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case str():
            return {"stringValue": value}
        case list() | tuple():
            return {"arrayValue": {"values": [_value(each) for each in value]}}
        case _:
            raise TypeError(f"no attribute can be {value!r}")
