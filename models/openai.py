"""Any server that speaks the OpenAI protocol, through langchain-openai.

One HTTP client per run, made and closed with it: the SDK's own cached one belongs to the first
event loop of the process. Retries are the caller's; what an error means is `openai_errors`'.
"""

from __future__ import annotations

import asyncio
import hashlib
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Protocol, cast

import httpx2
import openai
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import (
    ChatGeneration,
    ChatGenerationChunk,
    ChatResult,
    GenerationChunk,
    LLMResult,
)
from langchain_openai import ChatOpenAI, OpenAI
from pydantic import SecretStr

from drpo.conf.schema import HFEndpointSettings, OpenAISettings
from drpo.graph.values import Message
from drpo.models.keys import api_key, header_values, secrets_of
from drpo.models.openai_errors import explained
from drpo.models.prices import price_of
from drpo.models.provider import (
    Call,
    Completion,
    Limits,
    TransportError,
    limits_of,
    merged,
    too_late,
)
from drpo.models.turns import merged_turns, one_text, storable, turns_of

ROOM_FOR_TEXT = 1024
"""Tokens of a text to continue where the settings name none: the protocol's own default is 16."""
NOTHING: Mapping[str, Any] = MappingProxyType({})
NO_CHOICES = "the server's reply has no choices"
THINKING = ("reasoning_content", "reasoning")
"""Where servers put what a model thought, beside its answer."""

# Of a request that is refused; the caller tells of it in its own words.
warnings.filterwarnings("ignore", message="(This model does not support|Invalid schema for) ")

_sent: ContextVar[list[str]] = ContextVar("_sent")
"""Where the HTTP client leaves the hash of the body it sends for the call at hand."""


async def _note_body(request: httpx2.Request) -> None:
    note = _sent.get(None)
    if note is not None:
        note.append(hashlib.sha256(request.content).hexdigest())


@asynccontextmanager
async def http_client() -> AsyncIterator[httpx2.AsyncClient]:
    """The one client of a run; aiohttp's transport, which costs the least CPU a call."""
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=256)
    async with openai.DefaultAioHttpClient(
        event_hooks={"request": [_note_body]}, limits=limits
    ) as client:
        yield client


def parameters_of(settings: OpenAISettings | HFEndpointSettings) -> Mapping[str, Any]:
    """All that shapes an answer."""
    return {
        "model": settings.model,
        "base_url": settings.base_url,
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "max_tokens": settings.max_tokens,
        "format": settings.format,
        "json_schema": settings.json_schema,
        "send_seed": settings.send_seed,
    }


class _Model(Protocol):
    """Chat or text: what both classes of langchain-openai offer."""

    async def generate(self, messages: Sequence[Message], **options: Any) -> LLMResult: ...

    async def answer(self, turns: Sequence[BaseMessage], **options: Any) -> ChatResult: ...

    def stream(
        self, turns: Sequence[BaseMessage], **options: Any
    ) -> AsyncGenerator[ChatGenerationChunk]: ...


class OpenAIProvider:
    """One model on one server."""

    name = "openai"

    def __init__(self, settings: OpenAISettings, client: httpx2.AsyncClient) -> None:
        """Raises BadInput when an environment variable that the settings name is not set."""
        self.parameters = parameters_of(settings)
        self.price = price_of(settings)
        self.limits: Limits = limits_of(
            settings, f"{settings.base_url or 'openai'} {settings.api_key_env}"
        )
        self._settings = settings
        self._left_out: set[str] = set()
        key, headers = api_key(settings), header_values(settings)
        self._secrets = secrets_of(settings)
        made = _Chat if settings.format == "chat" else _Text
        self._model: _Model = made(
            {
                "model": settings.model,
                "base_url": settings.base_url,
                "api_key": SecretStr(key),
                "default_headers": headers or None,
                "timeout": settings.timeout_s,
                "max_retries": 0,
                "http_async_client": client,
            }
        )

    @property
    def multiple(self) -> bool:
        """Whether one call may ask for several completions."""
        return self._settings.multiple and "n" not in self._left_out

    def leave_out(self, parameter: str) -> None:
        """From now on, do without it."""
        self._left_out.add(parameter)

    async def complete(self, call: Call) -> Completion:
        """The server's answer; raises TransportError when there is none that can be used."""
        messages = merged(call.messages) if "system" in self._left_out else call.messages
        options = self._options(call)
        token = _sent.set([])
        try:
            with self._explaining(options):
                # The SDK's own limit starts anew with every byte that comes.
                async with asyncio.timeout(self._settings.timeout_s):
                    result = await self._model.generate(messages, **options)
            hashes = _sent.get()
        finally:
            _sent.reset(token)
        return completion_of(result, call.stop, hashes[-1] if hashes else None)

    async def answer(
        self,
        turns: Sequence[BaseMessage],
        call: Call,
        more: Mapping[str, Any],
        without: Collection[str] = (),
    ) -> ChatResult:
        """The answer to turns of LangChain, asked as `complete` asks.

        `more` are the asker's own options, e.g. tools; `without` is left out of this request alone.
        Raises TransportError.
        """
        options = self._options(call, more, without)
        with self._explaining(options):
            async with asyncio.timeout(self._settings.timeout_s):
                result = await self._model.answer(self._turns(turns, without), **options)
        if not result.generations:
            raise TransportError(NO_CHOICES, retry=True)
        return result

    async def stream(
        self,
        turns: Sequence[BaseMessage],
        call: Call,
        more: Mapping[str, Any],
        without: Collection[str] = (),
    ) -> AsyncGenerator[ChatGenerationChunk]:
        """The same bit by bit; the request says `stream` and nothing else beside."""
        options = self._options(call, more, without)
        source, heard = self._model.stream(self._turns(turns, without), **options), False
        with self._explaining(options):
            async with aclosing(source) as bits:
                async for bit in bits:
                    heard = True
                    yield bit
        if not heard:
            raise TransportError(NO_CHOICES, retry=True)

    @contextmanager
    def _explaining(self, options: Mapping[str, Any]) -> Iterator[None]:
        """What goes wrong with a request is a TransportError."""
        try:
            yield
        except TimeoutError:
            raise too_late(self._settings.timeout_s) from None
        except openai.APIError as error:
            sent = {*options, *options.get("extra_body", ()), "system"}
            raise explained(error, self._settings, sent, self._secrets) from None
        except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
            # langchain-openai on an error object, or on HTML, that came with status 200.
            raise explained(error, self._settings, (), self._secrets) from None

    def _turns(self, turns: Sequence[BaseMessage], without: Collection[str]) -> list[BaseMessage]:
        return merged_turns(turns) if "system" in {*self._left_out, *without} else list(turns)

    def _options(
        self, call: Call, more: Mapping[str, Any] = NOTHING, without: Collection[str] = ()
    ) -> dict[str, Any]:
        return options_of(self._settings, call, more, left_out={*self._left_out, *without})


def options_of(
    settings: OpenAISettings,
    call: Call,
    more: Mapping[str, Any] = NOTHING,
    *,
    left_out: Collection[str] = (),
) -> dict[str, Any]:
    """What the request says beside its messages, less what the server does not take."""
    body = dict[str, Any]()
    room, chat = call.room or settings.max_tokens, settings.format == "chat"
    if room is not None and chat:
        body["max_completion_tokens"] = room
        # Older servers know only this name, which api.openai.com refuses for newer models.
        body |= {} if settings.base_url is None else {"max_tokens": room}
    if call.schema is not None and settings.json_schema:
        # Beside the SDK's own `response_format`, which parses at 5 ms of CPU a call and raises
        # on an answer that was cut off.
        body["response_format"] = response_format(call.schema)
    chosen = {
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "n": call.n if call.n > 1 else None,
        "seed": call.sample if settings.send_seed else None,
        "stop": list(call.stop) or None,
        "max_tokens": None if chat else room or ROOM_FOR_TEXT,
    }
    options: dict[str, Any] = {
        name: value
        for name, value in {**chosen, **more}.items()
        if value is not None and name not in left_out
    }
    body |= options.pop("extra_body", None) or {}
    body = {name: value for name, value in body.items() if name not in left_out}
    return options | ({"extra_body": body} if body else {})


def completion_of(
    result: LLMResult, stops: Sequence[str], request_sha256: str | None
) -> Completion:
    """What langchain-openai made of a reply, as the ledger wants it."""
    generations = result.generations[0] if result.generations else []
    if not generations:
        raise TransportError(NO_CHOICES, retry=True)
    usage = (result.llm_output or {}).get("token_usage") or {}
    told = [generation.generation_info or {} for generation in generations]
    return Completion(
        texts=tuple(before(stops, storable(generation.text)) for generation in generations),
        finish_reasons=tuple(str(each.get("finish_reason") or "") for each in told),
        prompt_tokens=usage.get("prompt_tokens"),
        completion_tokens=usage.get("completion_tokens"),
        cached_tokens=_cached(usage),
        request_sha256=request_sha256,
        thinking=tuple(str(each["thinking"]) for each in told if each.get("thinking")),
    )


class _AsItCame(ChatOpenAI):
    """Keeps what ChatOpenAI drops: refusals as answers, thinking, and each choice's own end."""

    def _get_request_payload(
        self, input_: LanguageModelInput, *, stop: list[str] | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        payload = super()._get_request_payload(input_, stop=stop, **kwargs)
        extra = payload.pop("extra_body", None) or {}
        # The SDK walks what it knows through its typed dicts, at a fifth of the CPU of a call, and
        # finds nothing to change; what is in `extra_body` is sent as it is.
        # It has to know of `stream` itself, which is how it reads the reply.
        streams = {"stream": True} if payload.get("stream") else {}
        body = {"model": self.model_name, "messages": [], "extra_body": payload | extra}
        return body | streams

    async def answer(self, turns: Sequence[BaseMessage], **options: Any) -> ChatResult:
        """As it is asked by itself, without callbacks."""
        return await self._agenerate(list(turns), **options)

    def bits(
        self, turns: Sequence[BaseMessage], **options: Any
    ) -> AsyncGenerator[ChatGenerationChunk]:
        """The same bit by bit."""
        return cast("AsyncGenerator[ChatGenerationChunk]", self._astream(list(turns), **options))

    def _create_chat_result(
        self, response: Any, generation_info: dict[str, Any] | None = None
    ) -> ChatResult:
        result = super()._create_chat_result(response, generation_info)
        for generation, choice in zip(result.generations, _of(response, "choices"), strict=True):
            said = _of(choice, "message")
            thoughts = (_of(said, name) for name in THINKING)
            # ChatOpenAI gives all choices one dict, so that the last one's end is everybody's.
            generation.generation_info = {
                "finish_reason": _of(choice, "finish_reason"),
                "thinking": next(filter(None, thoughts), None),
            }
            refusal = _of(said, "refusal")
            if refusal and not _of(said, "content"):
                generation.message.content = refusal
                generation.text = refusal
                generation.generation_info["finish_reason"] = "refusal"
        return result


def _of(said: Any, name: str) -> Any:
    """A field of a reply, of the SDK's types or plain; also one that the SDK does not know."""
    return said.get(name) if isinstance(said, Mapping) else getattr(said, name, None)


class _BitByBit(OpenAI):
    """Streams the answer to the very request that it is asked with otherwise."""

    def bits(self, prompt: str, **options: Any) -> AsyncGenerator[GenerationChunk]:
        """Of one text."""
        # OpenAI sends the prompt in a list, but not where it streams.
        prompts: Any = [prompt]
        return cast("AsyncGenerator[GenerationChunk]", self._astream(prompts, **options))


class _Chat:
    def __init__(self, options: Mapping[str, Any]) -> None:
        self._model = _AsItCame(**options)

    async def generate(self, messages: Sequence[Message], **options: Any) -> LLMResult:
        return await self._model.agenerate([turns_of(messages)], **options)

    async def answer(self, turns: Sequence[BaseMessage], **options: Any) -> ChatResult:
        return await self._model.answer(turns, **options)

    def stream(
        self, turns: Sequence[BaseMessage], **options: Any
    ) -> AsyncGenerator[ChatGenerationChunk]:
        return self._model.bits(turns, **options)


class _Text:
    def __init__(self, options: Mapping[str, Any]) -> None:
        self._model = _BitByBit(**options)

    async def generate(self, messages: Sequence[Message], **options: Any) -> LLMResult:
        return await self._model.agenerate([one_text(messages)], **options)

    async def answer(self, turns: Sequence[BaseMessage], **options: Any) -> ChatResult:
        result = await self._model.agenerate([_joined(turns)], **options)
        usage = (result.llm_output or {}).get("token_usage") or {}
        return ChatResult(
            generations=[
                ChatGeneration(
                    message=AIMessage(each.text, usage_metadata=_usage(usage)),
                    generation_info=each.generation_info,
                )
                for each in result.generations[0]
            ]
        )

    async def stream(
        self, turns: Sequence[BaseMessage], **options: Any
    ) -> AsyncGenerator[ChatGenerationChunk]:
        async with aclosing(self._model.bits(_joined(turns), **options)) as bits:
            async for bit in bits:
                message = AIMessageChunk(content=bit.text)
                yield ChatGenerationChunk(message=message, generation_info=bit.generation_info)


def _joined(turns: Sequence[BaseMessage]) -> str:
    return one_text([Message("user", str(turn.text)) for turn in turns])


def _usage(said: Mapping[str, Any]) -> UsageMetadata | None:
    asked, answered = said.get("prompt_tokens"), said.get("completion_tokens")
    if asked is None or answered is None:
        return None
    return UsageMetadata(input_tokens=asked, output_tokens=answered, total_tokens=asked + answered)


def _cached(usage: Mapping[str, Any]) -> int:
    """Prompt tokens that the server had cached; not every server tells, or in these words."""
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, Mapping) else None
    return cached if isinstance(cached, int) else 0


def before(stops: Sequence[str], text: str) -> str:
    """What a server that takes no stop sequences should have left out."""
    for stop in filter(None, stops):
        text = text.split(stop, 1)[0]
    return text


def response_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON schema as the protocol wants it."""
    return {
        "type": "json_schema",
        "json_schema": {"name": "reply", "schema": dict(schema), "strict": True},
    }
