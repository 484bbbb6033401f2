"""A server that speaks the OpenAI protocol, through the real langchain-openai."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from openai_server import OpenAIServer, Seen

from drpo.conf.schema import OpenAISettings
from drpo.graph.errors import BadInput
from drpo.graph.values import Message
from drpo.models.openai import OpenAIProvider, http_client
from drpo.models.provider import Call, TransportError

KEY = "sk-secret-0123456789"
HELLO = Call(messages=(Message("system", "Be kind."), Message("user", "Hello?")))


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def settings(server: OpenAIServer, **changes: Any) -> OpenAISettings:
    values = {"provider": "openai", "model": "target", "base_url": server.base_url}
    return OpenAISettings.model_validate(values | changes)


def body(seen: Seen) -> dict[str, Any]:
    assert seen.body is not None
    return seen.body


async def complete(server: OpenAIServer, call: Call = HELLO, **changes: Any) -> Any:
    async with http_client() as client:
        return await OpenAIProvider(settings(server, **changes), client).complete(call)


async def test_texts_tokens_and_the_hash_of_the_body_come_back(server: OpenAIServer) -> None:
    """All that the ledger keeps; the hash is the server's own."""
    got = await complete(server)
    [seen] = server.requests
    assert got.texts[0]
    assert got.finish_reasons == ("stop",)
    assert got.request_sha256 == seen.sha256
    assert got.prompt_tokens > 0
    assert got.completion_tokens > 0


async def test_several_completions_are_one_request(server: OpenAIServer) -> None:
    """With `n`, and tokens that are not counted n times over."""
    got = await complete(server, Call(messages=HELLO.messages, n=3))
    [seen] = server.requests
    assert len(set(got.texts)) == seen.n == 3
    assert got.prompt_tokens == (await complete(server)).prompt_tokens


async def test_concurrent_calls_keep_their_own_hash(server: OpenAIServer) -> None:
    """Each completion has the hash of its own body."""
    async with http_client() as client:
        provider = OpenAIProvider(settings(server), client)
        calls = [Call(messages=(Message("user", str(n)),)) for n in range(20)]
        got = await asyncio.gather(*(provider.complete(call) for call in calls))
    bodies = {seen.sha256: body(seen)["messages"][0]["content"] for seen in server.requests}
    assert [bodies[each.request_sha256 or ""] for each in got] == [str(n) for n in range(20)]


@pytest.mark.parametrize("wanted", [True, False])
async def test_a_schema_is_sent_where_the_server_knows_schemas(
    wanted: bool, server: OpenAIServer
) -> None:
    """As `response_format`."""
    schema = {"type": "object"}
    await complete(server, Call(messages=HELLO.messages, schema=schema), json_schema=wanted)
    assert ("response_format" in body(server.requests[0])) is wanted


async def test_sampling_is_sent(server: OpenAIServer) -> None:
    """Temperature and top_p as set; nothing for null."""
    await complete(server, temperature=0.2, top_p=0.95)
    await complete(server, temperature=None)
    first, second = (body(seen) for seen in server.requests)
    assert (first["temperature"], first["top_p"]) == (0.2, 0.95)
    assert "temperature" not in second
    assert "top_p" not in second


async def test_a_base_model_continues_one_text(server: OpenAIServer) -> None:
    """Through /completions, with its stop sequences."""
    call = Call(messages=(Message("user", "# Query\nHello?\n\n# Answer\n"),), stop=("# Query",))
    got = await complete(server, call, format="text")
    prompt = body(server.requests[0])["prompt"]
    assert prompt in ("# Query\nHello?\n\n# Answer\n", ["# Query\nHello?\n\n# Answer\n"])
    assert "# Query" not in got.texts[0]


@pytest.mark.parametrize(
    ("fault", "retry"),
    [
        ({"status": 429}, True),
        ({"status": 429, "code": "insufficient_quota"}, False),
        ({"status": 500}, True),
        ({"status": 503}, True),
        ({"status": 529}, True),
        ({"status": 400}, False),
        ({"status": 401}, False),
        ({"status": 403}, False),
        ({"status": 404}, False),
        ({"kind": "html"}, True),
        ({"kind": "html", "headers": {"Content-Type": "application/json"}}, True),
        ({"kind": "empty"}, True),
        ({"kind": "reset"}, True),
        ({"kind": "hang"}, True),
    ],
    ids=str,
)
async def test_a_fault_is_a_transport_error(
    fault: dict[str, Any], retry: bool, server: OpenAIServer
) -> None:
    """With the word whether it is worth another try, and without the key."""
    server.fail_next(message=f"bad key {KEY}", **fault)
    with pytest.raises(TransportError) as caught:
        await complete(server, timeout_s=0.3)
    assert caught.value.retry is retry
    assert KEY not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"Retry-After": "x"}, None),
        ({"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
    ],
)
async def test_the_servers_wait_is_told(
    headers: dict[str, str], seconds: float | None, server: OpenAIServer
) -> None:
    """In seconds or milliseconds."""
    server.fail_next(status=429, headers=headers)
    with pytest.raises(TransportError) as caught:
        await complete(server)
    assert caught.value.wait_s == seconds


async def test_no_server_is_a_transport_error() -> None:
    """Connection refused is worth another try."""
    values = {"provider": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1"}
    async with http_client() as client:
        provider = OpenAIProvider(OpenAISettings.model_validate(values), client)
        with pytest.raises(TransportError) as caught:
            await provider.complete(HELLO)
    assert caught.value.retry


async def test_a_missing_key_is_bad_input(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which names the variable; a server on this machine is asked without one."""
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(BadInput, match="OPENAI_API_KEY"):
        await complete(server, base_url=None)
    assert (await complete(server)).texts


def test_one_event_loop_after_another() -> None:
    """As the jobs of a multirun have them."""

    async def once() -> Any:
        async with OpenAIServer() as server:
            return await complete(server)

    assert asyncio.run(once()).texts == asyncio.run(once()).texts
