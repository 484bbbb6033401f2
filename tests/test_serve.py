"""`drpo serve`: existing clients get the aligned model by another base URL; others get nothing."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from conftest import Here
from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import AIMessageChunk
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from openai_server import Kind, OpenAIServer
from pydantic import SecretStr
from test_aligned import EXAMPLES, asked_of_target, body, changed, run_on

import drpo
from drpo.aligned import aligned
from drpo.artifact import Artifact, write_artifact
from drpo.loopback import Caps, Rate, token_for
from drpo.provenance import artifact_of_run
from drpo.serve import Served, listening

KEY = "sk-secret-0123456789"
TOKEN = "a-token-of-24-characters"
HELLO: Any = [{"role": "user", "content": "Hello?"}]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """Of a search on the sandbox."""
    runs = tmp_path_factory.mktemp("runs")
    return artifact_of_run(drpo.optimize_blocking("experiment=smoke", runs=runs).path)


def on(server: OpenAIServer, artifact: Artifact, **settings: Any) -> Artifact:
    """The same for a model on the server, which is asked once."""
    target = {"provider": "openai", "model": "target", "base_url": server.base_url, "attempts": 1}
    return changed(artifact, target=target | settings)


@asynccontextmanager
async def served(artifact: Artifact, model: Any = None, **options: Any) -> AsyncIterator[str]:
    """The base URL."""
    with aligned(artifact, model) as made:
        async with listening(Served(made, **options), "127.0.0.1", 0) as url:
            yield url


@asynccontextmanager
async def client_of(url: str, **options: Any) -> AsyncIterator[openai.AsyncOpenAI]:
    given: Any = {"api_key": "any", "max_retries": 0} | options
    async with openai.AsyncOpenAI(base_url=url, **given) as client:
        yield client


async def post(
    url: str, sent: Any, path: str = "/chat/completions", **headers: str
) -> tuple[int, dict[str, Any], Any]:
    """Status, JSON and headers."""
    data = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
    known = {"Content-Type": "application/json"} | headers
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}{path}", data=data, headers=known) as got,
    ):
        return got.status, await got.json(), got.headers


@pytest.mark.parametrize("style", ["chat", "text"])
async def test_search_aligned_model_and_server_send_the_same_bytes(
    style: str, server: OpenAIServer, tmp_path: Path
) -> None:
    """For each query that the search's target answered, with the examples that it was shown."""
    shown = tmp_path / "examples.jsonl"
    shown.write_text("".join(json.dumps(each) + "\n" for each in EXAMPLES))
    words = (
        f"models.target.format={style}",
        "models.target.temperature=0.7",
        f"retrieval.path={shown}",
        "retrieval.k=2",
    )
    path = await run_on(server, tmp_path, *words)
    artifact = artifact_of_run(path)
    asked = asked_of_target(path, artifact.provenance.found.candidate)
    assert asked
    assert len(artifact.examples) == len(EXAMPLES)
    with aligned(artifact) as model:
        async with (
            listening(Served(model), "127.0.0.1", 0) as url,
            client_of(url) as client,
        ):
            for turns, sha256 in asked:
                server.requests.clear()
                await model.ainvoke(turns)
                given: Any = turns
                await client.chat.completions.create(model="any", messages=given)
                assert [seen.sha256 for seen in server.requests] == [sha256, sha256]


async def test_a_streams_request_differs_by_its_own_fields_alone(
    server: OpenAIServer, simulated: Artifact
) -> None:
    """`stream`, and `stream_options` where the client asks for them."""
    ways: list[dict[str, Any]] = [{}, {"stream": True}]
    ways.append({"stream": True, "stream_options": {"include_usage": True}})
    async with served(on(server, simulated)) as url, aiohttp.ClientSession() as session:
        for way in ways:
            sent = {"messages": HELLO} | way
            async with session.post(f"{url}/chat/completions", json=sent) as got:
                assert got.status == 200
                await got.read()
    plain, *streams = (body(seen) for seen in server.requests)
    assert streams == [plain | way for way in ways[1:]]


async def test_the_async_client_of_openai_runs_unchanged(
    server: OpenAIServer, simulated: Artifact
) -> None:
    """Whole and streamed, with the count of tokens."""
    server.say_next("One two three.", times=2)
    async with served(on(server, simulated)) as url, client_of(url) as client:
        [listed] = [each async for each in client.models.list()]
        whole = await client.chat.completions.create(model="gpt-4o", messages=HELLO)
        stream = await client.chat.completions.create(
            model="gpt-4o",
            messages=HELLO,
            stream=True,
            stream_options={"include_usage": True},
        )
        bits = [bit async for bit in stream]
    assert whole.choices[0].message.content == "One two three."
    assert whole.choices[0].finish_reason == "stop"
    assert whole.model == listed.id == f"drpo-{on(server, simulated).content_sha256[:12]}"
    said = [bit.choices[0].delta.content or "" for bit in bits if bit.choices]
    assert "".join(said) == "One two three."
    assert len(said) > 3
    assert [bit.choices[0].finish_reason for bit in bits if bit.choices][-1] == "stop"
    assert whole.usage is not None
    assert bits[-1].usage == whole.usage


async def test_the_blocking_client_of_openai_runs_unchanged(
    server: OpenAIServer, simulated: Artifact
) -> None:
    """In a thread of its own."""

    def talk(url: str) -> tuple[str | None, str]:
        with openai.OpenAI(base_url=url, api_key="any") as client:
            whole = client.chat.completions.create(model="gpt-4o", messages=HELLO)
            with client.chat.completions.create(
                model="gpt-4o",
                messages=HELLO,
                stream=True,
            ) as stream:
                bits = [bit.choices[0].delta.content or "" for bit in stream]
        return whole.choices[0].message.content, "".join(bits)

    server.say_next("One two three.", times=2)
    async with served(on(server, simulated)) as url:
        said = await asyncio.to_thread(talk, url)
    assert said == ("One two three.", "One two three.")


@tool
def weather(place: str) -> str:
    """The weather of a place."""
    return f"rain in {place}"


CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": '{"place": "Ulm"}'},
}


@pytest.mark.parametrize("streams", [False, True])
async def test_an_agent_of_langchain_runs_unchanged(
    streams: bool, server: OpenAIServer, simulated: Artifact
) -> None:
    """It calls its tool and answers with what that said."""
    server.say_next("", calls=[CALL], finish_reason="tool_calls")
    server.say_next("Take an umbrella.")
    async with served(on(server, simulated)) as url:
        model = ChatOpenAI(base_url=url, api_key=SecretStr("any"), model="any", streaming=streams)
        agent = create_agent(model, [weather], system_prompt="Be brief.")
        asked: Any = {"messages": [("user", "Do I need an umbrella in Ulm?")]}
        done = await agent.ainvoke(asked)
    assert [each.type for each in done["messages"]] == ["human", "ai", "tool", "ai"]
    assert done["messages"][2].text == "rain in Ulm"
    assert done["messages"][-1].text == "Take an umbrella."
    first, second = (body(seen) for seen in server.requests)
    assert [each["function"]["name"] for each in first["tools"]] == ["weather"]
    roles = [turn["role"] for turn in second["messages"]]
    assert roles == ["system", "system", "user", "assistant", "tool"]
    assert second["messages"][3]["tool_calls"] == [CALL]
    assert second["messages"][4]["tool_call_id"] == "call_1"


async def test_an_agents_stream_has_every_token_once(
    server: OpenAIServer, simulated: Artifact
) -> None:
    """Through both protocols."""
    server.say_next("One two three.")
    async with served(on(server, simulated)) as url:
        model = ChatOpenAI(base_url=url, api_key=SecretStr("any"), model="any")
        asked: Any = {"messages": "Hello?"}
        said = [
            str(bit.text)
            async for bit, _ in create_agent(model, []).astream(asked, stream_mode="messages")
            if isinstance(bit, AIMessageChunk)
        ]
    assert "".join(said) == "One two three."
    assert len(said) > 3


async def test_the_clients_of_the_page_run(
    server: OpenAIServer, simulated: Artifact, capfd: pytest.CaptureFixture[str]
) -> None:
    """Those of the section on serving, at another address."""
    page = (Path(__file__).parents[1] / "docs" / "deploy.md").read_text("utf-8")
    codes = re.findall(r"```py\n(.*?)```", page.partition("\n## Serve\n")[2], re.DOTALL)
    assert len(codes) == 2
    server.say_next("In a bread bin.")
    server.say_next("", calls=[CALL], finish_reason="tool_calls")
    server.say_next("Take an umbrella.")
    async with served(on(server, simulated)) as url:
        for code in codes:
            assert "http://127.0.0.1:8000/v1" in code
            words = [sys.executable, "-c", code.replace("http://127.0.0.1:8000/v1", url)]
            await asyncio.to_thread(subprocess.run, words, check=True)
    assert capfd.readouterr().out == "In a bread bin.Take an umbrella.\n"


async def test_examples_and_the_clients_own_system_turn(
    server: OpenAIServer, simulated: Artifact
) -> None:
    """The prompt, the examples of the last question, then all turns of the client as they are."""
    artifact = changed(on(server, simulated), examples=EXAMPLES, retrieval={"k": 1})
    talk = [
        {"role": "system", "content": "Answer in verse."},
        {"role": "user", "content": "Hi."},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": [{"type": "text", "text": "My cat is ill, what now?"}]},
    ]
    async with served(artifact) as url:
        status, _, _ = await post(url, {"messages": talk})
    [seen] = server.requests
    assert status == 200
    assert body(seen)["messages"] == [
        {"role": "system", "content": artifact.prompts["system"]},
        {"role": "user", "content": EXAMPLES[1]["query"]},
        {"role": "assistant", "content": EXAMPLES[1]["answer"]},
        *talk,
    ]


async def test_what_a_client_chooses_is_passed_on(
    server: OpenAIServer, simulated: Artifact
) -> None:
    """And neither the model nor labels of its own."""
    chosen = {
        "temperature": 0.25,
        "top_p": 0.5,
        "seed": 7,
        "stop": ["END"],
        "presence_penalty": 1.0,
        "response_format": {"type": "json_object"},
    }
    sent = {"messages": HELLO, "max_tokens": 33, "model": "other", "user": "me", "n": 1}
    async with served(on(server, simulated)) as url:
        await post(url, {"messages": HELLO})
        status, _, _ = await post(url, sent | chosen)
    plain, other = (body(seen) for seen in server.requests)
    assert status == 200
    room = {"max_tokens": 33, "max_completion_tokens": 33}
    assert other == plain | chosen | room


@pytest.mark.parametrize(
    ("sent", "parameter"),
    [
        ({"base_url": "http://elsewhere"}, "base_url"),
        ({"n": 2}, "n"),
        ({"n": True}, "n"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": 1}}, "stream_options"),
        ({"max_tokens": "9"}, "max_tokens"),
        ({"temperature": True}, "temperature"),
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"extra_body": {"model": "other"}}, "extra_body"),
        ({"stream_usage": True}, "stream_usage"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, None),
        ({"messages": [{"role": "tool", "content": "rain"}]}, None),
        ({"messages": [{"role": "root", "content": "x"}]}, "messages"),
    ],
)
async def test_i8_what_nobody_may_choose_is_refused(
    sent: dict[str, Any], parameter: str | None, server: OpenAIServer, simulated: Artifact
) -> None:
    """By its name, before anybody is asked."""
    async with served(on(server, simulated)) as url:
        status, said, _ = await post(url, {"messages": HELLO} | sent)
    assert (status, said["error"]["param"]) == (400, parameter)
    assert not server.requests


async def test_the_sandbox_keeps_to_the_length_that_a_client_allows(simulated: Artifact) -> None:
    """And says that there is more."""
    async with served(simulated) as url:
        _, whole, _ = await post(url, {"messages": HELLO})
        _, short, _ = await post(url, {"messages": HELLO, "max_tokens": 5})
    assert whole["choices"][0]["finish_reason"] == "stop"
    assert short["choices"][0]["finish_reason"] == "length"
    assert (
        short["choices"][0]["message"]["content"] == whole["choices"][0]["message"]["content"][:20]
    )
    assert short["usage"]["completion_tokens"] == 5


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\xff",
        b"[1]",
        b"[" * 100_000,
        b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"messages": [{"role": "user", "content": "x"}], "response_format": {"a": NaN}}',
        b'{"messages": [{"role": "user", "content": "x"}], "response_format": {"a": 1e999}}',
    ],
)
async def test_a_body_that_is_no_request_is_refused(
    sent: bytes, server: OpenAIServer, simulated: Artifact
) -> None:
    """In the protocol's own form."""
    async with served(on(server, simulated)) as url:
        status, said, _ = await post(url, sent)
    assert (status, said["error"]["code"]) == (400, "invalid_request")
    assert not server.requests


async def test_what_one_client_sends_teaches_the_next_requests_nothing(
    server: OpenAIServer, simulated: Artifact
) -> None:
    """A parameter that the server refuses to one is no parameter that it does not take."""
    artifact = on(server, simulated, temperature=0.5, send_seed=False)
    async with served(artifact) as url:
        await post(url, {"messages": HELLO})
        server.fail_next(status=400, message="Unsupported value: 'temperature' of 2")
        status, said, _ = await post(url, {"messages": HELLO, "temperature": 2})
        await post(url, {"messages": HELLO})
    assert (status, said["error"]["param"]) == (400, "temperature")
    assert len(server.requests) == 3
    assert server.requests[0].sha256 == server.requests[2].sha256


ERRORS: list[tuple[Kind, int, str, int, str]] = [
    ("status", 401, f"bad key {KEY}", 502, "upstream_refused"),
    ("status", 404, "no such model", 502, "upstream_refused"),
    ("status", 429, "slow down", 429, "upstream_busy"),
    ("status", 503, "busy", 503, "upstream_away"),
    ("status", 500, "broken", 502, "upstream_failed"),
    ("status", 400, "maximum context length is 8192 tokens", 400, "context_length_exceeded"),
    ("status", 422, "no such thing", 400, "invalid_request"),
    ("garbage", 200, "", 502, "upstream_failed"),
    ("empty", 200, "", 502, "upstream_failed"),
    ("html", 200, "", 502, "upstream_failed"),
    ("error200", 200, "broken", 502, "upstream_failed"),
    ("reset", 0, "", 503, "upstream_away"),
]


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(("kind", "status", "message", "expected", "code"), ERRORS)
async def test_what_goes_wrong_upstream_has_a_status_of_its_own(
    kind: Kind,
    status: int,
    message: str,
    expected: int,
    code: str,
    streams: bool,
    server: OpenAIServer,
    simulated: Artifact,
) -> None:
    """One line without the key; with the time to wait, where waiting helps."""
    server.fail_next(status=status, kind=kind, message=message, headers={"Retry-After": "7"})
    async with served(on(server, simulated)) as url:
        got, said, headers = await post(url, {"messages": HELLO, "stream": streams})
    assert (got, said["error"]["code"]) == (expected, code)
    assert KEY not in json.dumps(said)
    assert "\n" not in said["error"]["message"]
    waits = {429: "7", 503: "1" if kind == "reset" else "7"}
    if expected in waits:
        assert headers["Retry-After"] == waits[expected]


async def test_a_server_that_is_away_is_named_as_such(
    server: OpenAIServer, simulated: Artifact
) -> None:
    """Nobody listens there."""
    artifact = on(server, simulated, base_url="http://127.0.0.1:9/v1")
    async with served(artifact) as url:
        status, said, headers = await post(url, {"messages": HELLO})
    assert (status, said["error"]["code"]) == (503, "upstream_away")
    assert headers["Retry-After"] == "1"


@pytest.mark.parametrize(
    ("kind", "says"), [("cut", "cannot reach the server"), ("event", "the server says: overloaded")]
)
async def test_a_stream_that_breaks_off_ends_with_an_error(
    kind: Kind, says: str, server: OpenAIServer, simulated: Artifact
) -> None:
    """Which the client raises, after the bits that came."""
    server.fail_next(kind=kind, message="overloaded")
    said: list[str | None] = []

    async def listen(client: openai.AsyncOpenAI) -> None:
        stream = await client.chat.completions.create(model="any", messages=HELLO, stream=True)
        async for bit in stream:
            # One by one, because an error comes after them.
            said.append(bit.choices[0].delta.content)  # noqa: PERF401 - see above

    async with served(on(server, simulated)) as url, client_of(url) as client:
        with pytest.raises(openai.APIError, match=says):
            await listen(client)
    assert any(said)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("streams", [False, True])
async def test_nobody_is_asked_on_for_a_client_that_went_away(
    streams: bool, server: OpenAIServer, simulated: Artifact
) -> None:
    """The request upstream is cancelled with the client's."""
    server.fail_next(kind="stall" if streams else "hang")
    sent = {"messages": HELLO, "stream": streams}
    async with served(on(server, simulated)) as url, aiohttp.ClientSession() as session:
        asking = asyncio.create_task(
            session.post(f"{url}/chat/completions", json=sent).__aenter__()
        )
        await until(lambda: server.in_flight == 1)
        if streams:
            (await asking).close()
        else:
            asking.cancel()
        await until(lambda: server.in_flight == 0)


async def test_i8_a_token_is_wanted_where_there_is_one(simulated: Artifact) -> None:
    """As any client sends its key; whether the server is there may be asked by everybody."""
    async with served(simulated, token=TOKEN) as url:
        for given in ({}, {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": TOKEN}):
            status, said, _ = await post(url, {"messages": HELLO}, **given)
            assert (status, said["error"]["code"]) == (401, "invalid_api_key")
        async with client_of(url, api_key=TOKEN) as client:
            assert (await client.chat.completions.create(model="x", messages=HELLO)).choices
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{url.removesuffix('/v1')}/health") as got,
        ):
            assert (got.status, await got.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:9000", 200),
        ("127.0.0.1", 200),
        ("[::1]:8000", 200),
        ("evil.example", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example:8000", 403),
        ("[", 403),
        ("10.0.0.7", 403),
        ("evil.example\\@127.0.0.1", 403),
        ("evil.example@127.0.0.1", 403),
    ],
)
async def test_i8_names_that_lead_to_this_machine_are_no_way_in(
    host: str, status: int, simulated: Artifact
) -> None:
    """A page whose name is made to point to 127.0.0.1 gets nothing."""
    async with served(simulated) as url:
        got, _, _ = await post(url, {"messages": HELLO}, Host=host)
    assert got == status


async def test_off_the_loopback_any_name_will_do(simulated: Artifact) -> None:
    """There the token guards it."""
    async with served(simulated, token=TOKEN, local=False) as url:
        bearer = {"Host": "models.example", "Authorization": f"Bearer {TOKEN}"}
        status, _, _ = await post(url, {"messages": HELLO}, **bearer)
    assert status == 200


async def test_i8_pages_of_other_sites_get_nothing(simulated: Artifact) -> None:
    """No leave to ask, and no request that needs none."""
    async with served(simulated) as url, aiohttp.ClientSession() as session:
        origin = {"Origin": "http://evil.example"}
        async with session.options(f"{url}/chat/completions", headers=origin) as got:
            assert got.status == 405
            assert not [name for name in got.headers if name.lower().startswith("access-control")]
        form = {"Content-Type": "text/plain"}
        status, said, headers = await post(url, {"messages": HELLO}, **form)
    assert status == 415
    assert "Content-Type" in said["error"]["message"]
    assert headers["X-Content-Type-Options"] == "nosniff"


async def test_nothing_else_is_there(simulated: Artifact) -> None:
    """Paths, methods, models."""
    async with served(simulated) as url:
        for path in ("/embeddings", "/completions", "/../artifact"):
            status, said, _ = await post(url, {}, path)
            assert (status, said["error"]["type"]) == (404, "invalid_request_error")
        status, _, _ = await post(url, {}, "/models")
        assert status == 405
        async with client_of(url) as client:
            with pytest.raises(openai.NotFoundError):
                await client.models.retrieve("gpt-4o")


async def test_i8_a_body_has_a_largest_size(simulated: Artifact) -> None:
    """Beyond it nothing is read."""
    async with served(simulated, caps=Caps(body_bytes=1000)) as url:
        status, said, _ = await post(url, {"messages": [{"role": "user", "content": "x" * 2000}]})
    assert (status, said["error"]["code"]) == (413, "invalid_request")


async def test_i8_so_many_requests_are_answered_at_once(
    server: OpenAIServer, simulated: Artifact
) -> None:
    """One more is told to come again."""
    server.fail_next(kind="hang")
    async with served(on(server, simulated), caps=Caps(in_flight=1)) as url:
        first = asyncio.create_task(post(url, {"messages": HELLO}))
        await until(lambda: server.in_flight == 1)
        status, _, headers = await post(url, {"messages": HELLO})
        assert (status, headers["Retry-After"]) == (429, "1")
        first.cancel()
        await until(lambda: server.in_flight == 0)
        assert (await post(url, {"messages": HELLO}))[0] == 200


async def test_i8_so_many_requests_are_taken_in_a_minute(simulated: Artifact) -> None:
    """The next is told when to come again."""
    async with served(simulated, caps=Caps(per_minute=1)) as url:
        assert (await post(url, {"messages": HELLO}))[0] == 200
        status, _, headers = await post(url, {"messages": HELLO})
    assert status == 429
    assert 1 <= int(headers["Retry-After"]) <= 60


def test_a_rate_lets_through_what_time_allows() -> None:
    """As many as a minute's at once, then one by one."""
    now = [100.0]
    rate = Rate(2, clock=lambda: now[0])
    assert [rate.wait_s(), rate.wait_s(), rate.wait_s()] == [0, 0, 30]
    now[0] += 30
    assert [rate.wait_s(), rate.wait_s()] == [0, 30]


class Broken(FakeListChatModel):
    """Fails in a way that nobody foresaw."""

    responses: list[str] = []  # noqa: RUF012 - pydantic copies it

    async def _agenerate(self, messages: Any, *_: Any, **__: Any) -> Any:
        raise ZeroDivisionError(f"at {messages[-1].text}")


async def test_a_fault_of_drpos_own_tells_no_texts(
    simulated: Artifact, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither to the client nor to a log."""
    asked = [{"role": "user", "content": "a secret question"}]
    with caplog.at_level(logging.DEBUG):
        async with served(simulated, Broken()) as url:
            status, said, _ = await post(url, {"messages": asked})
    assert (status, said["error"]["code"]) == (500, "internal_error")
    assert said["error"]["message"].endswith("ZeroDivisionError")
    assert "a secret question" not in caplog.text + json.dumps(said)


async def test_each_request_can_be_told_of_without_its_texts(simulated: Artifact) -> None:
    """What, how it went, how long, how many tokens."""
    lines: list[str] = []
    async with served(simulated, say=lines.append) as url:
        await post(url, {"messages": HELLO})
        await post(url, {}, "/Hello?")
        await post(url, {"messages": HELLO * 5_000})
    assert re.fullmatch(r"POST /v1/chat/completions 200 \d+\.\d\d s \d+\+\d+ tokens", lines[0])
    assert re.fullmatch(r"POST \(elsewhere\) 404 invalid_request \d+\.\d\d s", lines[1])
    assert "400 invalid_request" in lines[2]


@pytest.mark.parametrize(
    ("host", "variable", "token", "works"),
    [
        ("127.0.0.1", None, None, True),
        ("localhost", None, None, True),
        ("::1", None, None, True),
        ("127.0.0.1", None, TOKEN, True),
        ("0.0.0.0", None, TOKEN, True),
        ("0.0.0.0", None, None, False),
        ("", None, None, False),
        ("::", None, None, False),
        ("localhost.evil.example", None, None, False),
        ("127.0.0.1", "MY_TOKEN", None, False),
        ("0.0.0.0", None, "short", False),
    ],
)
def test_i8_off_this_machine_a_token_is_needed(
    host: str,
    variable: str | None,
    token: str | None,
    works: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And wherever its variable was named."""
    monkeypatch.delenv("DRPO_SERVE_TOKEN", raising=False)
    if token is not None:
        monkeypatch.setenv("DRPO_SERVE_TOKEN", token)
    if works:
        assert token_for(host, variable, verb="serve") == token
    else:
        with pytest.raises(drpo.BadInput, match=variable or "DRPO_SERVE_TOKEN"):
            token_for(host, variable, verb="serve")


def test_i8_without_a_token_nothing_listens_elsewhere(
    here: Here, simulated: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, and exit code 2."""
    monkeypatch.delenv("DRPO_SERVE_TOKEN", raising=False)
    write_artifact(tmp_path / "a.json", simulated)
    done = here("serve", "a.json", "--host", "0.0.0.0")
    assert (done.returncode, done.stdout) == (2, "")
    assert "DRPO_SERVE_TOKEN" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_command_serves_until_it_is_told_to_stop(
    here: Here, simulated: Artifact, tmp_path: Path
) -> None:
    """Says where; a second one on its port says so in one line; Ctrl-C ends it well."""
    write_artifact(tmp_path / "a.json", simulated)
    words = [sys.executable, "-m", "drpo", "serve", "a.json", "--port", "0", "-v"]
    with subprocess.Popen(
        words,
        cwd=tmp_path,
        env=os.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[0]
        with openai.OpenAI(base_url=url, api_key="any") as client:
            assert client.chat.completions.create(model="x", messages=HELLO).choices
        port = url.split(":")[2].removesuffix("/v1")
        second = here("serve", "a.json", "--port", port)
        process.send_signal(signal.SIGINT)
        rest, said = process.communicate(timeout=30)
    assert (second.returncode, second.stderr.count("\n")) == (2, 1)
    assert f"cannot listen on 127.0.0.1:{port}" in second.stderr
    assert (rest, process.returncode) == ("stopped\n", 0)
    told = said.replace("starting ...\n", "")
    assert re.fullmatch(r"drpo: POST /v1/chat/completions 200 .* tokens\n", told)
