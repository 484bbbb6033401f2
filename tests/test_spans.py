"""The spans of a run: one per row of its tables, each below the right one and within its time."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import spanned
from openai_server import OpenAIServer
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes

import drpo
from drpo.checkpoints.runs import reading, run_paths
from drpo.fork import fork
from drpo.graph.errors import TooManyFailures
from drpo.replay import replay
from drpo.tracing import conventions, otel
from drpo.tracing.export import _readable, lines
from drpo.tracing.spans import Trace, units

SMALL = ("search.levels=4", "search.queries_per_level=2")
ALIGNMENT = (
    "data.limit=40",
    "search=greedy",
    "search.levels=3",
    "search.queries_per_level=2",
    "examples.limit=2",
    "examples.rounds=1",
)
DRAWN_TWICE = (
    *("judge.samples=2", "models.judge.temperature=1", "models.judge.multiple=false"),
    "models.target.temperature=1",
)
ANYWHERE = "telemetry.otlp=http://127.0.0.1:9"
REFERENCE = Path(__file__).parents[2] / "shared" / "reference" / "gpt-3.5-turbo.json"


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


def hold(sent: InMemorySpanExporter, path: Path) -> None:
    """The spans that came are those that the tables call for."""
    spans = sent.get_finished_spans()
    assert spanned.tree(spans) == spanned.called_for(path)
    assert spanned.told_attempts(spans) == spanned.failed_attempts(path)
    assert spanned.told_scores(spans) == spanned.scores(path)
    assert not spanned.outside(spans)


def exported(path: Path) -> InMemorySpanExporter:
    """All spans of a file, as `drpo export` sends them."""
    exporter = InMemorySpanExporter()
    sender = otel.Sender(exporter)
    with _readable(path) as db:
        trace = Trace(db)
        for unit in units(db):
            assert sender.send(trace.id, trace.spans(unit)) is None
    return exporter


@pytest.mark.parametrize(
    "words",
    [
        SMALL,
        ("search=paper", "search.levels=6"),
        ("search=monte_carlo", "search.levels=4"),
        ("search=best_of_n",),
        (*SMALL, "rewards=static"),
        (*SMALL, *DRAWN_TWICE),
        ("task=examples", "examples.limit=2", "examples.rounds=2", "data.limit=20"),
    ],
    ids=lambda words: " ".join(words)[:40],
)
def test_spans_of_a_search_nest_and_are_one_per_row(
    words: tuple[str, ...], sent: InMemorySpanExporter, tmp_path: Path
) -> None:
    """Run, searches, levels, nodes, calls."""
    hold(sent, drpo.optimize_blocking(*words, ANYWHERE, runs=tmp_path).path)


def test_so_are_those_of_skips_and_extensions(sent: InMemorySpanExporter, tmp_path: Path) -> None:
    """A skip is a moment of its level, and no rewrite."""
    words = ("search.skip_above=2", "search.max_extension=2")
    path = drpo.optimize_blocking(*SMALL, *words, ANYWHERE, runs=tmp_path).path
    assert count(path, "select count(*) from candidate where origin = 'skip'") > 0
    assert count(path, "select max(level) from candidate") > 3
    hold(sent, path)


def test_so_are_those_of_an_alignment(sent: InMemorySpanExporter, tmp_path: Path) -> None:
    """Also where each query is answered twice, and each answer is judged by two calls."""
    words = (*ALIGNMENT, *DRAWN_TWICE, "validation.samples=2")
    path = drpo.align_blocking(*words, ANYWHERE, runs=tmp_path).path
    assert count(path, "select count(*) from finding") > 0
    hold(sent, path)


async def test_so_are_those_of_a_search_in_which_much_fails(
    server: OpenAIServer,
    sent: InMemorySpanExporter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_backoff: None,
) -> None:
    """Every failed attempt is an event of its call, and what was asked again a call of its own."""
    monkeypatch.setenv("OPENAI_API_KEY", "local")
    server.refuse("n")
    server.fail_next(status=503, times=3)
    server.fail_next(kind="garbage", role="judge", times=2)
    server.fail_next(kind="reset", role="rewriter")
    server.say_next("", role="target", finish_reason="content_filter", times=2)
    server.say_next("The first wo", role="target", finish_reason="length")
    server.say_next("no JSON at all", role="judge", times=5)
    server.say_next("no JSON at all", role="rewarder")
    server.say_next("", role="rewriter", refusal="That I will not do.")
    words = (*SMALL, *DRAWN_TWICE, "models=openai", f"openai.base_url={server.base_url}")
    done = await drpo.optimize(*words, "budget.failures=null", ANYWHERE, runs=tmp_path)
    assert count(done.path, "select count(*) from attempt where problem is not null") > 5
    assert count(done.path, "select count(*) from call where outcome != 'ok'") > 5
    hold(sent, done.path)


async def test_so_are_those_of_a_search_that_stopped_at_failures(
    server: OpenAIServer,
    sent: InMemorySpanExporter,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_backoff: None,
) -> None:
    """Calls whose place another one has taken stay where they were."""
    monkeypatch.setenv("OPENAI_API_KEY", "local")
    server.say_next("no JSON at all", role="judge", times=4)
    words = (*SMALL, "models=openai", f"openai.base_url={server.base_url}", ANYWHERE)
    with pytest.raises(TooManyFailures):
        await drpo.optimize(*words, runs=tmp_path)
    done = await drpo.resume(runs=tmp_path)
    assert count(done.path, "select count(*) from call where key like '%!%'") > 0
    hold(sent, done.path)


async def test_attempts_at_a_call_that_nobody_answered_are_events_of_the_run(
    server: OpenAIServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_backoff: None
) -> None:
    """Until it is answered, when they become its own."""
    monkeypatch.setenv("OPENAI_API_KEY", "local")
    server.fail_next(status=503, role="judge", times=99)
    words = (*SMALL, "models=openai", f"openai.base_url={server.base_url}", "concurrency=1")
    with pytest.raises(drpo.DrpoError):
        await drpo.optimize(*words, runs=tmp_path)
    [path] = run_paths(tmp_path)
    told = spanned.told_attempts(exported(path).get_finished_spans())
    assert {place for place, _ in told} == {spanned.TOP}
    hold(exported(path), path)


def test_so_are_those_of_a_run_that_was_resumed(sent: InMemorySpanExporter, tmp_path: Path) -> None:
    """What was sent before it stopped is not sent again; all of it is one trace."""
    with pytest.raises(drpo.BudgetReached):
        drpo.optimize_blocking(*SMALL, ANYWHERE, "budget.calls=40", runs=tmp_path)
    before = len(sent.get_finished_spans())
    path = drpo.resume_blocking(None, "budget.calls=null", runs=tmp_path).path
    spans = sent.get_finished_spans()
    assert 0 < before < len(spans)
    assert {f"{span.context.trace_id:032x}" for span in spans if span.context} == {
        path.stem.replace("-", "")
    }
    hold(sent, path)


@pytest.mark.parametrize("level", [0, 2])
def test_so_are_those_of_a_fork(level: int, sent: InMemorySpanExporter, tmp_path: Path) -> None:
    """A trace of its own, with the calls that it paid for itself; the others stay its parent's."""
    path = drpo.optimize_blocking(*SMALL, ANYWHERE, runs=tmp_path).path
    sent.clear()
    copy = fork(path, level=level, overrides=["search.levels=6"])
    done = drpo.resume_blocking(copy.id, runs=tmp_path)
    assert count(done.path, "select count(*) from call where inherited") > 0
    hold(sent, done.path)
    [run] = [span for span in sent.get_finished_spans() if span.parent is None]
    assert (run.attributes or {})[conventions.PARENT] == path.stem


def test_a_replay_sends_nothing(sent: InMemorySpanExporter, tmp_path: Path) -> None:
    """It is no run."""
    path = drpo.optimize_blocking(*SMALL, ANYWHERE, runs=tmp_path).path
    sent.clear()
    assert replay(path).same
    assert not sent.get_finished_spans()


def test_so_are_those_of_a_recorded_run(tmp_path: Path) -> None:
    """Of the paper's authors, imported."""
    if not REFERENCE.exists():
        pytest.skip(f"the recorded run is not here: {REFERENCE}")
    words = [sys.executable, "-m", "benchmarks.import_reference", str(REFERENCE)]
    root = Path(__file__).parents[1]
    subprocess.run([*words, "--runs", str(tmp_path)], cwd=root, capture_output=True, check=True)
    [path] = run_paths(tmp_path)
    hold(exported(path), path)


def test_no_text_is_sent_unless_it_is_asked_for(sent: InMemorySpanExporter, tmp_path: Path) -> None:
    """Neither query, prompt, answer nor rationale; with `texts` they are the conventions'."""
    path = drpo.optimize_blocking(*SMALL, ANYWHERE, runs=tmp_path).path
    with closing(sqlite3.connect(path)) as db:
        bodies = [body for (body,) in db.execute("select body from text") if len(body) > 20]
        others = [text for (text,) in db.execute("select rationale from scores") if text]
        others += [text for (text,) in db.execute("select reason from selection") if text]
        for (messages,) in db.execute("select messages from query"):
            others += [text for _, text in json.loads(messages)]
    told = json.dumps([_told(span) for span in sent.get_finished_spans()])
    assert bodies
    assert others
    assert not [text for text in [*bodies, *others] if json.dumps(text)[1:-1] in told]
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
    there = {(f"{spanned.id_of(span):016x}", span.name) for span in sent.get_finished_spans()}
    assert {(span["spanId"], span["name"]) for span in spans} == there
    assert spans[-1]["name"].startswith(conventions.WORKFLOW)


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
