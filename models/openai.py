"""Any server that speaks the OpenAI protocol, through langchain-openai.

One HTTP client per run, made and closed with it: the SDK's own cached one belongs to the first
event loop of the process. Retries are the caller's; here every failure becomes a TransportError.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Protocol

import httpx2
import openai
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.outputs import Generation, LLMResult
from langchain_openai import ChatOpenAI, OpenAI
from pydantic import SecretStr

from drpo.conf.schema import OpenAISettings
from drpo.graph.values import Message
from drpo.models.keys import api_key
from drpo.models.prices import price_of
from drpo.models.provider import Call, Completion, TransportError

_MESSAGES = {"system": SystemMessage, "user": HumanMessage, "assistant": AIMessage}
_KEY = re.compile(r"\b(?:sk|key|hf)[-_][A-Za-z0-9_*-]{6,}")
_BUSY = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS)
_REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)
_REFUSED_CODES = frozenset({"invalid_api_key", "model_not_found"})
_FINAL_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})

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


class _Model(Protocol):
    """Chat or text: what both classes of langchain-openai offer."""

    async def generate(self, call: Call, **options: Any) -> LLMResult: ...


NAME = "openai"


def parameters_of(settings: OpenAISettings) -> Mapping[str, Any]:
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


class OpenAIProvider:
    """One model on one server."""

    name = NAME

    def __init__(self, settings: OpenAISettings, client: httpx2.AsyncClient) -> None:
        """Raises BadInput when the key's environment variable is not set."""
        self.multiple = settings.multiple
        self.attempts = settings.attempts
        self.parameters = parameters_of(settings)
        self._settings = settings
        self.price = price_of(settings)
        self._key = api_key(settings)
        options: dict[str, Any] = {
            "model": settings.model,
            "base_url": settings.base_url,
            "api_key": SecretStr(self._key),
            "timeout": settings.timeout_s,
            "max_retries": 0,
            "http_async_client": client,
        }
        chosen = {"temperature": settings.temperature, "top_p": settings.top_p}
        options |= {name: value for name, value in chosen.items() if value is not None}
        if settings.max_tokens is not None:
            options["max_tokens"] = settings.max_tokens
        self._model: _Model = (_Chat if settings.format == "chat" else _Text)(options)

    async def complete(self, call: Call) -> Completion:
        """The server's answer; raises TransportError when there is none that can be used."""
        options: dict[str, Any] = {}
        if call.n > 1:
            options["n"] = call.n
        if self._settings.send_seed:
            options["seed"] = call.sample
        if call.schema is not None and self._settings.json_schema:
            # Beside the SDK's own `response_format`, which parses at 5 ms of CPU a call and raises
            # on an answer that was cut off.
            options["extra_body"] = {"response_format": response_format(call.schema)}
        token = _sent.set([])
        try:
            result = await self._model.generate(call, **options)
            hashes = _sent.get()
        except openai.APIError as error:
            raise self._problem(error) from None
        except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
            # langchain-openai on an error object, or on HTML, that came with status 200.
            raise TransportError(
                self._clean(f"the server's reply cannot be used: {error}"), retry=True
            ) from None
        finally:
            _sent.reset(token)
        return self._completion(result, hashes[-1] if hashes else None)

    def _completion(self, result: LLMResult, request_sha256: str | None) -> Completion:
        generations = result.generations[0] if result.generations else []
        if not generations:
            raise TransportError("the server's reply has no choices", retry=True)
        usage = (result.llm_output or {}).get("token_usage") or {}
        asked, said = usage.get("prompt_tokens"), usage.get("completion_tokens")
        return Completion(
            texts=tuple(_text(generation) for generation in generations),
            finish_reasons=tuple(
                str((generation.generation_info or {}).get("finish_reason") or "")
                for generation in generations
            ),
            prompt_tokens=asked,
            completion_tokens=said,
            cost_usd=self._cost(usage),
            request_sha256=request_sha256,
        )

    def _cost(self, usage: Mapping[str, Any]) -> float | None:
        asked, said = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if self.price is None or asked is None or said is None:
            return None
        return self.price.cost_usd(asked, said, _cached(usage))

    def _problem(self, error: openai.APIError) -> TransportError:
        text = self._clean(error.message)
        if isinstance(error, openai.APITimeoutError):
            return TransportError(f"no reply within {self._settings.timeout_s:g} s", retry=True)
        if not isinstance(error, openai.APIStatusError):
            return TransportError(f"cannot reach the server: {text}", retry=True)
        status = error.status_code
        retry = (
            status in _BUSY or status >= HTTPStatus.INTERNAL_SERVER_ERROR
        ) and error.code not in _FINAL_CODES
        wait_s = _retry_after(error.response.headers) if retry else None
        return TransportError(
            f"the server says {status} to model {self._settings.model!r}: {text}",
            retry=retry,
            wait_s=wait_s,
            refused=status in _REFUSED or error.code in _REFUSED_CODES,
        )

    def _clean(self, text: str) -> str:
        """One line, short, without the key."""
        line = " ".join(text.replace(self._key, "[key]").split())
        return _KEY.sub("[key]", line)[:300]


class _Chat:
    def __init__(self, options: Mapping[str, Any]) -> None:
        self._model = ChatOpenAI(**options)

    async def generate(self, call: Call, **options: Any) -> LLMResult:
        return await self._model.agenerate(
            [_turns(call.messages)], list(call.stop) or None, **options
        )


class _Text:
    def __init__(self, options: Mapping[str, Any]) -> None:
        self._model = OpenAI(**options)

    async def generate(self, call: Call, **options: Any) -> LLMResult:
        text = "\n\n".join(turn.content for turn in call.messages)
        return await self._model.agenerate([text], list(call.stop) or None, **options)


def _cached(usage: Mapping[str, Any]) -> int:
    """Prompt tokens that the server had cached; not every server tells, or in these words."""
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, Mapping) else None
    return cached if isinstance(cached, int) else 0


def _turns(messages: Sequence[Message]) -> list[BaseMessage]:
    return [_MESSAGES[turn.role](content=turn.content) for turn in messages]


def _text(generation: Generation) -> str:
    # A lone surrogate cannot be stored as UTF-8.
    return generation.text.encode("utf-8", "replace").decode()


def response_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON schema as the protocol wants it."""
    return {
        "type": "json_schema",
        "json_schema": {"name": "reply", "schema": dict(schema), "strict": True},
    }


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, where the server names them, a number of them, or a date."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) * unit)
        except (KeyError, ValueError):
            continue
    try:
        until = parsedate_to_datetime(headers.get("retry-after", ""))
        return max(0.0, (until - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
