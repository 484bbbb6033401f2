"""The model of a role as a chat model of LangChain, asked as a search asks it.

Every provider answers turns of text; one that speaks the OpenAI protocol also takes tools and
streams. Retries like a search, but keeps no ledger and no budget.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from langchain_core.callbacks import (
    AsyncCallbackManagerForLLMRun,
    CallbackManagerForLLMRun,
)
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    HumanMessage,
    SystemMessage,
)
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_openai import ChatOpenAI
from pydantic import ConfigDict, PrivateAttr, SecretStr

from drpo.conf.schema import AnyModelSettings, OpenAISettings
from drpo.graph.errors import BadInput
from drpo.graph.values import Message, Role
from drpo.models.openai import OpenAIProvider, before
from drpo.models.portal import Portal
from drpo.models.provider import Call, Completion, Provider, TransportError, stopped, wait_s
from drpo.models.providers import open_provider
from drpo.models.thinking import Aloud, apart

T = TypeVar("T")
Streaming = tuple[ChatGenerationChunk, AsyncGenerator[ChatGenerationChunk]]
"""The first bit, and the others."""

LONGEST_BACKOFF_S = 30.0
"""Somebody is waiting for the answer."""
ROOM = ("max_tokens", "max_completion_tokens")
"""Names under which an asker says how long an answer may be."""
ANOTHER = "in Python, drpo.load takes a chat model of LangChain that does, as model="
THOUGHT = "reasoning_content"
"""Where what a model thought stands beside its answer."""


class RoleChat(BaseChatModel):
    """One role's model. Its options are the settings', and for one request the asker's."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    settings: AnyModelSettings
    role: Role
    left_out: tuple[str, ...] = ()
    """Parameters that the server does not take."""
    portal: Portal
    """Whoever makes it closes it."""

    _opening: asyncio.Task[Provider] | None = PrivateAttr(default=None)

    @property
    def _llm_type(self) -> str:
        return f"drpo-{self.settings.provider}"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"settings": self.settings.model_dump(mode="json"), "left_out": self.left_out}

    def bind_tools(
        self, tools: Sequence[Any], *, tool_choice: Any = None, **kwargs: Any
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """As ChatOpenAI has it. Raises BadInput where the provider takes no tools."""
        if not (isinstance(self.settings, OpenAISettings) and self.settings.format == "chat"):
            raise BadInput(f"{self._name()} takes no tools: {ANOTHER}")
        words = ChatOpenAI(model=self.settings.model, api_key=SecretStr("none"))
        bound: Any = words.bind_tools(tools, tool_choice=tool_choice, **kwargs)
        return self.bind(**bound.kwargs)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002 - nothing to tell
        **kwargs: Any,
    ) -> ChatResult:
        return self.portal.run(self._answer(messages, stop, kwargs))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002 - see above
        **kwargs: Any,
    ) -> ChatResult:
        return await self.portal.arun(self._answer(messages, stop, kwargs))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002 - see above
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        yield from self.portal.iterate(self._bits(messages, stop, kwargs))

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002 - see above
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        async with aclosing(self.portal.aiterate(self._bits(messages, stop, kwargs))) as bits:
            async for bit in bits:
                yield bit

    async def _answer(
        self, messages: Sequence[BaseMessage], stop: Sequence[str] | None, given: Mapping[str, Any]
    ) -> ChatResult:
        """In the portal's loop."""
        provider, (call, more) = await self._opened(), _call(stop, given)
        more.pop("stream_usage", None)

        async def once(without: Collection[str]) -> ChatResult:
            if isinstance(provider, OpenAIProvider):
                said = await provider.answer(messages, call, more, without)
                return _told_apart(said, call.stop)
            return _result_of(await provider.complete(self._plain(messages, call, more)))

        return await self._patiently(provider, _Asked(messages, call, more), once)

    async def _bits(
        self, messages: Sequence[BaseMessage], stop: Sequence[str] | None, given: Mapping[str, Any]
    ) -> AsyncGenerator[ChatGenerationChunk]:
        """In the portal's loop; another try only as long as nothing has come."""
        provider, (call, more) = await self._opened(), _call(stop, given)
        if not isinstance(provider, OpenAIProvider) or (call.stop and "stop" in self.left_out):
            async for bit in self._whole(messages, stop, given):
                yield bit
            return

        async def once(without: Collection[str]) -> Streaming:
            if call.stop and "stop" in without:
                # Where the answer has to end is known when there is all of it.
                bits = self._whole(messages, stop, given)
            else:
                bits = provider.stream(messages, call, more, without)
            return await anext(bits), bits

        first, source = await self._patiently(provider, _Asked(messages, call, more), once)
        aloud = Aloud()
        try:
            async with aclosing(source) as bits:
                yield _less_thinking(first, aloud)
                async for bit in bits:
                    yield _less_thinking(bit, aloud)
        except TransportError as problem:
            raise stopped(self.role, problem, provider.limits) from problem
        rest = aloud.rest()
        if rest:
            yield ChatGenerationChunk(message=AIMessageChunk(content=rest))

    async def _whole(
        self, messages: Sequence[BaseMessage], stop: Sequence[str] | None, given: Mapping[str, Any]
    ) -> AsyncGenerator[ChatGenerationChunk]:
        for generation in (await self._answer(messages, stop, given)).generations:
            yield _bit_of(generation)

    async def _opened(self) -> Provider:
        if self._opening is None or (self._opening.done() and self._opening.exception()):
            opening = self.portal.hold(open_provider(self.settings, self.role))
            self._opening = asyncio.create_task(opening)
            provider = await asyncio.shield(self._opening)
            for parameter in self.left_out:
                provider.leave_out(parameter)
        return await asyncio.shield(self._opening)

    async def _patiently(
        self,
        provider: Provider,
        asked: _Asked,
        once: Callable[[Collection[str]], Awaitable[T]],
    ) -> T:
        """Its value, after as many tries as the settings allow. Raises ProviderStopped.

        What a server does not take is left out from then on, but nothing is learned from what one
        asker brought along: several may share this model.
        """
        tries, limits = 0, provider.limits
        without = set[str]()
        while True:
            try:
                value = await once(without)
            except TransportError as problem:
                name, final = problem.parameter, {*self.left_out, *asked.fixed(without)}
                if name is not None and name not in final | without:
                    without.add(name)
                    if not isinstance(provider, OpenAIProvider):
                        provider.leave_out(name)
                    continue
                tries += 1
                pause_s = wait_s(problem, tries, limits, random.uniform, LONGEST_BACKOFF_S)
                if pause_s is None:
                    raise stopped(self.role, problem, limits) from problem
            else:
                for name in without - asked.own:
                    provider.leave_out(name)
                return value
            await asyncio.sleep(pause_s)

    def _plain(self, messages: Sequence[BaseMessage], call: Call, more: Mapping[str, Any]) -> Call:
        """For a provider that knows turns of text alone. Raises BadInput for anything else."""
        if more:
            raise BadInput(f"{self._name()} takes no {next(iter(more))!r}: {ANOTHER}")
        return replace(call, messages=tuple(self._turn(each) for each in messages))

    def _turn(self, message: BaseMessage) -> Message:
        text = plain_turn(message)
        if text is None:
            raise BadInput(f"{self._name()} takes turns of text alone: {ANOTHER}")
        return text

    def _name(self) -> str:
        return f"model {self.settings.model!r} (provider {self.settings.provider})"


@dataclass(frozen=True)
class _Asked:
    """One request, as far as it tells the asker's own from the settings'."""

    messages: Sequence[BaseMessage]
    call: Call
    more: Mapping[str, Any]

    def fixed(self, without: Collection[str]) -> set[str]:
        """Parameters that are not left out: who asks for them wants to know."""
        # Of the two names for the room, a server may take one alone.
        last = self.call.room is not None and any(name in without for name in ROOM)
        return {*self.more, *(ROOM if last else ())}

    @property
    def own(self) -> set[str]:
        """Parameters that may be refused for what this asker made of them."""
        several = sum(isinstance(each, SystemMessage) for each in self.messages) > 1
        room = ROOM if self.call.room is not None else ()
        return {"stop", *room, *(("system",) if several else ())}


def plain_turn(message: BaseMessage) -> Message | None:
    """The message as a turn of text; None for one that is more than that."""
    blocks = [] if isinstance(message.content, str) else message.content
    if any(not isinstance(each, str) and each.get("type") != "text" for each in blocks):
        return None
    text = str(message.text)
    match message:
        case SystemMessage():
            return Message("system", text)
        case HumanMessage():
            return Message("user", text)
        case AIMessage() if not message.tool_calls:
            return Message("assistant", text)
    return None


def _call(stop: Sequence[str] | None, given: Mapping[str, Any]) -> tuple[Call, dict[str, Any]]:
    """What every provider understands of a request, and the rest."""
    rooms = [given[name] for name in ROOM if given.get(name) is not None]
    more = {name: value for name, value in given.items() if name not in ROOM}
    return Call(messages=(), stop=tuple(stop or ()), room=rooms[0] if rooms else None), more


def _told_apart(result: ChatResult, stops: Sequence[str]) -> ChatResult:
    """What the model thought stands beside its answer."""
    for generation in result.generations:
        message, info = generation.message, dict(generation.generation_info or {})
        thoughts = info.pop("thinking", None)
        if isinstance(message.content, str):
            aloud, answer = apart(message.content)
            # Some servers take no stop sequences.
            generation.text = message.content = before(stops, answer)
            thoughts = thoughts or aloud
        if thoughts:
            message.additional_kwargs[THOUGHT] = str(thoughts)
        generation.generation_info = info
    return result


def _result_of(completion: Completion) -> ChatResult:
    aloud, answer = apart(completion.texts[0] if completion.texts else "")
    thoughts = next(iter(completion.thinking), "") or aloud
    asked, said = completion.prompt_tokens, completion.completion_tokens
    usage = None
    if asked is not None and said is not None:
        usage = UsageMetadata(input_tokens=asked, output_tokens=said, total_tokens=asked + said)
    message = AIMessage(
        answer, additional_kwargs={THOUGHT: thoughts} if thoughts else {}, usage_metadata=usage
    )
    info = {"finish_reason": next(iter(completion.finish_reasons), "")}
    return ChatResult(generations=[ChatGeneration(message=message, generation_info=info)])


def _bit_of(generation: ChatGeneration) -> ChatGenerationChunk:
    return ChatGenerationChunk(
        message=as_chunk(generation.message), generation_info=generation.generation_info
    )


def as_chunk(message: BaseMessage) -> AIMessageChunk:
    """A whole answer as the one bit of a stream."""
    if isinstance(message, AIMessageChunk):
        return message
    kept = message.model_dump(exclude={"type", "invalid_tool_calls"})
    return AIMessageChunk(**kept)


def _less_thinking(bit: ChatGenerationChunk, aloud: Aloud) -> ChatGenerationChunk:
    message = bit.message
    if isinstance(message.content, str) and message.content:
        message.content = aloud.answer(message.content)
        return ChatGenerationChunk(message=message, generation_info=bit.generation_info)
    return bit
