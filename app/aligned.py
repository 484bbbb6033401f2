"""The aligned model: a chat model of LangChain that asks another as the search asked its target.

The other one may be any; without one it is that of the artifact. Retrieves, words and hands on;
what is trusted is `drpo.acting`'s.
"""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Self

from langchain_core.callbacks import (
    AsyncCallbackManagerForLLMRun,
    CallbackManagerForLLMRun,
)
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableConfig
from pydantic import ConfigDict, PrivateAttr

from drpo.acting import check_trust, retriever_of, wording_of
from drpo.artifact import Artifact, read_artifact
from drpo.checkpoints.runs import END
from drpo.graph.errors import BadInput
from drpo.graph.values import Example, Query
from drpo.models.chat import ANOTHER, RoleChat, as_chunk, plain_turn
from drpo.models.portal import Portal
from drpo.models.providers import check_provider
from drpo.models.retrieval import ExampleRetriever, check_embedder
from drpo.models.turns import turns_of
from drpo.nodes.target import Wording
from drpo.provenance import artifact_of_run

Model = Runnable[LanguageModelInput, AIMessage]
HIDDEN = RunnableConfig(callbacks=[])
"""Who listens hears of the aligned model alone: of both, every token would come and count twice."""


def load(
    path: str | Path, model: Model | None = None, *, trusted: Collection[str] = ()
) -> AlignedModel:
    """The aligned model of an artifact, or of a run by the path of its file.

    It asks `model`, any chat model of LangChain, or else the one that the artifact was made for.
    `trusted` are the names of what else the artifact may use: a model's class or folder, the
    address of a server that is neither api.openai.com nor on this machine, `template`. Raises
    BadInput for a file that is no artifact, or one that needs more trust, a key, or a package.
    """
    is_run = Path(path).suffix == END
    artifact = artifact_of_run(Path(path)) if is_run else read_artifact(path)
    return aligned(artifact, model, trusted=trusted)


def aligned(
    artifact: Artifact, model: Model | None = None, *, trusted: Collection[str] = ()
) -> AlignedModel:
    """As `load`, of an artifact that was read already."""
    check_trust(artifact, trusted, own_model=model is not None)
    wording = wording_of(artifact, own_model=model is not None)
    retriever = retriever_of(artifact)
    if retriever is not None:
        check_embedder(artifact.retrieval.embedder)
    portal = Portal()
    if model is None:
        check_provider(artifact.target, "target", trusted)
        model = RoleChat(
            settings=artifact.target, role="target", left_out=artifact.left_out, portal=portal
        )
    made = AlignedModel(artifact=artifact, model=model)
    made._portal = portal  # noqa: SLF001 - made here and nowhere else
    made._wording = wording  # noqa: SLF001 - see above
    made._retriever = retriever  # noqa: SLF001 - see above
    weakref.finalize(made, portal.close)
    return made


class AlignedModel(BaseChatModel):
    """Puts the prompt and the examples of the last user turn before a conversation, and asks.

    Turns of the caller's stay as they are, those of the system too: they follow the examples, as
    they do in a query of the search. Tools go to the model as they are.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    artifact: Artifact
    model: Any
    """Which is asked."""
    _portal: Portal = PrivateAttr()
    _wording: Wording = PrivateAttr()
    _retriever: ExampleRetriever | None = PrivateAttr(default=None)
    _origin: AlignedModel | None = PrivateAttr(default=None)
    """With whom it shares a portal that closes with the other."""

    @property
    def _llm_type(self) -> str:
        return "drpo-aligned"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"artifact": self.artifact.content_sha256, "model": repr(self.model)}

    def close(self) -> None:
        """Ends its connections and its thread; also when nobody has it any more, or at exit."""
        self._portal.close()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes it."""
        self.close()

    def bind_tools(
        self, tools: Sequence[Any], *, tool_choice: Any = None, **kwargs: Any
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Itself over the model with these tools bound."""
        chosen = {} if tool_choice is None else {"tool_choice": tool_choice}
        if not hasattr(self.model, "bind_tools"):
            raise BadInput(f"the model takes no tools: {ANOTHER}")
        bound = self.model_copy(update={"model": self.model.bind_tools(tools, **chosen, **kwargs)})
        bound._origin = self  # noqa: SLF001 - its own class
        return bound

    def examples(self, query: LanguageModelInput) -> list[Example]:
        """Which the model is shown before this query or conversation."""
        return self._portal.run(self._examples(self._convert_input(query).to_messages()))

    async def aexamples(self, query: LanguageModelInput) -> list[Example]:
        """The same."""
        messages = self._convert_input(query).to_messages()
        return await self._portal.arun(self._examples(messages))

    def messages(self, query: LanguageModelInput) -> list[BaseMessage]:
        """What the model is sent for this query or conversation."""
        return self._portal.run(self._messages(self._convert_input(query).to_messages()))

    async def amessages(self, query: LanguageModelInput) -> list[BaseMessage]:
        """The same."""
        messages = self._convert_input(query).to_messages()
        return await self._portal.arun(self._messages(messages))

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002 - it hears of the whole
        **kwargs: Any,
    ) -> ChatResult:
        asked = self._portal.run(self._messages(messages))
        said = self.model.invoke(asked, HIDDEN, **self._options(stop), **kwargs)
        return _result(said)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002 - see above
        **kwargs: Any,
    ) -> ChatResult:
        asked = await self._portal.arun(self._messages(messages))
        options = self._options(stop)
        return _result(await self.model.ainvoke(asked, HIDDEN, **options, **kwargs))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002 - it hears of the whole
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        asked = self._portal.run(self._messages(messages))
        for said in self.model.stream(asked, HIDDEN, **self._options(stop), **kwargs):
            yield _bit(said)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002 - see above
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        asked = await self._portal.arun(self._messages(messages))
        options = self._options(stop)
        source = self.model.astream(asked, HIDDEN, **options, **kwargs)
        async with aclosing(source) as bits:
            async for said in bits:
                yield _bit(said)

    def _options(self, stop: Sequence[str] | None) -> dict[str, Any]:
        """Nothing that was not asked for: not every Runnable takes it."""
        stops = [*self._wording.stop(), *(stop or ())]
        return {"stop": stops} if stops else {}

    async def _examples(self, messages: Sequence[BaseMessage]) -> list[Example]:
        query = _query_of(messages)
        if self._retriever is None or query is None:
            return []
        return list(await self._retriever.examples(query))

    async def _messages(self, messages: Sequence[BaseMessage]) -> list[BaseMessage]:
        shown, prompts = await self._examples(messages), self.artifact.prompts
        if self._wording.style == "chat":
            return [*turns_of(self._wording.head(prompts, shown)), *messages]
        turns = [plain_turn(each) for each in messages]
        if not all(turns):
            raise BadInput(f"a base model takes turns of text alone: {ANOTHER}")
        known = [turn for turn in turns if turn is not None]
        return turns_of(self._wording.messages(prompts, known, shown))


def _query_of(messages: Sequence[BaseMessage]) -> Query | None:
    """The conversation up to the last turn of the user, as a query of a search."""
    last = max(
        (at for at, each in enumerate(messages) if isinstance(each, HumanMessage)), default=-1
    )
    turns = [plain_turn(each) for each in messages[: last + 1]]
    known = tuple(turn for turn in turns if turn is not None)
    return Query(0, "", known) if known and turns[-1] is not None else None


def _result(said: object) -> ChatResult:
    return ChatResult(generations=[ChatGeneration(message=_message(said))])


def _bit(said: object) -> ChatGenerationChunk:
    return ChatGenerationChunk(message=as_chunk(_message(said)))


def _message(said: object) -> BaseMessage:
    if not isinstance(said, BaseMessage):
        raise BadInput(f"the model answers with {type(said).__name__}, not with a message")
    return said
