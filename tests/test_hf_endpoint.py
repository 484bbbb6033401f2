"""Hugging Face endpoints, through langchain-huggingface, on a server that speaks TGI's protocol."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from openai_server import OpenAIServer

import drpo
from drpo.conf.schema import HFEndpointSettings
from drpo.graph.errors import BadInput
from drpo.graph.values import Message
from drpo.models.hf_endpoint import endpoint
from drpo.models.provider import Call, Completion, TransportError
from drpo.settings import compose_settings

KEY = "hf_nobodys0123456789"
HELLO = Call(messages=(Message("system", "Be kind."), Message("user", "Hello?")), sample=3)
SCHEMA = {"type": "object", "properties": {"score": {"type": "integer"}}}


class Endpoint:
    """As Text Generation Inference: both of its protocols, and what it refuses of the older one."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.paths: list[str] = []
        self.errors: list[web.Response] = []
        self.wait_s = 0.0
        self.choice: dict[str, Any] = {"finish_reason": "stop", "message": {"content": "Hi."}}
        self.usage: dict[str, int] | None = {
            "prompt_tokens": 9,
            "completion_tokens": 2,
            "total_tokens": 11,
        }
        self.text = "Hi."
        self.details: dict[str, Any] | None = {
            "finish_reason": "eos_token",
            "generated_tokens": 2,
            "prefill": [],
            "tokens": [],
        }

    async def answer(self, request: web.Request) -> web.Response:
        """The next planned error, or an answer."""
        body = await request.json()
        self.bodies.append(body)
        self.keys.append(request.headers.get("Authorization"))
        self.paths.append(request.path)
        await asyncio.sleep(self.wait_s)
        if self.errors:
            return self.errors.pop(0)
        return self._chat() if request.path == "/v1/chat/completions" else self._generate(body)

    def _chat(self) -> web.Response:
        choice = {"index": 0, "logprobs": None, **self.choice}
        choice["message"] = {"role": "assistant", **choice["message"]}
        said = {"id": "", "created": 0, "model": "tgi", "system_fingerprint": "3.3"}
        usage = {} if self.usage is None else {"usage": self.usage}
        return web.json_response({**said, "choices": [choice], **usage})

    def _generate(self, body: dict[str, Any]) -> web.Response:
        asked = body["parameters"]
        if asked.get("temperature") == 0:
            return refused(422, "Input validation error: `temperature` must be strictly positive")
        if asked.get("top_p") == 1:
            return refused(422, "Input validation error: `top_p` must be > 0.0 and < 1.0")
        detailed = asked.get("details") and self.details is not None
        return web.json_response(
            [{"generated_text": self.text, **({"details": self.details} if detailed else {})}]
        )


def refused(status: int, words: str, kind: str = "validation", **headers: str) -> web.Response:
    """In TGI's words."""
    told = {"error": words, "error_type": kind}
    return web.json_response(told, status=status, headers=headers)


@pytest.fixture(autouse=True)
def no_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "HUGGINGFACEHUB_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def server() -> AsyncIterator[tuple[Endpoint, str]]:
    answering = Endpoint()
    application = web.Application()
    for path in ("/", "/v1/chat/completions"):
        application.router.add_post(path, answering.answer)
    async with TestServer(application) as running:
        yield answering, str(running.make_url("/"))


def settings(url: str, **changes: Any) -> HFEndpointSettings:
    values = {"provider": "hf_endpoint", "base_url": url, "timeout_s": 5}
    return HFEndpointSettings.model_validate(values | changes)


async def asked(url: str, call: Call = HELLO, **changes: Any) -> Completion:
    async with endpoint(settings(url, **changes)) as provider:
        return await provider.complete(call)


async def test_a_chat_is_asked_with_all_that_the_settings_say(
    server: tuple[Endpoint, str],
) -> None:
    """Also what ChatHuggingFace leaves out by itself: temperature 0, top_p, seed; and no more."""
    seen, url = server
    call = Call(messages=HELLO.messages, sample=3, stop=("END",), room=77, schema=SCHEMA)
    done = await asked(url, call, model="m", top_p=0.9)
    assert done.texts == ("Hi.",)
    assert done.finish_reasons == ("stop",)
    assert (done.prompt_tokens, done.completion_tokens) == (9, 2)
    turns = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello?"}]
    assert seen.bodies == [
        {
            "model": "m",
            "messages": turns,
            "temperature": 0.0,
            "top_p": 0.9,
            "seed": 3,
            "stop": ["END"],
            "max_tokens": 77,
            "response_format": {"type": "json_object", "value": SCHEMA},
            "stream": False,
        }
    ]


async def test_a_text_is_asked_with_all_that_the_settings_say(server: tuple[Endpoint, str]) -> None:
    """And nothing that HuggingFaceEndpoint assumes by itself, as typical_p=0.95."""
    seen, url = server
    seen.text = "Hi. END"
    call = Call(messages=HELLO.messages, sample=3, stop=("END",), room=77, schema=SCHEMA)
    done = await asked(url, call, format="text", temperature=0.7, top_p=0.9)
    assert done.texts == ("Hi. ",)
    assert done.finish_reasons == ("stop",)
    assert (done.prompt_tokens, done.completion_tokens) == (None, 2)
    [body] = seen.bodies
    assert body["inputs"] == "Be kind.\n\nHello?"
    assert body["parameters"] == {
        "details": True,
        "do_sample": True,
        "grammar": {"type": "json", "value": SCHEMA},
        "max_new_tokens": 77,
        "return_full_text": False,
        "seed": 3,
        "stop": ["END"],
        "temperature": 0.7,
        "top_p": 0.9,
        "watermark": False,
    }


async def test_a_text_without_chance_is_asked_for_as_the_server_takes_it(
    server: tuple[Endpoint, str],
) -> None:
    """It refuses a temperature of 0 and a top_p of 1, which mean the same as none."""
    seen, url = server
    await asked(url, format="text", temperature=0, top_p=1)
    [body] = seen.bodies
    assert body["parameters"]["do_sample"] is False
    assert not {"temperature", "top_p"} & set(body["parameters"])


@pytest.mark.parametrize("path", ["", "v1", "v1/"])
@pytest.mark.parametrize(("kind", "asks"), [("chat", "/v1/chat/completions"), ("text", "/")])
async def test_the_address_may_end_with_v1(
    kind: str, asks: str, path: str, server: tuple[Endpoint, str]
) -> None:
    """As servers tell theirs."""
    seen, url = server
    await asked(url + path, format=kind)
    assert seen.paths == [asks]


@pytest.mark.parametrize(
    ("said", "reason"),
    [("length", "length"), ("eos_token", "stop"), ("stop_sequence", "stop"), ("stop", "stop")],
)
@pytest.mark.parametrize("kind", ["chat", "text"])
async def test_the_end_of_an_answer_is_told_in_our_words(
    kind: str, said: str, reason: str, server: tuple[Endpoint, str]
) -> None:
    """Of both protocols."""
    seen, url = server
    seen.choice["finish_reason"] = said
    assert seen.details is not None
    seen.details["finish_reason"] = said
    assert (await asked(url, format=kind)).finish_reasons == (reason,)


@pytest.mark.parametrize("kind", ["chat", "text"])
async def test_what_the_server_does_not_tell_is_not_made_up(
    kind: str, server: tuple[Endpoint, str]
) -> None:
    """Neither tokens nor an end."""
    seen, url = server
    seen.usage = seen.details = None
    seen.choice["finish_reason"] = ""
    done = await asked(url, format=kind)
    assert (done.texts, done.finish_reasons) == (("Hi.",), ("",))
    assert done.prompt_tokens is done.completion_tokens is None


async def test_thinking_is_kept_apart(server: tuple[Endpoint, str]) -> None:
    """Where the server tells it beside the answer."""
    seen, url = server
    seen.choice["message"] = {"content": "Hi.", "reasoning_content": "Hm."}
    done = await asked(url)
    assert (done.texts, done.thinking) == (("Hi.",), ("Hm.",))


@pytest.mark.parametrize("kind", ["chat", "text"])
async def test_i7_the_key_comes_from_the_variable_that_the_settings_name_alone(
    kind: str, server: tuple[Endpoint, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a token that lies about for the hub, which langchain-huggingface would send."""
    seen, url = server
    monkeypatch.setenv("HF_TOKEN", "hf_ofthehub0123456")
    monkeypatch.setenv("HUGGINGFACEHUB_API_TOKEN", "hf_ofthehub0123456")
    named: dict[str, Any] = {"api_key_env": "OWN_KEY", "format": kind}
    await asked(url, **named)
    monkeypatch.setenv("OWN_KEY", KEY)
    await asked(url, **named)
    assert seen.keys == ["Bearer none", f"Bearer {KEY}"]


async def test_a_server_elsewhere_needs_a_key() -> None:
    """The variable is named before anything is asked."""
    with pytest.raises(BadInput, match="HF_TOKEN"):
        await asked("https://nowhere.example")


@pytest.mark.parametrize(
    "words",
    [
        "models.judge.base_url=null",
        "models.judge.base_url=my/model",
        "models.judge.multiple=true",
        "models.judge.max_tokens=null",
    ],
)
def test_what_the_server_cannot_do_is_refused(words: str) -> None:
    """Instead of being ignored."""
    with pytest.raises(BadInput, match=words.split(".")[2].partition("=")[0]):
        compose_settings(
            ["provider@models.judge=hf_endpoint", "models.judge.base_url=http://127.0.0.1:1", words]
        )


@pytest.mark.parametrize("kind", ["chat", "text"])
@pytest.mark.parametrize(
    ("status", "words", "expected"),
    [
        (401, "Invalid credentials", {"retry": False, "refused": True}),
        (404, "Not found", {"retry": False, "refused": True}),
        (424, "Request failed during generation: out of memory", {"retry": True, "busy": False}),
        (429, "Model is overloaded", {"retry": True, "busy": True, "wait_s": 7.0}),
        (503, "The endpoint is starting", {"retry": True, "busy": True, "wait_s": 7.0}),
        (500, "Incomplete generation", {"retry": True, "busy": False}),
        (
            422,
            "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096.",
            {"retry": False, "ended": "context_overflow"},
        ),
        (
            422,
            "Input validation error: `inputs` must have less than 1024 tokens. Given: 1053",
            {"retry": False, "ended": "context_overflow"},
        ),
        (
            422,
            "Template error: invalid operation: System role not supported",
            {"retry": False, "parameter": "system"},
        ),
        (422, "Input validation error: `seed` must be positive", {"parameter": "seed"}),
    ],
    ids=str,
)
async def test_errors_are_told_apart(
    status: int, words: str, expected: dict[str, Any], kind: str, server: tuple[Endpoint, str]
) -> None:
    """By status, and by the server's words where they say more; in one line."""
    seen, url = server
    seen.errors = [refused(status, words, **{"Retry-After": "7"})]
    with pytest.raises(TransportError) as caught:
        await asked(url, format=kind)
    assert {name: getattr(caught.value, name) for name in expected} == expected
    assert str(caught.value) == f"the server says {status} to model 'tgi': {words}"


@pytest.mark.parametrize(("kind", "name"), [("chat", "response_format"), ("text", "grammar")])
async def test_l12_what_the_server_does_not_take_is_left_out(
    kind: str, name: str, server: tuple[Endpoint, str]
) -> None:
    """A schema has another name in each protocol."""
    seen, url = server
    seen.errors = [refused(422, "Input validation error: grammar is not supported")]
    call = Call(messages=HELLO.messages, schema=SCHEMA)
    async with endpoint(settings(url, format=kind)) as provider:
        with pytest.raises(TransportError) as caught:
            await provider.complete(call)
        assert caught.value.parameter == name
        for each in (name, "seed", "system", "stop"):
            provider.leave_out(each)
        await provider.complete(call)
    sent = json.dumps(seen.bodies[-1])
    assert "system" not in sent
    assert "seed" not in sent
    assert "schema" not in sent
    assert name not in sent


@pytest.mark.parametrize("kind", ["chat", "text"])
@pytest.mark.parametrize("body", ["<html>", "[]", "{}", '{"choices": []}', "null", "7"])
async def test_l2_a_reply_of_another_form_is_one_line(
    kind: str, body: str, server: tuple[Endpoint, str]
) -> None:
    """And worth another try."""
    seen, url = server
    seen.errors = [web.Response(text=body, content_type="application/json")]
    with pytest.raises(TransportError, match=r"cannot be used|no message") as caught:
        await asked(url, format=kind)
    assert caught.value.retry


@pytest.mark.parametrize("kind", ["chat", "text"])
async def test_a_server_that_is_slow_or_away_is_told(
    kind: str, server: tuple[Endpoint, str], unused_tcp_port: int
) -> None:
    """Within the time of the settings, which may be less than a second."""
    seen, url = server
    seen.wait_s = 5
    with pytest.raises(TransportError, match=r"no reply within 0\.2 s") as caught:
        await asked(url, format=kind, timeout_s=0.2)
    assert caught.value.busy
    with pytest.raises(TransportError, match="cannot reach the server") as caught:
        await asked(f"http://127.0.0.1:{unused_tcp_port}", format=kind)
    assert caught.value.retry
    assert not caught.value.reached


async def test_an_error_does_not_repeat_the_key(
    server: tuple[Endpoint, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the server says."""
    seen, url = server
    monkeypatch.setenv("HF_TOKEN", "hush-hush")
    seen.errors = [refused(401, "the key hush-hush is wrong")]
    with pytest.raises(TransportError) as caught:
        await asked(url)
    assert "hush-hush" not in str(caught.value)


@pytest.mark.parametrize("kind", ["chat", "text"])
async def test_a_search_runs_with_its_target_on_an_endpoint(
    kind: str, server: tuple[Endpoint, str], tmp_path: Any
) -> None:
    """And is read from its file again without any endpoint."""
    _, url = server
    words = ["provider@models.target=hf_endpoint", f"models.target.base_url={url}"]
    words += [f"models.target.format={kind}", "search=greedy", "search.levels=2"]
    done = await drpo.optimize(*words, "data.limit=4", runs=tmp_path)
    assert done.summary["status"] == "done"
    assert done.path_value is not None


async def test_roles_that_ask_for_json_run_on_an_endpoint_too(tmp_path: Any) -> None:
    """All four, on a server whose chat speaks the same protocol."""
    roles = ("target", "rewarder", "judge", "rewriter")
    async with OpenAIServer() as running:
        words = [f"provider@models.{role}=hf_endpoint" for role in roles]
        words += [f"models.{role}.base_url={running.base_url}" for role in roles]
        words += [f"models.{role}.model={role}" for role in roles]
        done = await drpo.optimize(
            *words, "search=greedy", "search.levels=2", "data.limit=4", runs=tmp_path
        )
    assert done.summary["status"] == "done"
    assert done.summary["tokens"]["estimated"] is False
