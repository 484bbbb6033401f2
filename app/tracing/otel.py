"""Spans to a collector, by OpenTelemetry's SDK and its OTLP/HTTP exporter (extra `otel`).

Knows nothing of runs. The standard variables OTEL_* hold: endpoint, headers, timeout, certificates,
resource attributes, sampler, OTEL_SDK_DISABLED.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

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

TRACES = "/v1/traces"
AT_ONCE = 512
"""Spans in one request, as OpenTelemetry's own batches have."""


def otlp_exporter(address: str, headers: Mapping[str, str]) -> OTLPSpanExporter:
    """To the collector at this address; `headers` come on top of those in the environment."""
    given, session = dict(headers) or None, _session()
    if address == ENVIRONMENT:
        return OTLPSpanExporter(headers=given, session=session)
    base = address.rstrip("/")
    endpoint = base if base.endswith(TRACES) else base + TRACES
    return OTLPSpanExporter(endpoint=endpoint, headers=given, session=session)


def _session() -> requests.Session | None:
    """One for which a redirect is an error; None where the environment names another."""
    if any(name.endswith("_CREDENTIAL_PROVIDER") for name in os.environ):
        return None
    session = requests.Session()
    session.hooks["response"].append(_refuse_redirect)
    return session


def _refuse_redirect(response: requests.Response, **_: object) -> None:
    # The exporter takes whatever is below 400 for success, and does not follow.
    if response.is_redirect:
        response.close()
        where = response.headers["location"]
        raise requests.TooManyRedirects(f"the collector is elsewhere, it says: {where}")


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

    def send(self, trace: int, spans: Iterable[Span]) -> str | None:
        """Why they could not be sent; None where they were."""
        for span in spans:
            self._make(trace, span)
        made, said = self._made.taken(), _Said()
        with said.listening():
            for first in range(0, len(made), AT_ONCE):
                batch = made[first : first + AT_ONCE]
                if self._exporter.export(batch) is not SpanExportResult.SUCCESS:
                    return said.last or "the collector did not take them"
        return None

    def close(self) -> None:
        """Also from another thread, while `send` waits for a collector to come back."""
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
        self.last = ""
        self._thread = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        """Keeps what this thread's exporter says, and lets the rest pass."""
        if record.thread != self._thread:
            return True
        self.last = record.getMessage()
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
