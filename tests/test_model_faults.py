"""Rows L and M of FAULTS by their ids: servers that fail, models that say what they should not.

Over HTTP, through the real langchain-openai; what is about a run, through a whole small search.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import Here
from openai_server import Kind, OpenAIServer, Seen

import drpo
from drpo.checkpoints.ledger import SqliteLedger
from drpo.checkpoints.reader import status, summary
from drpo.checkpoints.runs import reading
from drpo.checkpoints.store import RunStore
from drpo.conf.schema import OpenAISettings
from drpo.fork import fork
from drpo.graph.errors import BadInput, ProviderRefused, ProviderStopped, RunPaused
from drpo.graph.requests import TOO_LONG, Request
from drpo.graph.values import ROLES, Aspect, Message, Rewrite, Sample, Selection, Verdict
from drpo.models import caller as caller_module
from drpo.models import provider as provider_module
from drpo.models.caller import LedgeredCaller
from drpo.models.limiter import limiter_of
from drpo.models.openai import OpenAIProvider, http_client
from drpo.models.provider import TransportError
from drpo.nodes import judge as judge_node
from drpo.nodes.messages import asked_again
from drpo.nodes.parsing import (
    NOT_MENTIONED,
    flaw_of_rewrite,
    flaw_of_selection,
    flaw_of_verdict,
    read_rewrites,
    read_selection,
    read_verdict,
)
from drpo.nodes.prompts import JinjaTemplates
from drpo.nodes.target import CUT, FINE, read_sample
from drpo.replay import replay
from drpo.run import Snapshot

pytestmark = pytest.mark.usefixtures("no_backoff")

CLARITY, DEPTH = Aspect("Clarity", "clear"), Aspect("Depth", "deep")
POOL = (CLARITY, DEPTH)
AGAIN = asked_again(JinjaTemplates())
HELLO = (Message("system", "Be kind."), Message("user", "Hello?"))


@pytest.fixture
async def server() -> AsyncIterator[OpenAIServer]:
    async with OpenAIServer(profile="rewrite") as running:
        yield running


Make = Callable[..., LedgeredCaller]


@pytest.fixture
async def make(server: OpenAIServer, store: RunStore) -> AsyncIterator[Make]:
    """A caller whose four roles are on the server; `changes` are to their settings."""
    async with http_client() as client:

        def made(**changes: Any) -> LedgeredCaller:
            options: dict[str, Any] = {"seed": 0, "concurrency": changes.pop("at_once", 16)}
            options |= {name: changes.pop(name) for name in ("past", "say") if name in changes}
            values = {"provider": "openai", "base_url": server.base_url} | changes
            return LedgeredCaller(
                {
                    role: OpenAIProvider(
                        OpenAISettings.model_validate({"model": role} | values), client
                    )
                    for role in ROLES
                },
                SqliteLedger(store),
                **options,
            )

        yield made


def to_target(text: str = "Hello?", **changes: Any) -> Request[Any]:
    values: dict[str, Any] = {
        "messages": (Message("system", "Be kind."), Message("user", text)),
        "parse": read_sample,
        "fine": FINE,
    }
    return Request(role="target", level=0, candidate=0, query=0, **values | changes)


def to_judge(*aspects: Aspect) -> Request[Verdict]:
    aspects = aspects or POOL
    return Request(
        role="judge",
        level=0,
        candidate=0,
        query=0,
        messages=HELLO,
        parse=partial(read_verdict, aspects=aspects),
        flaw=partial(flaw_of_verdict, aspects=aspects),
        again=AGAIN,
        schema=judge_node.SCHEMA,
    )


def to_rewarder() -> Request[Selection]:
    return Request(
        role="rewarder",
        level=0,
        candidate=None,
        query=0,
        messages=HELLO,
        parse=partial(read_selection, pool=POOL, fewest=1, most=5),
        flaw=partial(flaw_of_selection, pool=POOL, fewest=1),
        again=AGAIN,
    )


def to_rewriter(n: int = 1) -> Request[tuple[Rewrite, ...]]:
    current = {"system": "Be kind."}
    return Request(
        role="rewriter",
        level=0,
        candidate=0,
        query=None,
        messages=HELLO,
        parse=partial(read_rewrites, names=("system",), current=current),
        flaw=partial(flaw_of_rewrite, names=("system",), current=current),
        again=AGAIN,
        n=n,
    )


def judging(**scores: Any) -> str:
    """A judge's reply."""
    entries = [{"aspect": n, "rationale": "so", "score": score} for n, score in scores.items()]
    return json.dumps({"verdict": entries})


def choosing(*aspects: str | Mapping[str, str]) -> str:
    """A rewarder's reply."""
    return json.dumps({"reason": "so", "aspects": aspects})


def rewriting(text: str) -> str:
    """A rewriter's reply."""
    return json.dumps({"analysis": "so", "prompts": {"system": text}})


def body(seen: Seen) -> dict[str, Any]:
    assert seen.body is not None
    return seen.body


def bodies(server: OpenAIServer, role: str | None = None) -> list[dict[str, Any]]:
    """Of the requests to one role, or to all."""
    return [body(seen) for seen in server.requests if role in (None, seen.role)]


def faults(server: OpenAIServer) -> int:
    return sum(seen.fault is not None for seen in server.requests)


async def column(store: RunStore, sql: str) -> list[Any]:
    return [row[0] for row in await store.read(sql)]


async def outcomes(store: RunStore) -> list[str]:
    return await column(store, "select outcome from call order by finished_at, rowid")


async def problems(store: RunStore) -> list[str | None]:
    return await column(store, "select problem from attempt order by started_at, number")


SHORT = (
    "models=openai",
    "search=greedy",
    "search.levels=2",
    "search.max_extension=0",
    "search.rewrites=2",
    "search.queries_per_level=4",
)


async def optimized(server: OpenAIServer, folder: Path, *words: str, **options: Any) -> Any:
    """What a small search on that server comes to."""
    address = f"openai.base_url={server.base_url}"
    return (await drpo.optimize(*SHORT, address, *words, runs=folder, **options)).summary


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the small search comes to where nothing goes wrong."""

    async def run() -> Any:
        async with OpenAIServer(profile="rewrite") as server:
            return await optimized(server, tmp_path_factory.mktemp("whole"))

    return asyncio.run(run())


# L1: too many requests


@pytest.mark.parametrize("headers", [{"Retry-After": "0.3"}, {"retry-after-ms": "300"}], ids=str)
async def test_l1_a_servers_wait_is_honoured_and_counted(
    headers: dict[str, str], server: OpenAIServer, make: Make, store: RunStore
) -> None:
    """In seconds and in milliseconds; each attempt is in the ledger."""
    server.fail_next(status=429, headers=headers)
    assert (await make().ask(to_target())).value.text
    first, second = server.requests
    assert second.at - first.at >= 0.3
    found = await problems(store)
    assert "429" in str(found[0])
    assert found[1:] == [None]


@pytest.mark.parametrize("header", ["Retry-After", "retry-after"])
async def test_l1_a_wait_until_a_date_is_understood(header: str, server: OpenAIServer) -> None:
    """As HTTP writes dates."""
    until = datetime.now(UTC) + timedelta(seconds=1_000)
    server.fail_next(status=429, headers={header: format_datetime(until, usegmt=True)})
    values = {"provider": "openai", "model": "target", "base_url": server.base_url}
    async with http_client() as client:
        provider = OpenAIProvider(OpenAISettings.model_validate(values), client)
        with pytest.raises(TransportError) as caught:
            await provider.complete(caller_module._call_of(to_target()))
    assert caught.value.wait_s is not None
    assert 500 < caught.value.wait_s <= 1_000


async def test_l1_concurrency_shrinks_and_recovers(make: Make) -> None:
    """Half of what was in flight when the server was busy, and by and by more again."""
    async with OpenAIServer(latency_s=0.02) as server:
        server.fail_next(status=429, times=8)
        caller = make(base_url=server.base_url)
        await asyncio.gather(*(caller.ask(to_target(f"a{n}")) for n in range(8)))
        shrunk = caller._limiter("target").allowed
        assert 4 <= shrunk < 8
        server.largest_in_flight = 0
        await asyncio.gather(*(caller.ask(to_target(f"b{n}")) for n in range(16)))
        assert server.largest_in_flight < 8
        for round_ in range(3):
            await asyncio.gather(*(caller.ask(to_target(f"c{round_}{n}")) for n in range(16)))
        assert caller._limiter("target").allowed > 8
        assert server.largest_in_flight > shrunk


async def test_l1_roles_on_one_server_are_held_back_together(
    server: OpenAIServer, make: Make
) -> None:
    """A busy server is busy for all."""
    server.fail_next(status=429, role="target")
    caller = make()
    await asyncio.gather(caller.ask(to_target()), caller.ask(to_judge()))
    provider = caller._providers["judge"]
    assert caller._limiter("target") is limiter_of(provider.limits)
    assert limiter_of(provider.limits).allowed < 4


async def test_l1_who_waits_for_a_server_does_not_hold_up_the_end(
    server: OpenAIServer, make: Make
) -> None:
    """Nothing is paid for yet, so it is given up at once."""
    server.fail_next(status=429, headers={"Retry-After": "50"})
    caller = make()
    asked = [asyncio.create_task(caller.ask(to_target("first")))]
    while caller._limiter("target").allowed == math.inf:
        await asyncio.sleep(0.001)
    asked.append(asyncio.create_task(caller.ask(to_target("second"))))
    while not caller._limiter("target")._waiting:
        await asyncio.sleep(0.001)
    async with asyncio.timeout(30):
        await caller.aclose()
    ends = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(end) for end in ends] == [RunPaused] * 2
    assert len(server.requests) == 1


# L2, L3: nothing to wait for


@pytest.mark.parametrize(
    "fault",
    [{"headers": {"Retry-After": "3600"}}, {"code": "insufficient_quota"}],
    ids=["L2", "L3"],
)
async def test_l2_l3_the_run_pauses_and_goes_on_later(
    fault: dict[str, Any], server: OpenAIServer, whole: Any, tmp_path: Path
) -> None:
    """At the first such answer, without another request, with an exit code of its own."""
    server.fail_next(status=429, role="judge", **fault)
    with pytest.raises(ProviderStopped, match="429") as caught:
        await optimized(server, tmp_path, "concurrency=1")
    assert caught.value.exit_code == 5
    assert server.requests[-1].fault is not None
    assert faults(server) == 1
    [path] = tmp_path.glob("*.sqlite")
    assert status(path) == "paused"
    paid = {seen.sha256 for seen in server.requests if seen.done}
    asked = len(server.requests)
    resumed = (await drpo.resume(runs=tmp_path)).summary
    assert resumed["tree_sha256"] == whole["tree_sha256"]
    assert not paid & {seen.sha256 for seen in server.requests[asked:]}


async def test_l2_patience_is_a_setting(server: OpenAIServer, make: Make) -> None:
    """What one is too impatient for, another waits for."""
    server.fail_next(status=429, headers={"retry-after-ms": "200"}, times=2)
    with pytest.raises(ProviderStopped):
        await make(patience_s=0.1).ask(to_target())
    assert (await make(patience_s=0.3).ask(to_target())).value.text


async def test_l2_nobody_who_waits_in_line_asks_in_vain(server: OpenAIServer, make: Make) -> None:
    """One answer stops them all, with its own words."""
    server.fail_next(status=429, headers={"Retry-After": "3600"})
    caller = make(at_once=1)
    asked = (caller.ask(to_target(str(n))) for n in range(9))
    async with asyncio.timeout(30):
        ends = await asyncio.gather(*asked, return_exceptions=True)
        await caller.aclose()
    assert {(type(end), str(end)) for end in ends} == {(ProviderStopped, str(ends[0]))}
    assert len(server.requests) == 1


# L4 to L8: broken servers and connections


@pytest.mark.parametrize("code", [500, 502, 503, 529])
async def test_l4_a_broken_server_is_asked_again_but_not_for_ever(
    code: int, server: OpenAIServer, make: Make, store: RunStore
) -> None:
    """As often as `attempts` says; then the run pauses."""
    server.fail_next(status=code, times=2)
    assert (await make(attempts=3).ask(to_target())).value.text
    assert [str(code) in str(problem) for problem in await problems(store)] == [True, True, False]
    server.fail_next(status=code, times=99)
    with pytest.raises(ProviderStopped, match=str(code)):
        await make(attempts=3).ask(to_target("again"))
    assert len(server.requests) == 6


async def test_l4_waits_grow_and_differ(
    server: OpenAIServer, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each between half of the longest and the longest, drawn for the call."""
    waits: list[float] = []
    wait = provider_module.wait_s

    def noted(*arguments: Any) -> float | None:
        waits.append(wait(*arguments) or 0.0)
        return 0.0 if waits[-1] else None

    monkeypatch.setattr(caller_module, "wait_s", noted)
    monkeypatch.setattr(provider_module, "FIRST_BACKOFF_S", 1.0)
    monkeypatch.setattr(provider_module, "LONGEST_BACKOFF_S", 6.0)
    server.fail_next(status=500, times=10)
    for text in ("a", "b"):
        with pytest.raises(ProviderStopped):
            await make(attempts=5).ask(to_target(text))
    longest = [1.0, 2.0, 4.0, 6.0]
    for of_one in (waits[:4], waits[5:9]):
        assert all(most / 2 <= each <= most for each, most in zip(of_one, longest, strict=True))
    assert waits[:4] != waits[5:9]
    assert waits[4] == waits[9] == 0


@pytest.mark.parametrize("kind", ["reset", "cut"])
async def test_l5_a_broken_connection_is_tried_again(
    kind: Kind, server: OpenAIServer, make: Make, store: RunStore
) -> None:
    """And half of an answer is none: the ledger has the whole one."""
    server.fail_next(kind=kind)
    said = (await make().ask(to_target())).value.text
    assert said.endswith(".")
    assert len(server.requests) == 2
    assert await outcomes(store) == ["ok"]
    assert await column(
        store, "select body from text, call where sha256 = json_extract(texts, '$[0]')"
    ) == [said]
    assert "cannot reach the server" in str((await problems(store))[0])


async def test_l5_a_server_that_is_away_is_tried_again(make: Make, store: RunStore) -> None:
    """Connection refused; the run pauses when that goes on."""
    with pytest.raises(ProviderStopped, match="cannot reach the server"):
        await make(base_url="http://127.0.0.1:9/v1", attempts=3).ask(to_target())
    assert len(await problems(store)) == 3
    assert await outcomes(store) == []


async def test_l5_a_network_that_is_cut_in_the_middle_pauses_the_run(
    whole: Any, tmp_path: Path
) -> None:
    """Nothing listens any more; once something does, the run ends as if it had always."""
    server = OpenAIServer(profile="rewrite")
    cut: list[asyncio.Task[None]] = []

    def observe(snapshot: Snapshot) -> None:
        if snapshot.done == 1:
            cut.append(asyncio.create_task(server.__aexit__(None, None, None)))

    await server.__aenter__()
    port = int(server.base_url.split(":")[2].split("/")[0])
    with pytest.raises(ProviderStopped, match="cannot reach the server"):
        await optimized(server, tmp_path, observer=observe)
    await asyncio.gather(*cut)
    [path] = tmp_path.glob("*.sqlite")
    assert summary(path)["status"] == "paused"
    async with OpenAIServer(profile="rewrite", port=port):
        ended = await drpo.resume(None, runs=tmp_path)
    assert ended.summary["tree_sha256"] == whole["tree_sha256"]


async def test_l6_an_attempt_that_hangs_is_tried_again(
    server: OpenAIServer, make: Make, store: RunStore
) -> None:
    """After `timeout_s`."""
    server.fail_next(kind="hang")
    assert (await make(timeout_s=0.5).ask(to_target())).value.text
    assert await problems(store) == ["no reply within 0.5 s", None]


async def test_l6_attempts_together_have_a_deadline(server: OpenAIServer, make: Make) -> None:
    """Long before `attempts` are used up."""
    server.fail_next(kind="hang", times=99)
    with pytest.raises(ProviderStopped, match="no reply"):
        await make(timeout_s=0.05, deadline_s=0.2, attempts=20).ask(to_target())
    assert len(server.requests) < 20


async def test_l6_the_deadline_ends_an_attempt(server: OpenAIServer, make: Make) -> None:
    """One that hangs may not go on for its own `timeout_s`."""
    server.fail_next(kind="hang")
    began = time.monotonic()
    with pytest.raises(ProviderStopped, match=r"no reply within 0\.1 s"):
        await make(timeout_s=3_600, deadline_s=0.1).ask(to_target())
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("style", ["chat", "text"])
@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "html"},
        {"kind": "html", "headers": {"Content-Type": "application/json"}},
        {"kind": "garbage"},
        {"kind": "error200", "message": "overloaded"},
        {"kind": "empty"},
    ],
    ids=["html", "html as json", "garbage", "error", "no choices"],
)
async def test_l7_l8_what_is_no_reply_is_asked_for_again(
    fault: dict[str, Any], style: str, server: OpenAIServer, make: Make, store: RunStore
) -> None:
    """Whatever its status says."""
    server.fail_next(**fault)
    assert (await make(format=style).ask(to_target())).value.text
    first, second = await problems(store)
    assert first is not None
    assert second is None
    assert await outcomes(store) == ["ok"]


# L9 to L12: what the server does not do


OVERFLOWS: Mapping[str, object] = {
    "openai": {
        "error": {
            "message": "This model's maximum context length is 128000 tokens.",
            "type": "invalid_request_error",
            "param": "messages",
            "code": "context_length_exceeded",
        }
    },
    "vllm": {
        "object": "error",
        "message": "This model's maximum context length is 4096 tokens. However, you requested "
        "5000 tokens (4000 in the messages, 1000 in the completion). Please reduce the length "
        "of the messages or completion.",
        "type": "BadRequestError",
        "param": None,
        "code": 400,
    },
    "llama.cpp": {
        "error": {
            "code": 400,
            "message": "the request exceeds the available context size, try increasing it",
            "type": "exceed_context_size_error",
        }
    },
    "anthropic": {"error": {"message": "prompt is too long: 210000 tokens > 200000 maximum"}},
    "google": [{"error": {"message": "The input token count (9) exceeds the maximum number"}}],
    "groq": {"error": {"message": "Request too large for model `m`: Limit 6000, Requested 8000"}},
    "xai": {"error": "This model's maximum prompt length is 131072."},
    "tgi": {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096"},
}


@pytest.mark.parametrize("words", OVERFLOWS)
async def test_l9_a_question_that_is_too_long_is_not_asked_again(
    words: str, server: OpenAIServer, make: Make, store: RunStore
) -> None:
    """It has an outcome of its own."""
    server.refuse("messages", body=OVERFLOWS[words])
    caller = make()
    sample = (await caller.ask(to_target())).value
    assert sample.failure is not None
    assert TOO_LONG in sample.failure
    assert len(server.requests) == 1
    assert await outcomes(store) == ["context_overflow"]
    assert caller.usage.roles["target"].outcomes == {"context_overflow": 1}


@pytest.mark.parametrize("times", [1, 9])
async def test_l9_the_rewriter_is_asked_once_more_without_history(
    times: int, server: OpenAIServer, tmp_path: Path
) -> None:
    """Where that does not help either, the parent is carried on."""

    def observe(snapshot: Snapshot) -> None:
        if snapshot.done == 2:
            server.fail_next(
                status=400, role="rewriter", times=times, code="context_length_exceeded"
            )

    words = ("search.levels=3", "search.queries_per_level=1")
    told = await optimized(server, tmp_path, *words, observer=observe)
    shown = [each["messages"][-1]["content"] for each in bodies(server, "rewriter")]
    assert ["Earlier prompts" in text for text in shown] == [False, True, False]
    assert told["status"] == "done"
    [path] = tmp_path.glob("*.sqlite")
    with reading(path) as db:
        origins = [row["origin"] for row in db.query("select origin from candidate where level=2")]
    assert ("rewrite" in origins) is (times == 1)


@pytest.mark.parametrize(
    ("status_", "code"),
    [(401, "invalid_api_key"), (403, None), (404, "model_not_found"), (400, "model_not_found")],
)
async def test_l10_a_wrong_key_or_model_stops_at_the_first_call(
    status_: int, code: str | None, server: OpenAIServer, tmp_path: Path
) -> None:
    """Before anything is spent or left behind."""
    server.fail_next(status=status_, code=code, times=99)
    with pytest.raises(BadInput, match=str(status_)):
        await optimized(server, tmp_path, "concurrency=1")
    assert len(server.requests) == 1
    assert not list(tmp_path.glob("*.sqlite"))


async def test_l10_a_key_that_is_withdrawn_pauses_the_run(
    server: OpenAIServer, whole: Any, tmp_path: Path
) -> None:
    """With nothing more asked, and nothing lost."""
    server.fail_next(status=401, role="judge")
    with pytest.raises(ProviderRefused) as caught:
        await optimized(server, tmp_path, "concurrency=1")
    assert caught.value.exit_code == 5
    assert server.requests[-1].fault is not None
    resumed = (await drpo.resume(runs=tmp_path)).summary
    assert resumed["tree_sha256"] == whole["tree_sha256"]


AZURE = {
    "error": {
        "message": "The response was filtered due to the prompt triggering Azure OpenAI's content "
        "management policy.",
        "type": None,
        "param": "prompt",
        "code": "content_filter",
        "status": 400,
    }
}


@pytest.mark.parametrize("form", ["error", "finish reason"])
async def test_l11_a_content_filter_is_an_outcome(
    form: str, server: OpenAIServer, make: Make, store: RunStore
) -> None:
    """Not asked again, and counted, whichever way the server tells."""
    if form == "error":
        server.refuse("messages", body=AZURE)
    else:
        server.say_next("The first wo", finish_reason="content_filter")
    caller = make()
    sample = (await caller.ask(to_target())).value
    assert sample.text == ""
    assert "content filter" in str(sample.failure)
    assert len(server.requests) == 1
    assert caller.usage.roles["target"].outcomes == {"content_filter": 1}
    assert (await SqliteLedger(store).past()).usage == caller.usage
    assert await column(store, "select outcome from outcomes") == ["content_filter"]


def openai_error(message: str, param: str | None = None) -> dict[str, Any]:
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": None}
    return {"error": error}


def not_permitted(name: str) -> dict[str, Any]:
    """FastAPI's words."""
    return {"detail": [{"type": "extra_forbidden", "loc": ["body", name], "msg": "Not permitted"}]}


REFUSALS: list[tuple[str, int, Any]] = [
    *((name, 400, None) for name in ("temperature", "top_p", "stop", "seed", "n")),
    ("response_format", 400, None),
    *((name, 422, not_permitted(name)) for name in ("temperature", "top_p", "stop", "seed", "n")),
    *(
        (name, 422, {"object": "error", "message": not_permitted(name), "type": "invalid"})
        for name in ("stop", "seed", "n", "response_format")
    ),
    *(
        (name, 400, openai_error(f"Unrecognized request argument supplied: {name}"))
        for name in ("stop", "seed", "n", "top_p")
    ),
    (
        "temperature",
        400,
        openai_error(
            "Unsupported value: 'temperature' does not support 0.5 with this model. Only the "
            "default (1) value is supported.",
            "temperature",
        ),
    ),
    ("temperature", 400, openai_error("`temperature` and `top_p` cannot both be specified.")),
    ("stop", 400, {"code": "invalid", "error": "Argument not supported on this model: stop"}),
    ("stop", 400, {"code": "invalid", "error": "Model m does not support parameter stop."}),
    ("n", 400, openai_error("Invalid n value (currently only n = 1 is supported)")),
    ("n", 400, openai_error("'n' : number must be at most 1")),
    ("n", 400, openai_error("n must be 1 when using greedy sampling, got 3.")),
    ("n", 500, openai_error("Only one completion choice is allowed")),
    ("response_format", 400, openai_error("This response_format type is unavailable now")),
    (
        "response_format",
        400,
        openai_error("The provided JSON schema contains features not supported by xgrammar."),
    ),
    (
        "response_format",
        400,
        openai_error("Failed to initialize samplers: failed to parse grammar"),
    ),
    (
        "seed",
        400,
        [{"error": {"code": 400, "message": 'Unknown name "seed": Cannot find field.'}}],
    ),
    (
        "max_tokens",
        400,
        openai_error(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
            "'max_completion_tokens' instead."
        ),
    ),
    ("max_completion_tokens", 422, not_permitted("max_completion_tokens")),
]
EVERYTHING = {"temperature": 0.5, "top_p": 0.9, "max_tokens": 100}
SENT = {
    "temperature",
    "top_p",
    "stop",
    "seed",
    "n",
    "response_format",
    "max_tokens",
    "max_completion_tokens",
}


def with_everything(text: str) -> Request[Sample]:
    return to_target(text, n=3, stop=("# Query",), schema={"type": "object"})


@pytest.mark.parametrize(
    ("parameter", "code", "words"),
    REFUSALS,
    ids=[f"{name}-{at}" for at, (name, *_) in enumerate(REFUSALS)],
)
async def test_l12_a_refused_parameter_is_left_out(
    parameter: str, code: int, words: Any, server: OpenAIServer, make: Make, store: RunStore
) -> None:
    """That one alone, from the first refusal on, said once, and also after a resume."""
    server.refuse(parameter, status=code, body=words)
    said: list[str] = []
    caller = make(say=said.append, **EVERYTHING)
    for text in ("one", "two"):
        assert (await caller.ask(with_everything(text))).value.text
    again = make(say=said.append, past=await SqliteLedger(store).past(), **EVERYTHING)
    assert (await again.ask(with_everything("three"))).value.text
    assert faults(server) == 1
    first, *others = bodies(server, "target")
    assert set(first) >= SENT
    # Without n each of several answers is a request of its own.
    assert len(others) == (9 if parameter == "n" else 3)
    for each in others:
        assert SENT - set(each) == {parameter}
    assert len(said) == 1
    assert said[0].startswith(f"target: from now on without {parameter} (")
    found = await store.read("select role, parameter from left_out")
    assert [tuple(row) for row in found] == [("target", parameter)]


async def test_l12_of_several_parameters_each_is_left_out(server: OpenAIServer, make: Make) -> None:
    """One after the other, in one call."""
    for name in ("temperature", "seed", "n", "response_format"):
        server.refuse(name)
    said: list[str] = []
    assert (
        await make(say=said.append, at_once=1, **EVERYTHING).ask(with_everything("one"))
    ).value.text
    assert faults(server) == len(said) == 4


async def test_l12_answers_are_cut_here_where_the_server_takes_no_stops(
    server: OpenAIServer, make: Make
) -> None:
    """A base model goes on to the next turn."""
    server.refuse("stop")
    answer = await make(format="text").ask(to_target(stop=("# Query",)))
    assert "stop" not in bodies(server)[-1]
    assert answer.value.text
    assert "# Query" not in answer.value.text


async def test_l12_calls_in_flight_are_told_once(server: OpenAIServer, make: Make) -> None:
    """Though each of them was refused."""
    server.refuse("seed")
    said: list[str] = []
    caller = make(say=said.append)
    await asyncio.gather(*(caller.ask(to_target(str(n))) for n in range(8)))
    assert len(said) == 1


async def test_l12_what_waits_in_line_does_not_pay_for_one_of_several(
    server: OpenAIServer, make: Make
) -> None:
    """A request for three answers is not sent as one for one, whose answer nobody wants."""
    server.refuse("n")
    caller = make(at_once=1)
    asked = (caller.ask(to_target(str(number), n=3)) for number in range(3))
    await asyncio.gather(*asked)
    assert faults(server) == 1
    assert len(server.requests) == 1 + 9
    assert caller.usage.roles["target"].new == 9


async def test_l12_a_server_that_ignores_n_is_asked_one_by_one(
    server: OpenAIServer, make: Make, store: RunStore
) -> None:
    """It answers, but not often enough."""
    server.say_next("just one", choices=1)
    said: list[str] = []
    caller = make(say=said.append)
    answer = await caller.ask(to_target(n=3, parse=lambda reply: reply.texts))
    assert len(set(answer.value)) == 3
    assert "just one" not in answer.value
    assert ["n" in each for each in bodies(server)] == [True, False, False, False]
    assert len(said) == 1
    assert await column(store, "select parameter from left_out") == ["n"]


async def test_l12_m12_a_resumed_run_remembers_what_to_leave_out(
    server: OpenAIServer, tmp_path: Path
) -> None:
    """Each role's server refuses once, over both sessions."""
    server.refuse("system", body=openai_error("System role not supported"))
    server.refuse("temperature")
    server.refuse("n")
    with pytest.raises(drpo.BudgetReached):
        await optimized(server, tmp_path, "budget.calls=12", "concurrency=1")
    assert faults(server) >= 3
    resumed = await drpo.resume(None, "budget.calls=null", runs=tmp_path)
    assert resumed.summary["status"] == "done"
    refused = [seen.role for seen in server.requests if seen.fault]
    # Temperature and system of each role, n of the rewriter.
    assert {role: refused.count(role) for role in ROLES} == {
        "target": 2,
        "rewarder": 2,
        "judge": 2,
        "rewriter": 3,
    }


async def test_l12_a_fork_with_another_model_asks_anew(
    server: OpenAIServer, tmp_path: Path
) -> None:
    """Only for the role whose model it is."""
    server.refuse("temperature")
    await optimized(server, tmp_path)
    [path] = tmp_path.glob("*.sqlite")
    forked = fork(path, level=0, overrides=["models.judge.model=other"])
    with reading(forked.path) as db:
        left_out = {row["role"] for row in db["left_out"].rows}
    assert left_out == {"target", "rewarder", "rewriter"}


# M1 to M3: no answer, or half of one


async def test_m1_the_targets_refusal_is_judged(server: OpenAIServer, tmp_path: Path) -> None:
    """Like any other answer."""
    server.say_next("", refusal="That I will not do.", role="target", times=99)
    told = await optimized(server, tmp_path, "search.levels=1")
    assert len(bodies(server, "target")) == len(bodies(server, "judge"))
    for each in bodies(server, "judge"):
        assert "That I will not do." in each["messages"][-1]["content"]
    assert told["unscored"] == 0


@pytest.mark.parametrize("role", ["judge", "rewarder", "rewriter"])
async def test_m1_any_other_refusal_is_a_typed_failure(
    role: str, server: OpenAIServer, make: Make, store: RunStore
) -> None:
    """Not asked again."""
    server.say_next("", refusal="That I will not do.")
    requests: dict[str, Request[Any]] = {
        "judge": to_judge(),
        "rewarder": to_rewarder(),
        "rewriter": to_rewriter(),
    }
    value = (await make().ask(requests[role])).value
    if isinstance(value, Verdict):
        reason = value.unscored
    elif isinstance(value, Selection):
        reason = value.reason
    else:
        reason = value[0].failure
    assert "the model refused" in str(reason)
    assert len(server.requests) == 1
    assert await outcomes(store) == ["refusal"]


@pytest.mark.parametrize("text", ["", " \n\t"])
@pytest.mark.parametrize("asks", [1, 2, 3])
async def test_m2_an_empty_answer_is_asked_for_again_but_not_for_ever(
    asks: int, text: str, server: OpenAIServer, make: Make, store: RunStore
) -> None:
    """With another seed, as often as `asks` says; then it is a failure."""
    server.say_next(text, times=asks)
    sample = (await make(asks=asks).ask(to_target())).value
    assert (sample.text, sample.failure) == ("", "no answer of the target: it is empty (stop)")
    assert len({each["seed"] for each in bodies(server)}) == asks
    assert await outcomes(store) == ["failed"] * asks


async def test_m2_the_second_answer_counts(server: OpenAIServer, make: Make) -> None:
    """Where there is one, and nobody pays for it again."""
    server.say_next("")
    first = await make().ask(to_target())
    assert first.value.failure is None
    assert await make().ask(to_target()) == first
    assert len(server.requests) == 2


async def test_m3_what_is_cut_off_is_asked_for_with_more_room(
    server: OpenAIServer, make: Make, store: RunStore
) -> None:
    """Twice as much."""
    server.say_next("The first wo", finish_reason="length")
    sample = (await make(max_tokens=100).ask(to_target())).value
    assert sample.text
    assert sample.text != "The first wo"
    assert [each["max_tokens"] for each in bodies(server)] == [100, 200]
    assert await outcomes(store) == ["truncated", "ok"]


async def test_m3_what_is_cut_off_twice_is_a_failure(
    server: OpenAIServer, make: Make, store: RunStore
) -> None:
    """Once more, and not again."""
    server.say_next("The first wo", finish_reason="length", times=9)
    sample = (await make(max_tokens=100).ask(to_target())).value
    assert sample.text == ""
    assert "cut off" in str(sample.failure)
    assert await outcomes(store) == ["truncated"] * 2


async def test_m3_cut_json_never_counts(server: OpenAIServer, make: Make) -> None:
    """Not even where it happens to be whole."""
    server.say_next(judging(Clarity=5, Depth=5), finish_reason="length", times=9)
    verdict = (await make().ask(to_judge())).value
    assert verdict.scores == ()
    assert "cut off" in str(verdict.unscored)


async def test_m3_m11_there_is_more_room_than_the_thinking_took(
    server: OpenAIServer, make: Make
) -> None:
    """An answer that is all thinking has no length of its own; also when the ledger tells of it."""
    thought = {"reasoning_content": "hm " * 4_000}
    server.say_next("", finish_reason="length", reasoning=thought)
    for _ in range(2):
        assert (await make().ask(to_target())).value.text
    first, second = bodies(server)
    assert "max_tokens" not in first
    assert second["max_tokens"] >= 2 * 3_000


async def test_m3_a_user_may_want_what_is_cut_off(server: OpenAIServer, make: Make) -> None:
    """`accept_truncated`."""
    server.say_next("The first wo", finish_reason="length")
    fine = FINE | CUT
    request = to_target(fine=fine, parse=partial(read_sample, fine=fine))
    assert (await make().ask(request)).value == Sample("The first wo")
    assert len(server.requests) == 1


# M4 to M8: answers of another form


@pytest.mark.parametrize(
    "said",
    [
        "Here it is:\n```json\n{}\n```\nAnything else?",
        "{}".replace("}", ",}"),
        "My verdict: {}",
    ],
    ids=["fence", "trailing comma", "prose"],
)
async def test_m4_untidy_json_is_read_as_it_is(said: str, server: OpenAIServer, make: Make) -> None:
    """Nobody is asked again."""
    inner = '"verdict": [{"aspect": "Clarity", "score": 4}, {"aspect": "Depth", "score": 2}]'
    server.say_next(said.replace("{", "{" + inner))
    assert (await make().ask(to_judge())).value.values == (4.0, 2.0)
    assert len(server.requests) == 1


async def test_m5_a_wrong_form_is_asked_for_again_with_what_is_wrong(
    server: OpenAIServer, make: Make, store: RunStore
) -> None:
    """The reply and the validation error stand in the next request."""
    said = '{"verdict": [{"aspect": 7, "score": 4}]}'
    server.say_next(said)
    server.say_next(judging(Clarity=4, Depth=2))
    caller = make()
    assert (await caller.ask(to_judge())).value.values == (4.0, 2.0)
    first, second = bodies(server)
    assert second["messages"][: len(first["messages"])] == first["messages"]
    reply, complaint = second["messages"][len(first["messages"]) :]
    assert (reply["role"], reply["content"]) == ("assistant", said)
    assert complaint["role"] == "user"
    assert "verdict.0.aspect: Input should be a valid string" in complaint["content"]
    assert await outcomes(store) == ["invalid", "ok"]
    assert caller.usage.roles["judge"].outcomes == {"invalid": 1}


async def test_m5_a_form_that_stays_wrong_is_a_typed_failure(
    server: OpenAIServer, make: Make, store: RunStore
) -> None:
    """After as many requests as `asks` says."""
    server.say_next("no JSON at all", times=9)
    verdict = (await make().ask(to_judge())).value
    assert verdict.scores == ()
    assert verdict.unscored == "the judge's reply could not be read: it holds no JSON object"
    assert await outcomes(store) == ["invalid"] * 2


async def test_m5_the_same_wrong_reply_is_asked_about_in_another_draw(
    server: OpenAIServer, make: Make, store: RunStore
) -> None:
    """As often as `asks` says; the conversation does not grow."""
    server.say_next("no JSON at all", times=9)
    await make(asks=4).ask(to_judge())
    assert await outcomes(store) == ["invalid"] * 4
    assert [len(each["messages"]) for each in bodies(server)] == [2, 4, 4, 4]
    assert len({each["seed"] for each in bodies(server)[1:]}) == 3


@pytest.mark.parametrize(
    ("ends", "asked"),
    [
        (("length", "stop"), [(100, 2), (200, 2), (200, 4)]),
        (("stop", "length"), [(100, 2), (100, 4), (200, 4)]),
    ],
)
async def test_m3_m5_what_one_reply_needed_the_next_has_too(
    ends: tuple[str, str], asked: list[tuple[int, int]], server: OpenAIServer, make: Make
) -> None:
    """Room after one that was cut off, the complaint after one that could not be read."""
    for finish_reason in ends:
        server.say_next("no JSON at all", finish_reason=finish_reason)
    server.say_next(judging(Clarity=4, Depth=2))
    verdict = (await make(asks=3, max_tokens=100).ask(to_judge())).value
    assert verdict.values == (4.0, 2.0)
    assert [(each["max_tokens"], len(each["messages"])) for each in bodies(server)] == asked


@pytest.mark.parametrize("second", [judging(Clarity=3), "no JSON at all"])
async def test_m5_an_aspect_that_stays_missing_is_unscored(
    second: str, server: OpenAIServer, make: Make
) -> None:
    """With the reason; the others count, of the last reply that can be used."""
    server.say_next(judging(Clarity=3))
    server.say_next(second)
    verdict = (await make().ask(to_judge())).value
    assert "it says nothing of Depth" in bodies(server)[1]["messages"][-1]["content"]
    assert [(score.value, score.unscored) for score in verdict.scores] == [
        (3.0, None),
        (None, NOT_MENTIONED),
    ]
    assert verdict.reward == 3
    assert len(server.requests) == 2


async def test_m5_an_aspect_too_many_is_ignored_and_noted(server: OpenAIServer, make: Make) -> None:
    """Nobody is asked again for that."""
    server.say_next(judging(Clarity=4, Charm=5, Depth=2))
    verdict = (await make().ask(to_judge())).value
    assert verdict.values == (4.0, 2.0)
    assert verdict.notes == ("ignored, not asked for: Charm",)
    assert len(server.requests) == 1


async def test_m5_one_call_is_counted_once(server: OpenAIServer, make: Make) -> None:
    """However many of its completions cannot be read."""
    server.say_next("no JSON at all")
    caller = make()
    await caller.ask(to_rewriter(n=3))
    assert caller.usage.roles["rewriter"].outcomes == {"invalid": 1}


@pytest.mark.parametrize(
    ("said", "value"),
    [
        (4, 4.0),
        ("4", 4.0),
        (4.5, 4.5),
        ("4/5", 4.0),
        ("4/10", None),
        ("8/10", None),
        (0, None),
        (6, None),
        (-3, None),
        (float("nan"), None),
        (float("inf"), None),
        ("NaN", None),
        ("N/A", None),
        ("good", None),
        ("", None),
        (None, None),
        (True, None),
    ],
)
async def test_m6_a_score_is_one_to_five_or_none(
    said: Any, value: float | None, server: OpenAIServer, make: Make
) -> None:
    """With a reason, never a default, and without asking again."""
    server.say_next(judging(Clarity=said, Depth=2))
    verdict = (await make().ask(to_judge())).value
    assert verdict.scores[0].value == value
    assert (verdict.scores[0].unscored is None) is (value is not None)
    assert verdict.reward == (2.0 if value is None else (value + 2) / 2)
    assert len(server.requests) == 1


@pytest.mark.parametrize(("broken", "left"), [(3, 1), (99, 0)])
async def test_m7_unusable_rewrites_are_so_many_candidates_less(
    broken: int, left: int, server: OpenAIServer, tmp_path: Path
) -> None:
    """Each is asked for again; with none left the parent is carried on, and the run goes on."""
    server.say_next("no JSON at all", role="rewriter", times=broken)
    told = await optimized(server, tmp_path, "models.rewriter.multiple=false")
    assert told["status"] == "done"
    assert len(bodies(server, "rewriter")) == 4
    [path] = tmp_path.glob("*.sqlite")
    with reading(path) as db:
        found = list(db.query("select origin, parent, prompts from candidate where level = 1"))
        failures = [row["failure"] for row in db["rewrite"].rows if row["failure"]]
        root = next(db.query("select prompts from candidate where id = 0"))
    assert [row["parent"] for row in found] == [0] * len(found)
    assert len(failures) == 2 - left
    assert len(found) == max(1, left)
    assert (found[0]["prompts"] == root["prompts"]) is (left == 0)


async def test_m8_an_aspect_with_a_definition_is_taken(server: OpenAIServer, make: Make) -> None:
    """Though the pool does not have it."""
    server.say_next(choosing("Clarity", {"name": "Wit", "definition": "funny"}))
    selection = (await make().ask(to_rewarder())).value
    assert selection.aspects == (CLARITY, Aspect("Wit", "funny"))
    assert len(server.requests) == 1


async def test_m8_a_bare_unknown_name_is_asked_about_once(server: OpenAIServer, make: Make) -> None:
    """The definition may come then."""
    server.say_next(choosing("Clarity", "Wit"))
    server.say_next(choosing("Clarity", {"name": "Wit", "definition": "funny"}))
    selection = (await make().ask(to_rewarder())).value
    assert "'Wit' was left out" in bodies(server)[1]["messages"][-1]["content"]
    assert selection.aspects == (CLARITY, Aspect("Wit", "funny"))


async def test_m8_a_bare_unknown_name_is_then_dropped(server: OpenAIServer, make: Make) -> None:
    """With a note."""
    server.say_next(choosing("Clarity", "Wit"), times=9)
    selection = (await make().ask(to_rewarder())).value
    assert selection.aspects == (CLARITY,)
    assert "'Wit' was left out" in selection.notes[0]
    assert len(server.requests) == 2


# M10 to M12: samples, thinking, turns


@pytest.mark.parametrize("multiple", [True, False])
async def test_m10_the_same_request_is_k_different_samples(
    multiple: bool, server: OpenAIServer, make: Make, store: RunStore
) -> None:
    """Each with its own index, remembered by it, in one call or in several."""
    request = to_target(n=4, parse=lambda reply: reply.texts)
    first = await make(multiple=multiple).ask(request)
    assert len(set(first.value)) == 4
    assert await make(multiple=multiple).ask(request) == first
    assert len(server.requests) == (1 if multiple else 4)
    if not multiple:
        assert sorted(each["seed"] for each in bodies(server)) == [0, 1, 2, 3]
        assert sorted(await column(store, "select sample from call")) == [0, 1, 2, 3]


async def test_m10_another_sample_is_another_request(server: OpenAIServer, make: Make) -> None:
    """Also for a server that takes no seeds."""
    caller = make(send_seed=False)
    for sample in (0, 1, 1):
        await caller.ask(to_target(sample=sample))
    assert len(server.requests) == 2


THOUGHT = "What a blue secret."
SAYINGS: list[tuple[str, Mapping[str, str]]] = [
    (f"<think>{THOUGHT}</think>\n\n", {}),
    (f"{THOUGHT}\n</think>\n\n", {}),
    ("", {"reasoning_content": THOUGHT}),
    ("", {"reasoning": THOUGHT}),
]


@pytest.mark.parametrize(
    ("before", "beside"), SAYINGS, ids=["tags", "closing tag", "reasoning_content", "reasoning"]
)
async def test_m11_thinking_is_kept_but_never_judged_nor_in_a_prompt(
    before: str, beside: Mapping[str, str], server: OpenAIServer, tmp_path: Path
) -> None:
    """No request ever holds it, whoever thought it; the ledger does."""
    said = {
        "target": "Take two steps.",
        "rewriter": rewriting("Be brief, and say what is uncertain."),
        "rewarder": choosing({"name": "Wit", "definition": "funny"}, "Nothing"),
        "judge": judging(Wit=3),
    }
    for role in ROLES:
        server.say_next(before + said[role], role=role, times=999, reasoning=beside)
    told = await optimized(server, tmp_path)
    assert told["status"] == "done"
    assert "Be brief" in told["best"]["prompts"]["system"]
    assert any("Take two steps." in str(each) for each in bodies(server, "judge"))
    assert not any(THOUGHT in str(each) for each in bodies(server))
    [path] = tmp_path.glob("*.sqlite")
    with reading(path) as db:
        kept = [row["body"] for row in db["text"].rows if THOUGHT in row["body"]]
        thought = [json.loads(row["thinking"]) for row in db.query("select thinking from call")]
        samples = "select body from sample, text where sha256 = sample.text"
        answers = {row["body"] for row in db.query(samples)}
    assert kept
    assert all(thought) is bool(beside)
    assert answers == {"Take two steps."}


async def test_m11_an_answer_that_is_all_thinking_is_empty(
    server: OpenAIServer, make: Make, store: RunStore
) -> None:
    """It is asked for again."""
    server.say_next(f"<think>{THOUGHT}")
    sample = (await make().ask(to_target())).value
    assert sample.failure is None
    assert THOUGHT not in sample.text
    assert await outcomes(store) == ["failed", "ok"]


NO_SYSTEM: list[tuple[int, Any]] = [
    (400, {"object": "error", "message": "System role not supported", "code": 400}),
    (500, openai_error("System role not supported")),
    (
        400,
        openai_error(
            "Unsupported value: 'messages[0].role' does not support 'system' with this model.",
            "messages[0].role",
        ),
    ),
    (400, openai_error("Developer instruction is not enabled for models/gemma-3-27b-it")),
    (400, openai_error("Conversation roles must alternate user/assistant/user/assistant/...")),
    (400, openai_error("Only user and assistant roles are supported!")),
    (400, openai_error("This model doesn't support system messages.")),
]


@pytest.mark.parametrize(("code", "words"), NO_SYSTEM, ids=lambda value: str(value)[:60])
async def test_m12_a_system_text_goes_before_the_first_user_turn(
    code: int, words: Any, server: OpenAIServer, make: Make, store: RunStore
) -> None:
    """From the first refusal on, said once, and also after a resume."""
    server.refuse("system", status=code, body=words)
    said: list[str] = []
    turns = (Message("assistant", "Hm?"), Message("user", "Well?"))
    request = to_target(messages=(*HELLO, *turns))
    caller = make(say=said.append)
    assert (await caller.ask(request)).value.text
    again = make(say=said.append, past=await SqliteLedger(store).past())
    assert (await again.ask(to_target())).value.text
    first, second, third = bodies(server)
    assert [turn["role"] for turn in first["messages"]] == ["system", "user", "assistant", "user"]
    assert [(turn["role"], turn["content"]) for turn in second["messages"]] == [
        ("user", "Be kind.\n\nHello?"),
        ("assistant", "Hm?"),
        ("user", "Well?"),
    ]
    assert [turn["role"] for turn in third["messages"]] == ["user"]
    assert faults(server) == 1
    assert len(said) == 1
    assert said[0].startswith("target: from now on without system (")


# All of it together


async def test_l4_l7_l12_m2_m3_m5_a_faulty_run_is_replayed_from_its_file(
    server: OpenAIServer, tmp_path: Path
) -> None:
    """What was asked again, cut off, empty, refused or left out comes out of the ledger as well."""
    server.refuse("temperature")
    server.refuse("n")
    server.fail_next(status=503, times=2)
    server.fail_next(kind="garbage", role="judge")
    server.say_next("", role="target")
    server.say_next("The first wo", role="target", finish_reason="length")
    server.say_next("", role="target", finish_reason="content_filter")
    server.say_next("no JSON at all", role="judge", times=3)
    server.say_next("", role="rewriter", refusal="That I will not do.")
    told = await optimized(server, tmp_path, "concurrency=2")
    assert told["status"] == "done"
    [path] = tmp_path.glob("*.sqlite")
    replayed = await asyncio.to_thread(replay, path)
    assert replayed.reason is None
    assert replayed.same


def test_l5_the_command_says_how_to_go_on(here: Here) -> None:
    """And leaves with its own exit code."""
    attempts = [f"models.{role}.attempts=2" for role in ROLES]
    away = "openai.base_url=http://127.0.0.1:9/v1"
    done = here("optimize", *SHORT, away, *attempts, "--yes")
    assert done.returncode == 5
    assert "cannot reach the server" in done.stderr
    assert "drpo resume" in done.stderr
