"""Any chat model of LangChain, by the path of its class: Anthropic, Gemini, Bedrock, one's own.

Imports only what the user's own command names (FAULTS I5): a class that merely stands in a run's
file is not trusted. Knows nothing of any maker; what an error means is read off its common marks.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Collection, Mapping
from http import HTTPStatus
from importlib import import_module
from typing import Any

from langchain_core.exceptions import ContextOverflowError
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, LLMResult

from drpo.conf.schema import LangchainSettings
from drpo.graph.errors import BadInput
from drpo.graph.values import Role
from drpo.models.openai_errors import BUSY, REFUSED, cleaned
from drpo.models.prices import price_of
from drpo.models.provider import Call, Completion, TransportError, limits_of, merged
from drpo.models.turns import storable, turns_of

CLIENT = "http_async_client"
_ENDS = {
    "max_tokens": "length",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "eos_token": "stop",
    "safety": "content_filter",
    "guardrail_intervened": "content_filter",
}
"""Finish reasons of some makers, in the words of the others."""
_GIVEN = ("temperature", "top_p", "max_tokens", "timeout", "max_retries")
"""What many classes take under these names, and is given to those that do."""


def parameters_of(settings: LangchainSettings) -> Mapping[str, Any]:
    """All that shapes an answer."""
    return {
        "model": settings.model,
        "class": settings.target_,
        "options": dict(settings.options),
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "max_tokens": settings.max_tokens,
    }


def check_langchain(
    settings: LangchainSettings, role: Role, trusted: Collection[str] | None
) -> type[BaseChatModel]:
    """The class. Raises BadInput where it is not to be trusted, not there, or no chat model."""
    path, place = settings.target_, f"models.{role}._target_={settings.target_}"
    if trusted is not None and path not in trusted:
        raise BadInput(
            f"{place} stands in the run's file, and code that a file names is run only where "
            f"you say so: --trust {path}"
        )
    module, _, name = path.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except ImportError as error:
        package = module.partition(".")[0].replace("_", "-")
        raise BadInput(f"{place}: {error}; it may need: pip install {package}") from None
    except (AttributeError, ValueError):
        raise BadInput(f"{place}: there is no such class; write package.module.Class") from None
    if not (inspect.isclass(found) and issubclass(found, BaseChatModel)):
        raise BadInput(f"{place} is no chat model of LangChain (BaseChatModel)")
    return found


def takes_client(made: type[BaseChatModel]) -> bool:
    """Classes of langchain-openai else share one of the first event loop of the process."""
    return CLIENT in made.model_fields


class LangchainProvider:
    """One role on one model."""

    name = "langchain"
    multiple = False

    def __init__(
        self,
        settings: LangchainSettings,
        role: Role,
        made: type[BaseChatModel],
        client: Any | None = None,
    ) -> None:
        """`client` is for a class that `takes_client`. Raises BadInput where it cannot be made."""
        self.parameters = parameters_of(settings)
        self.price = price_of(settings)
        self.limits = limits_of(settings, f"{settings.target_} {settings.model}")
        self._settings = settings
        self._left_out: set[str] = set()
        try:
            shared = {} if client is None else {CLIENT: client}
            self._model = made(**shared, **_options(made, settings))
        # Whatever a class of somebody else makes of its options, e.g. without its key.
        except Exception as error:  # noqa: BLE001 - see above
            raise BadInput(f"models.{role}: {settings.target_}: {cleaned(str(error))}") from None

    def leave_out(self, parameter: str) -> None:
        """From now on, do without it."""
        self._left_out.add(parameter)

    async def complete(self, call: Call) -> Completion:
        """The model's answer; raises TransportError when there is none that can be used."""
        messages = merged(call.messages) if "system" in self._left_out else call.messages
        room: dict[str, Any] = {} if call.room is None else {"max_tokens": call.room}
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                result = await self._model.agenerate(
                    [turns_of(messages)], list(call.stop) or None, **room
                )
        except TimeoutError:
            said = f"no reply within {self._settings.timeout_s:g} s"
            raise TransportError(said, retry=True, busy=True) from None
        # Every maker has errors of its own, with no common root.
        except Exception as error:  # noqa: BLE001 - see above
            raise _explained(error) from None
        return completion_of(result)


def _options(made: type[BaseChatModel], settings: LangchainSettings) -> dict[str, Any]:
    """The user's own, and of the usual ones those that the class has a field for."""
    fields = {each.alias or name for name, each in made.model_fields.items()} | {*made.model_fields}
    usual = {"timeout": settings.timeout_s, "max_retries": 0}
    usual |= {name: getattr(settings, name) for name in ("temperature", "top_p", "max_tokens")}
    given = {name: usual[name] for name in _GIVEN if name in fields and usual[name] is not None}
    named = {"model": settings.model} if fields & {"model", "model_name", "model_id"} else {}
    return named | given | dict(settings.options)


def completion_of(result: LLMResult) -> Completion:
    """The first generation, as the ledger wants it."""
    generations = result.generations[0] if result.generations else []
    generation = generations[0] if generations else None
    if not isinstance(generation, ChatGeneration) or not isinstance(generation.message, AIMessage):
        raise TransportError("the model's reply has no message", retry=True)
    message, info = generation.message, generation.generation_info or {}
    told = {**message.response_metadata, **info}
    ended = str(told.get("finish_reason") or told.get("stop_reason") or "").lower()
    usage = message.usage_metadata
    thinking = [
        str(block.get("reasoning") or "")
        for block in message.content_blocks
        if block["type"] == "reasoning"
    ]
    return Completion(
        texts=(storable(str(message.text)),),
        finish_reasons=(_ENDS.get(ended, ended),),
        prompt_tokens=usage["input_tokens"] if usage else None,
        completion_tokens=usage["output_tokens"] if usage else None,
        cached_tokens=(usage.get("input_token_details", {}).get("cache_read") or 0) if usage else 0,
        thinking=tuple(filter(None, thinking)),
    )


def _explained(error: Exception) -> TransportError:
    """By the status that most makers' errors carry; without one, the network is to blame."""
    text = cleaned(f"{type(error).__name__}: {error}")
    if isinstance(error, ContextOverflowError):
        return TransportError(text, retry=False, ended="context_overflow")
    found = getattr(error, "status_code", None) or getattr(error, "code", None)
    status = found if isinstance(found, int) else None
    if status is None:
        mistaken = isinstance(error, (TypeError, ValueError, NotImplementedError))
        return TransportError(text, retry=not mistaken)
    busy = status in BUSY
    later = busy or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return TransportError(text, retry=later, busy=busy, refused=status in REFUSED)
