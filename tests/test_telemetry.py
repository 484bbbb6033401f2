"""A run's spans on their way to a collector: once each, whatever happens, and in nobody's way."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import Here
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

import drpo
from drpo.checkpoints.runs import reading, run_paths
from drpo.commands import drpo_command
from drpo.tracing import telemetry
from drpo.tracing.spans import Trace, units

SMALL = ("search.levels=4", "search.queries_per_level=2")
ANYWHERE = "telemetry.otlp=http://127.0.0.1:9"


class Collector(ThreadingHTTPServer):
    """Keeps what it takes, and may do something else at the n-th request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.taken: list[ExportTraceServiceRequest] = []
        self.headers: list[Message] = []
        self.at: dict[int, Any] = {}
        """What happens before the answer, by the request's number from 1 on."""
        self.refusals: dict[int, tuple[int, Mapping[str, str]]] = {}
        """Status and headers in place of 200, by the request's number; 0: of every one."""

    @property
    def address(self) -> str:
        """As `telemetry.otlp` takes it."""
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def spans(self) -> list[Any]:
        """All that was taken, in order."""
        return [
            span
            for request in self.taken
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
        collector = self.server
        body = self.rfile.read(int(self.headers["content-length"]))
        collector.headers.append(self.headers)
        number = len(collector.headers)
        collector.at.pop(number, lambda: None)()
        refusal = collector.refusals.get(number, collector.refusals.get(0))
        status, headers = refusal or (200, {})
        if refusal is None:
            collector.taken.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *words: object) -> None:
        """Nobody reads it."""


def hold(collector: Collector, path: Path) -> None:
    """Every span of the run came once."""
    with reading(path) as db:
        trace = Trace(db)
        made = [span.id for unit in units(db) for span in trace.spans(unit)]
    came = [int.from_bytes(span.span_id) for span in collector.spans]
    assert sorted(came) == sorted(made)
    assert {span.trace_id for span in collector.spans} == {trace.id.to_bytes(16)}


def test_a_run_that_is_killed_while_it_sends_is_one_trace(tmp_path: Path) -> None:
    """What was on its way is sent again: the same spans by the same ids."""
    words = ["optimize", *SMALL, "--runs", str(tmp_path)]
    collector = Collector()
    with collector.listening():
        process = started(*words, f"telemetry.otlp={collector.address}")
        collector.at[2] = lambda: os.kill(process.pid, signal.SIGKILL)
        assert process.wait(120) == -signal.SIGKILL
        done = drpo.resume_blocking(runs=tmp_path)
    spans = {span.span_id: span for span in collector.spans}
    assert all(span == spans[span.span_id] for span in collector.spans)
    with reading(done.path) as db:
        trace = Trace(db)
        made = [span for unit in units(db) for span in trace.spans(unit)]
    assert {int.from_bytes(each) for each in spans} == {span.id for span in made}


def started(*words: str) -> subprocess.Popen[bytes]:
    """A command in a process of its own."""
    command = [sys.executable, "-m", "drpo", *words]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_a_run_that_is_killed_while_its_collector_is_away_is_sent_once(tmp_path: Path) -> None:
    """When it is resumed and the collector is back."""
    collector = Collector()
    collector.refusals[0] = (500, {})
    with collector.listening():
        process = started(
            "optimize", *SMALL, "--runs", str(tmp_path), f"telemetry.otlp={collector.address}"
        )
        collector.at[2] = lambda: os.kill(process.pid, signal.SIGKILL)
        assert process.wait(120) == -signal.SIGKILL
        collector.refusals.clear()
        path = drpo.resume_blocking(runs=tmp_path).path
    hold(collector, path)


@pytest.mark.parametrize("refused", [(1,), (2, 3), (1, 3)])
def test_a_collector_that_comes_back_gets_every_span_once(
    refused: tuple[int, ...], tmp_path: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also the rest of a level of which it took a part."""
    monkeypatch.setattr(telemetry, "AT_ONCE", 7)
    collector = Collector()
    collector.refusals = {number: (503, {}) for number in refused}
    with collector.listening():
        said = here("optimize", *SMALL, f"telemetry.otlp={collector.address}")
    assert said.returncode == 0
    assert len(complaints(said.stderr)) == 1
    [path] = run_paths(tmp_path / "runs")
    hold(collector, path)


def complaints(said: str) -> list[str]:
    """Lines about spans."""
    return [line for line in said.splitlines() if "spans" in line]


class Odd(threading.Thread):
    """Takes connections, and answers nothing that HTTP knows, or nothing at all."""

    def __init__(self, answer: bytes | None) -> None:
        super().__init__(daemon=True)
        self._answer = answer
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._connections: list[socket.socket] = []

    def run(self) -> None:
        """Until it is closed."""
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self._connections.append(connection)
            if self._answer is not None:
                connection.recv(1)
                connection.sendall(self._answer)
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Nobody listens any more."""
        self._socket.shutdown(socket.SHUT_RDWR)
        for each in (*self._connections, self._socket):
            each.close()


def test_a_collector_that_is_not_there_costs_one_line(tmp_path: Path, here: Here) -> None:
    """With the very command that sends the spans later."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        away = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        said = here("optimize", *SMALL, f"telemetry.otlp={away}", "--runs", "elsewhere")
    assert said.returncode == 0
    [line] = complaints(said.stderr)
    assert "Connection refused" in line
    [path] = run_paths(tmp_path / "elsewhere")
    later = line.partition(f"later: {drpo_command()} ")[2].split()
    assert later == [
        *("export", path.stem[:8], "--format", "otel", "--otlp", away, "--runs", "elsewhere")
    ]
    collector = Collector()
    with collector.listening():
        sent = here(*(collector.address if word == away else word for word in later))
    assert sent.returncode == 0
    assert f"sent {len(collector.spans)} spans of trace {path.stem.replace('-', '')}" in sent.stderr
    hold(collector, path)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (None, "does not answer"),
        (b"\x1b[31m nothing that one knows\r\n\r\n", "does not speak HTTP"),
        (b"", "closed"),
    ],
)
def test_one_that_does_not_speak_the_protocol_costs_one_line(
    answer: bytes | None, says: str, here: Here
) -> None:
    """Whether it hangs, hangs up or talks."""
    odd = Odd(answer)
    odd.start()
    with closing(odd):
        said = here("optimize", *SMALL, f"telemetry.otlp={odd.address}")
    assert said.returncode == 0
    [line] = complaints(said.stderr)
    assert says in line
    assert "\x1b" not in said.stderr


@pytest.mark.parametrize(
    ("status", "headers", "says"),
    [
        (500, {}, "says 500 Internal Server Error"),
        (401, {}, "says 401 Unauthorized"),
        (503, {"Retry-After": "3600"}, "says 503 Service Unavailable"),
        (302, {"Location": "https://collector.example/\x1b[31m"}, "https://collector.example/"),
        (200, {"Content-Type": "text/html; charset=utf-8"}, "a web page answered"),
    ],
)
def test_one_that_refuses_costs_one_line(
    status: int, headers: Mapping[str, str], says: str, here: Here, tmp_path: Path
) -> None:
    """And nothing counts as sent."""
    collector = Collector()
    collector.refusals[0] = (status, headers)
    with collector.listening():
        said = here("optimize", *SMALL, f"telemetry.otlp={collector.address}")
        assert said.returncode == 0
        [line] = complaints(said.stderr)
        assert says in line
        assert "\x1b" not in said.stderr
        collector.refusals.clear()
        assert here("export", "--format", "otel", "--otlp", collector.address).returncode == 0
    hold(collector, run_paths(tmp_path / "runs")[0])


def test_an_export_tries_again_what_a_busy_collector_puts_off(tmp_path: Path, here: Here) -> None:
    """When the collector says."""
    path = drpo.optimize_blocking(*SMALL, runs=tmp_path / "runs").path
    collector = Collector()
    soon = {"Retry-After": "0"}
    collector.refusals = {1: (503, soon), 2: (429, soon), 4: (502, soon)}
    with collector.listening():
        assert here("export", "--format", "otel", "--otlp", collector.address).returncode == 0
    hold(collector, path)


def test_an_export_that_is_refused_fails(tmp_path: Path, here: Here) -> None:
    """At once, and in one line."""
    drpo.optimize_blocking(*SMALL, runs=tmp_path / "runs")
    collector = Collector()
    collector.refusals[0] = (400, {})
    with collector.listening():
        sent = here("export", "--format", "otel", "--otlp", collector.address)
    assert sent.returncode == 1
    assert sent.stderr == ("drpo: spans could not be sent: the collector says 400 Bad Request\n")
    assert len(collector.headers) == 1


def test_an_export_to_the_runs_own_collector_has_the_runs_headers(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that what could not be sent is sent by the command that the line names."""
    monkeypatch.setenv("COLLECTOR_KEY", "s3cret-of-the-collector")
    collector, other = Collector(), Collector()
    header = "telemetry.headers.authorization=env:COLLECTOR_KEY"
    with collector.listening(), other.listening():
        here("optimize", *SMALL, f"telemetry.otlp={collector.address}", header)
        for each in (collector, other):
            each.headers.clear()
            assert here("export", "--format", "otel", "--otlp", each.address).returncode == 0
    assert {told["authorization"] for told in collector.headers} == {"s3cret-of-the-collector"}
    assert {told["authorization"] for told in other.headers} == {None}


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
