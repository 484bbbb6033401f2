"""A Hugging Face Inference Endpoint, or a Text Generation Inference server, by its own protocol.

Through langchain-huggingface's HuggingFaceEndpoint, without torch. Every option is sent with every
call: what both of its classes assume or drop by themselves would shape answers unseen. What an
error means is `openai_errors`'.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Protocol

import httpx
from langchain_core.outputs import ChatResult, Generation, LLMResult
from langchain_huggingface import ChatHuggingFace, HuggingFaceEndpoint

from drpo.conf.schema import HFEndpointSettings
from drpo.graph.values import Message
from drpo.models.keys import api_key, header_values, secrets_of
from drpo.models.langchain import completion_of
from drpo.models.openai import THINKING, before, parameters_of, response_format
from drpo.models.openai_errors import Said, by_status, cleaned
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
from drpo.models.turns import one_text, storable, turns_of

CONNECTIONS = 100
"""As many as huggingface_hub's HTTP client opens; what waits for one would run out of time."""
ENDS = {"eos_token": "stop", "stop_sequence": "stop"}
"""Why Text Generation Inference stopped, in the words of the others."""


class _Model(Protocol):
    """Chat or text."""

    def options(self, call: Call, settings: HFEndpointSettings) -> Mapping[str, Any]:
        """What the request says beside its messages, by the names that the class takes."""
        ...

    async def answer(
        self, messages: Sequence[Message], stop: Sequence[str], options: Mapping[str, Any]
    ) -> Completion: ...


class HFEndpointProvider:
    """One role on one endpoint."""

    name = "hf_endpoint"
    multiple = False

    def __init__(self, settings: HFEndpointSettings) -> None:
        """Raises BadInput when an environment variable that the settings name is not set."""
        self.parameters = parameters_of(settings)
        self.price = price_of(settings)
        limits = limits_of(settings, f"{settings.base_url} {settings.api_key_env}")
        most = min(CONNECTIONS, settings.concurrency or CONNECTIONS)
        self.limits: Limits = replace(limits, concurrency=most)
        self._settings = settings
        self._left_out: set[str] = set()
        key, headers = api_key(settings), header_values(settings)
        self._secrets = secrets_of(settings)
        given = {name.lower(): value for name, value in headers.items()}
        self._endpoint = _endpoint(settings, {"authorization": f"Bearer {key}", **given})
        self._model: _Model = (
            _Chat(self._endpoint) if settings.format == "chat" else _Text(self._endpoint)
        )

    def leave_out(self, parameter: str) -> None:
        """From now on, do without it."""
        self._left_out.add(parameter)

    async def complete(self, call: Call) -> Completion:
        """The server's answer; raises TransportError when there is none that can be used."""
        messages = merged(call.messages) if "system" in self._left_out else call.messages
        known = self._model.options(call, self._settings).items()
        options = {name: None if name in self._left_out else value for name, value in known}
        stop = () if "stop" in self._left_out else call.stop
        try:
            # An HTTP client's own limit starts anew with every byte that comes.
            async with asyncio.timeout(self._settings.timeout_s):
                done = await self._model.answer(messages, stop, options)
        except TimeoutError:
            raise too_late(self._settings.timeout_s) from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            sent = {name for name, value in options.items() if value is not None}
            raise self._explained(error, {*sent, "stop", "system"}) from None
        except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
            # huggingface_hub on a reply of another form that came with status 200.
            text = cleaned(f"{type(error).__name__}: {error}", self._secrets)
            raise TransportError(f"the server's reply cannot be used: {text}", retry=True) from None
        texts = tuple(before(call.stop, text) for text in done.texts)
        return replace(done, texts=texts)

    async def close(self) -> None:
        """Gives the connections back."""
        await self._endpoint.async_client.close()

    def _explained(self, error: Exception, sent: set[str]) -> TransportError:
        response = _response(error)
        if response is None:
            text = cleaned(str(error) or type(error).__name__, self._secrets)
            return TransportError(f"cannot reach the server: {text}", retry=True, reached=False)
        said = Said(
            status=response.status_code,
            words=_words(response),
            body=response.text,
            headers=response.headers,
        )
        # A schema has another name in each of the two protocols.
        alias = {"response_format"} if "grammar" in sent else set[str]()
        found = by_status(said, self._settings.model, sent | alias, self._secrets)
        if found.parameter in alias:
            found.parameter = "grammar"
        return found


@asynccontextmanager
async def endpoint(settings: HFEndpointSettings) -> AsyncIterator[HFEndpointProvider]:
    """Meanwhile it can be asked; afterwards its HTTP client is closed. Raises BadInput."""
    provider = HFEndpointProvider(settings)
    try:
        yield provider
    finally:
        await provider.close()


def _endpoint(settings: HFEndpointSettings, headers: Mapping[str, str]) -> HuggingFaceEndpoint:
    address = str(settings.base_url).rstrip("/").removesuffix("/v1")
    return _Detailed(
        model=address,
        # Of what it assumes where nothing is said.
        top_p=None,
        typical_p=None,
        temperature=None,
        # Whole seconds; complete() has the exact limit.
        timeout=math.ceil(settings.timeout_s),
        # Not as huggingfacehub_api_token: that is dropped for any host but huggingface.co and
        # hf.space, endpoints.huggingface.cloud too, and a token that lies about is sent instead.
        server_kwargs={"headers": dict(headers)},
    )


class _Detailed(HuggingFaceEndpoint):
    """Keeps what HuggingFaceEndpoint drops: why a text ended, and how many tokens it has."""

    async def _agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: Any = None,  # noqa: ARG002 - nobody listens
        **kwargs: Any,
    ) -> LLMResult:
        options = self._invocation_params(stop, **kwargs)
        generations = []
        for prompt in prompts:
            reply = await self.async_client.text_generation(
                prompt=prompt, details=True, model=self.model, **options
            )
            told = reply.details
            info: dict[str, Any] | None = None
            if told is not None:
                info = {"tokens": told.generated_tokens, "finish_reason": told.finish_reason}
            generations.append([Generation(text=reply.generated_text, generation_info=info)])
        return LLMResult(generations=generations)


class _AsItCame(ChatHuggingFace):
    """Keeps what ChatHuggingFace drops: what a model thought."""

    def _create_chat_result(self, response: Any) -> ChatResult:
        result = super()._create_chat_result(response)
        # As an attribute: by its key it is a copy that has lost what huggingface_hub does not know.
        for generation, choice in zip(result.generations, response.choices, strict=True):
            said = choice.message
            thinking = next((said[name] for name in THINKING if said.get(name)), None)
            generation.generation_info = {
                **(generation.generation_info or {}),
                "thinking": thinking,
            }
        return result


class _Chat:
    """Through /v1/chat/completions."""

    def __init__(self, endpoint: HuggingFaceEndpoint) -> None:
        self._model = _AsItCame(llm=endpoint)

    def options(self, call: Call, settings: HFEndpointSettings) -> Mapping[str, Any]:
        wanted = call.schema is not None and settings.json_schema
        return {
            "model": settings.model,
            "max_tokens": call.room or settings.max_tokens,
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "seed": call.sample if settings.send_seed else None,
            "response_format": response_format(call.schema) if wanted and call.schema else None,
        }

    async def answer(
        self, messages: Sequence[Message], stop: Sequence[str], options: Mapping[str, Any]
    ) -> Completion:
        turns = turns_of(messages)
        result = await self._model.agenerate([turns], stop=list(stop) or None, **options)
        done = completion_of(result)
        info = result.generations[0][0].generation_info or {}
        return replace(done, thinking=(str(info["thinking"]),)) if info.get("thinking") else done


class _Text:
    """Through the endpoint's own address."""

    def __init__(self, endpoint: HuggingFaceEndpoint) -> None:
        self._model = endpoint

    def options(self, call: Call, settings: HFEndpointSettings) -> Mapping[str, Any]:
        wanted = call.schema is not None and settings.json_schema
        # The server refuses a temperature of 0 and a top_p of 1, and means the same without them.
        top_p = settings.top_p if settings.top_p != 1 else None
        return {
            "max_new_tokens": call.room or settings.max_tokens,
            "temperature": settings.temperature or None,
            "do_sample": None if settings.temperature is None else settings.temperature > 0,
            "top_p": top_p,
            "seed": call.sample if settings.send_seed else None,
            "grammar": {"type": "json", "value": dict(call.schema or {})} if wanted else None,
        }

    async def answer(
        self, messages: Sequence[Message], stop: Sequence[str], options: Mapping[str, Any]
    ) -> Completion:
        result = await self._model.agenerate(
            [one_text(messages)], stop=list(stop) or None, **options
        )
        generation = result.generations[0][0]
        info = generation.generation_info or {}
        ended = str(info.get("finish_reason") or "")
        return Completion(
            texts=(storable(generation.text),),
            finish_reasons=(ENDS.get(ended, ended),),
            # Text Generation Inference counts the prompt only where it sends all of it back.
            prompt_tokens=None,
            completion_tokens=info.get("tokens"),
        )


def _response(error: BaseException | None) -> httpx.Response | None:
    """What the server said; TextGenerationError has it only in its cause."""
    while error is not None:
        found = getattr(error, "response", None)
        if isinstance(found, httpx.Response):
            return found
        error = error.__cause__
    return None


def _words(response: httpx.Response) -> str:
    """Of an error, in any of the forms that servers use."""
    try:
        said = response.json()
    except ValueError:
        said = None
    if isinstance(said, Mapping):
        said = said.get("error") or said.get("message") or said.get("detail")
    if isinstance(said, Mapping):
        said = said.get("message")
    return str(said or response.text or response.reason_phrase)
