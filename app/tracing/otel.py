"""Spans to a collector, by OpenTelemetry's SDK and its OTLP/HTTP exporter (extra `otel`).

Knows nothing of runs. The standard variables OTEL_* hold: endpoint, headers, timeout, certificates,
resource attributes, sampler, OTEL_SDK_DISABLED.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from typing import Any

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

import drpo
from drpo.conf.schema import ENVIRONMENT
from drpo.tracing import conventions
from drpo.tracing.spans import Span, nanoseconds
from drpo.wording import shortened

TRACES = "/v1/traces"
LATER = (429, 502, 503, 504)
"""What a collector says that may take the same spans in a moment, by OTLP's own rules."""
LONGEST = 200
"""Characters of what is said of a collector."""


class Untaken(Exception):
    """Why a collector did not take spans."""

    def __init__(self, why: str, *, again_in_s: float | None = None) -> None:
        super().__init__(shortened(why, LONGEST))
        self.again_in_s = again_in_s
        """When another try may do better; None where it would not."""


def otlp_exporter(address: str, headers: Mapping[str, str]) -> OTLPSpanExporter:
    """To the collector at this address; `headers` come on top of those in the environment."""
    # Whoever names another session in the environment has the exporter's own ways.
    named = any(name.endswith("_CREDENTIAL_PROVIDER") for name in os.environ)
    given, session = dict(headers) or None, None if named else _Session()
    if address == ENVIRONMENT:
        return OTLPSpanExporter(headers=given, session=session)
    base = address.rstrip("/")
    endpoint = base if base.endswith(TRACES) else base + TRACES
    return OTLPSpanExporter(endpoint=endpoint, headers=given, session=session)


class _Session(requests.Session):
    """Raises Untaken for whatever is no success.

    The exporter would try again by itself for ten seconds, in which nobody learns what is wrong,
    and takes a redirect for success.
    """

    def __init__(self) -> None:
        super().__init__()
        # A level takes minutes: nobody would notice that a connection died meanwhile.
        self.headers["Connection"] = "close"

    def request(self, *words: Any, **options: Any) -> requests.Response:
        try:
            response = super().request(*words, **options)
        except (requests.RequestException, ValueError) as error:
            raise Untaken(_reason(error)) from error
        problem = _problem(response)
        if problem is not None:
            raise problem
        return response


def _problem(response: requests.Response) -> Untaken | None:
    if response.is_redirect:
        return Untaken(f"the collector is elsewhere, it says: {response.headers['location']}")
    if not response.ok:
        again_in_s = _wait(response) if response.status_code in LATER else None
        said = f"the collector says {response.status_code} {response.reason or ''}"
        return Untaken(said, again_in_s=again_in_s)
    if response.headers.get("content-type", "").startswith("text/html"):
        return Untaken("a web page answered, which is no collector")
    return None


def _wait(response: requests.Response) -> float:
    """Seconds that the collector asks for; a date is not worth reading here."""
    try:
        return max(0.0, float(response.headers.get("retry-after", "1")))
    except ValueError:
        return 1.0


def _reason(error: Exception) -> str:
    """In the words of the system, which are at the bottom of what was raised."""
    if isinstance(error, requests.ReadTimeout):
        return "the collector did not answer in time"
    cause: BaseException = error
    while (below := cause.__cause__ or cause.__context__) is not None:
        cause = below
    if isinstance(cause, OSError):
        return cause.strerror or str(cause)
    said = "it does not speak HTTP, it says: " if isinstance(cause, HTTPException) else ""
    return f"{said}{cause}"


class Sender:
    """Sends spans as they are, ids and times included."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._ids = _GivenIds()
        self._made = _Made()
        resource = Resource.create({"service.version": drpo.__version__})
        if resource.attributes["service.name"] == "unknown_service":
            resource = resource.merge(Resource({"service.name": "drpo"}))
        # Whoever embeds drpo has a provider of their own, which is left alone.
        self._provider = TracerProvider(
            resource=resource, id_generator=self._ids, shutdown_on_exit=False
        )
        self._provider.add_span_processor(self._made)
        self._tracer = self._provider.get_tracer(
            "drpo", drpo.__version__, schema_url=conventions.SCHEMA_URL
        )

    def send(self, trace: int, spans: Sequence[Span]) -> Untaken | None:
        """In one request. Why they were not taken; None where they were."""
        for span in spans:
            self._make(trace, span)
        made, said = self._made.taken(), _Said()
        if not made:
            return None
        with said.listening():
            result = self._exporter.export(made)
        return None if result is SpanExportResult.SUCCESS else said.problem

    def close(self) -> None:
        """Also from another thread, while `send` waits for an answer."""
        self._exporter.shutdown()

    def _make(self, trace: int, span: Span) -> None:
        self._ids.trace, self._ids.span = trace, span.id
        above = INVALID_SPAN
        if span.parent is not None:
            above = NonRecordingSpan(_context(trace, span.parent))
        made = self._tracer.start_span(
            span.name,
            context=set_span_in_context(above),
            kind=SpanKind.CLIENT if span.asks else SpanKind.INTERNAL,
            attributes=dict(span.attributes),
            links=[Link(_context(trace, other)) for other in span.links],
            start_time=nanoseconds(span.began),
        )
        for each in span.happenings:
            made.add_event(each.name, dict(each.attributes), nanoseconds(each.at))
        if span.failed is not None:
            made.set_status(Status(StatusCode.ERROR, span.failed))
        made.end(nanoseconds(span.ended))


def _context(trace: int, span: int) -> SpanContext:
    return SpanContext(trace, span, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))


class _GivenIds(IdGenerator):
    """Those of the span that is being made."""

    trace = 0
    span = 0

    def generate_span_id(self) -> int:
        return self.span

    def generate_trace_id(self) -> int:
        return self.trace


class _Made(SpanProcessor):
    """Keeps what was made; the sampler of the environment may have left some out."""

    def __init__(self) -> None:
        self._spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is not None and span.context.trace_flags.sampled:
            self._spans.append(span)

    def taken(self) -> Sequence[ReadableSpan]:
        taken, self._spans = self._spans, []
        return taken


class _Said(logging.Filter):
    """What the exporter says of its troubles: it only logs them, which is no business of a user."""

    def __init__(self) -> None:
        super().__init__()
        self.problem = Untaken("the collector did not take them")
        self._thread = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        """Keeps what this thread's exporter says, and lets the rest pass."""
        if record.thread != self._thread:
            return True
        raised = [each for each in record.args or () if isinstance(each, Untaken)]
        self.problem = raised[0] if raised else Untaken(record.getMessage())
        return False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Meanwhile nothing of it gets onto the terminal."""
        logger = logging.getLogger(OTLPSpanExporter.__module__)
        logger.addFilter(self)
        try:
            yield
        finally:
            logger.removeFilter(self)
