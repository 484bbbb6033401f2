"""A run as a trace: its spans nest, are one per row, and are sent once."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import Here
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes

import drpo
from drpo.checkpoints.runs import reading, run_paths
from drpo.fork import fork
from drpo.tracing import conventions, otel
from drpo.tracing.export import lines
from drpo.tracing.spans import Trace, trace_id, units

SMALL = ("search.levels=4", "search.queries_per_level=2")
ALIGNMENT = (
    "data.limit=40",
    "search=greedy",
    "search.levels=3",
    "search.queries_per_level=2",
    "examples.limit=2",
    "examples.rounds=1",
)
ANYWHERE = "telemetry.otlp=http://127.0.0.1:9"


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """In place of a collector."""
    exporter = InMemorySpanExporter()
    monkeypatch.setattr(exporter, "shutdown", lambda: None)
    monkeypatch.setattr(otel, "otlp_exporter", lambda address, headers: exporter)
    return exporter


def count(path: Path, sql: str) -> int:
    with closing(sqlite3.connect(path)) as db:
        [(number,)] = db.execute(sql)
    return int(number)


def paths_of(spans: Sequence[ReadableSpan]) -> Counter[str]:
    """How many spans there are below which others, by the first word of their names."""
    by_id = {_id(span): span for span in spans}
    assert len(by_id) == len(spans), "a span was sent twice"
    found: Counter[str] = Counter()
    for span in spans:
        names, above = [span.name.split()[0]], span.parent
        while above is not None:
            names.append(by_id[above.span_id].name.split()[0])
            above = by_id[above.span_id].parent
        found[" ".join(reversed(names))] += 1
    return found


def _id(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


def nodes(path: Path) -> dict[str, int]:
    """How many rows the nodes of a run left, by the name of the node."""
    with closing(sqlite3.connect(path)) as db:
        decisions = dict(db.execute("select node, count(*) from decision group by node"))
    return decisions | {
        "select_rewards": count(path, "select count(*) from selection"),
        "rewrite": count(path, "select count(distinct parent) from rewrite"),
        "evaluate": count(path, "select count(*) from verdict"),
    }


def expected(path: Path, above_levels: str) -> Counter[str]:
    """One span per row of the run's tables, nested."""
    asks = {
        "select_rewards": "role = 'rewarder'",
        "rewrite": "role = 'rewriter'",
        "evaluate": "role in ('target', 'judge')",
    }
    levels = "select count(distinct search || ' ' || level) from candidate"
    found = Counter({f"{above_levels} level": count(path, levels)})
    for name, number in nodes(path).items():
        found[f"{above_levels} level {name}"] = number
    for name, where in asks.items():
        calls = count(path, f"select count(*) from call where {where}")
        found[f"{above_levels} level {name} chat"] = calls
    return found


def test_spans_of_a_search_nest_and_are_one_per_row(
    sent: InMemorySpanExporter, tmp_path: Path
) -> None:
    """Run, levels, nodes, calls."""
    path = drpo.optimize_blocking(*SMALL, ANYWHERE, runs=tmp_path).path
    top = conventions.WORKFLOW
    assert paths_of(sent.get_finished_spans()) == expected(path, top) + Counter([top])


def test_spans_of_an_alignment_nest_and_are_one_per_row(
    sent: InMemorySpanExporter, tmp_path: Path
) -> None:
    """Between run and levels there are its searches; its findings are below the run."""
    path = drpo.align_blocking(*ALIGNMENT, ANYWHERE, runs=tmp_path).path
    top = conventions.WORKFLOW
    found = expected(path, f"{top} search") + Counter([top])
    found[f"{top} search"] = count(path, "select count(*) from search")
    found[f"{top} finding"] = count(path, "select count(*) from finding")
    assert paths_of(sent.get_finished_spans()) == found


def test_a_resumed_run_is_one_trace_without_a_span_twice(
    sent: InMemorySpanExporter, tmp_path: Path
) -> None:
    """What was sent before it stopped is not sent again; the trace has the id of the run."""
    with pytest.raises(drpo.BudgetReached):
        drpo.optimize_blocking(*SMALL, ANYWHERE, "budget.calls=40", runs=tmp_path)
    before = len(sent.get_finished_spans())
    done = drpo.resume_blocking(None, "budget.calls=null", runs=tmp_path)
    spans = sent.get_finished_spans()
    assert 0 < before < len(spans)
    assert paths_of(spans)[conventions.WORKFLOW] == 1
    assert {span.context.trace_id for span in spans if span.context} == {trace_id(done.run_id)}
    assert f"{trace_id(done.run_id):032x}" == done.run_id.replace("-", "")


class Collector(HTTPServer):
    """Keeps what it is sent, and may first do something at the n-th request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[ExportTraceServiceRequest] = []
        self.at: dict[int, Any] = {}
        self.elsewhere: str | None = None

    @property
    def address(self) -> str:
        """As `telemetry.otlp` takes it."""
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def spans(self) -> list[Any]:
        """All that came, in order."""
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    @contextmanager
    def listening(self) -> Iterator[None]:
        """In a thread of its own."""
        thread = threading.Thread(target=self.serve_forever)
        thread.start()
        try:
            yield
        finally:
            self.shutdown()
            self.server_close()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.requests.append(ExportTraceServiceRequest.FromString(body))
        self.server.at.pop(len(self.server.requests), lambda: None)()
        if self.server.elsewhere is None:
            self.send_response(200)
        else:
            self.send_response(302)
            self.send_header("Location", self.server.elsewhere)
        self.end_headers()

    def log_message(self, *words: object) -> None:
        """Nobody reads it."""


def test_a_killed_run_is_one_trace(tmp_path: Path) -> None:
    """Killed while a level is on its way, which is sent again: the same spans by the same ids."""
    words = ["optimize", *SMALL, "--runs", str(tmp_path)]
    collector = Collector()
    with collector.listening():
        command = [sys.executable, "-m", "drpo", *words, f"telemetry.otlp={collector.address}"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        collector.at[2] = lambda: os.kill(process.pid, signal.SIGKILL)
        assert process.wait(120) == -signal.SIGKILL
        done = drpo.resume_blocking(runs=tmp_path)
    spans = {span.span_id: span for span in collector.spans}
    assert all(span == spans[span.span_id] for span in collector.spans)
    with reading(done.path) as db:
        trace = Trace(db)
        made = [span for unit in units(db) for span in trace.spans(unit)]
    assert {int.from_bytes(each) for each in spans} == {span.id for span in made}
    assert {span.trace_id for span in spans.values()} == {trace.id.to_bytes(16)}


def test_a_collector_that_is_away_costs_a_line(tmp_path: Path, here: Here) -> None:
    """The run is done as without it, and its spans can be sent later."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        away = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        said = here("optimize", *SMALL, f"telemetry.otlp={away}", "--runs", "runs")
    assert said.returncode == 0
    assert "Traceback" not in said.stderr
    assert "drpo export --format otel --otlp" in said.stderr
    collector = Collector()
    with collector.listening():
        sent = here("export", "--format", "otel", "--otlp", collector.address)
    assert sent.returncode == 0
    [path] = run_paths(tmp_path / "runs")
    assert f"sent {len(collector.spans)} spans of trace {path.stem.replace('-', '')}" in sent.stderr


def test_a_collector_that_sends_one_elsewhere_took_nothing(tmp_path: Path, here: Here) -> None:
    """It is said where, and nothing counts as sent."""
    assert here("optimize", *SMALL, "--runs", "runs").returncode == 0
    collector = Collector()
    collector.elsewhere = "https://collector.example/v1/traces"
    with collector.listening():
        sent = here("export", "--format", "otel", "--otlp", collector.address)
    assert sent.returncode != 0
    assert collector.elsewhere in sent.stderr
    assert run_paths(tmp_path / "runs")


def test_no_text_is_sent_unless_it_is_asked_for(sent: InMemorySpanExporter, tmp_path: Path) -> None:
    """Neither query, prompt, answer nor rationale; with `texts` they are the conventions'."""
    path = drpo.optimize_blocking(*SMALL, ANYWHERE, runs=tmp_path).path
    with closing(sqlite3.connect(path)) as db:
        bodies = [body for (body,) in db.execute("select body from text") if len(body) > 20]
        queries = [body for (body,) in db.execute("select messages from query")]
    told = json.dumps([_told(span) for span in sent.get_finished_spans()])
    assert not [text for text in [*bodies, *queries] if json.dumps(text)[1:-1] in told]
    with reading(path) as db:
        trace = Trace(db, texts=True)
        calls = [span for unit in units(db) for span in trace.spans(unit) if span.asks]
    asked = json.loads(str(calls[0].attributes[conventions.INPUT_MESSAGES]))
    assert [turn["role"] for turn in asked] == ["system", "user"]
    said = json.loads(str(calls[0].attributes[conventions.OUTPUT_MESSAGES]))
    assert said[0]["parts"][0]["content"] in bodies


def _told(span: ReadableSpan) -> list[Any]:
    events = [[event.name, dict(event.attributes or {})] for event in span.events]
    return [span.name, dict(span.attributes or {}), events, span.status.description]


def test_the_names_are_those_of_the_conventions() -> None:
    """As the package of OpenTelemetry that is installed lists them."""
    known = {
        value
        for name, value in vars(gen_ai_attributes).items()
        if name.startswith("GEN_AI_") and isinstance(value, str)
    }
    ours = [value for value in _values(vars(conventions)) if value.startswith("gen_ai.")]
    assert ours
    assert {*ours} - {conventions.EVALUATION} <= known


def _values(names: Mapping[str, Any]) -> Iterator[str]:
    for value in names.values():
        if isinstance(value, dict):
            yield from _values(value)
        elif isinstance(value, str):
            yield value


def test_a_file_of_spans_has_what_is_sent(sent: InMemorySpanExporter, tmp_path: Path) -> None:
    """The same ids and names, one level a line, the run last."""
    path = drpo.optimize_blocking(*SMALL, ANYWHERE, runs=tmp_path).path
    written = [json.loads(line) for line in lines(path)]
    spans = [
        span
        for request in written
        for scope in request["resourceSpans"][0]["scopeSpans"]
        for span in scope["spans"]
    ]
    there = {(f"{_id(span):016x}", span.name) for span in sent.get_finished_spans()}
    assert {(span["spanId"], span["name"]) for span in spans} == there
    assert spans[-1]["name"].startswith(conventions.WORKFLOW)


def test_calls_that_a_fork_inherits_stay_spans_of_its_parent(
    sent: InMemorySpanExporter, tmp_path: Path
) -> None:
    """A fork is a trace of its own, with the calls that it paid for itself."""
    path = drpo.optimize_blocking(*SMALL, ANYWHERE, runs=tmp_path).path
    sent.clear()
    copy = fork(path, level=2, overrides=["search.levels=6"])
    done = drpo.resume_blocking(copy.id, runs=tmp_path)
    found = paths_of(sent.get_finished_spans())
    paid = count(done.path, "select count(*) from call where not inherited")
    assert sum(number for name, number in found.items() if name.endswith(" chat")) == paid > 0
    [run] = [span for span in sent.get_finished_spans() if span.parent is None]
    assert (run.attributes or {})[conventions.PARENT] == path.stem


def test_i4_spans_hold_nothing_that_a_terminal_would_act_on(tmp_path: Path) -> None:
    """Neither in reasons, names and notes nor, with texts, in what models wrote."""
    path = drpo.optimize_blocking(*SMALL, runs=tmp_path).path
    hostile = "\x1b[31mred\x9b\u202e"
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("update decision set reason = ?", [hostile])
        file.execute("update call set model = ?, provider = ?", [hostile, hostile])
        file.execute("update attempt set problem = ?", [hostile])
        file.execute("update verdict set unscored = ?", [hostile])
        file.execute("update text set body = ? where length(body) > 20", [hostile])
    written = "".join(lines(path, texts=True))
    assert written.isascii()
    with reading(path) as db:
        trace = Trace(db, texts=True)
        told = [span for unit in units(db) for span in trace.spans(unit)]
    flat = "".join(
        f"{span.name} {[*map(str, span.attributes.values())]} {span.failed}"
        f" {[str(value) for each in span.happenings for value in each.attributes.values()]}"
        for span in told
    )
    assert not {"\x1b", "\x9b", "\u202e"} & {*flat}


def test_i7_a_collectors_key_is_in_no_file_and_no_message(
    tmp_path: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A header names the variable with it; in clear, or in an address, it is refused."""
    monkeypatch.setenv("COLLECTOR_KEY", "s3cret-of-the-collector")
    collector = Collector()
    with collector.listening():
        said = here(
            "optimize",
            *SMALL,
            f"telemetry.otlp={collector.address}",
            'telemetry.headers={authorization: "env:COLLECTOR_KEY"}',
        )
    assert said.returncode == 0, said.stderr
    [path] = run_paths(tmp_path / "runs")
    assert collector.spans
    assert b"s3cret" not in path.read_bytes()
    for words in (
        ["telemetry.headers.authorization=s3cret"],
        ['telemetry.headers={authorization: "s3cret"}'],
        ["-m", 'telemetry.headers={authorization: "s3cret"}', "seed=1,2"],
        ["telemetry.otlp=http://u:s3cret@localhost"],
    ):
        refused = here("optimize", *SMALL, *words)
        assert refused.returncode == 2
        assert "s3cret" not in refused.stderr
    written = [each for each in tmp_path.rglob("*") if each.is_file()]
    assert not [each for each in written if b"s3cret" in each.read_bytes()]


def test_what_is_sent_where_is_checked_before_the_run(tmp_path: Path, here: Here) -> None:
    """A header whose variable is not set, and an address that is none."""
    unset = here("optimize", ANYWHERE, "telemetry.headers.x-a=env:NOT_THERE")
    assert (unset.returncode, unset.stdout) == (2, "")
    assert "NOT_THERE" in unset.stderr
    assert here("optimize", "telemetry.otlp=nowhere").returncode == 2
    assert here("export", "--format", "otel", "--otlp", "nowhere").returncode == 2
    assert not (tmp_path / "runs").exists()
