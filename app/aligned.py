"""The aligned model: a chat model of LangChain that asks another as the search asked its target.

What an artifact names that could do harm on its own is used only where the user's own command
names it, too: code, folders with models, servers elsewhere, a template.
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

from drpo.artifact import Artifact, read_artifact
from drpo.conf.schema import (
    AnyModelSettings,
    EmbeddingServerSettings,
    HFEndpointSettings,
    LangchainSettings,
    LocalSettings,
    OpenAISettings,
    SentenceSettings,
)
from drpo.graph.errors import BadInput
from drpo.graph.values import Example, Query
from drpo.models.chat import ANOTHER, RoleChat, as_chunk, plain_turn
from drpo.models.keys import is_local
from drpo.models.portal import Portal
from drpo.models.providers import check_provider
from drpo.models.retrieval import ExampleRetriever, check_embedder
from drpo.models.turns import turns_of
from drpo.nodes.prompts import JinjaTemplates
from drpo.nodes.target import Wording

Model = Runnable[LanguageModelInput, AIMessage]
HIDDEN = RunnableConfig(callbacks=[])
"""Who listens hears of the aligned model alone: of both, every token would come and count twice."""
TEMPLATE = "template"
"""By this name a user trusts the templates that an artifact brings."""


def load(
    path: str | Path, model: Model | None = None, *, trusted: Collection[str] = ()
) -> AlignedModel:
    """The aligned model of an artifact.

    It asks `model`, any chat model of LangChain, or else the one that the artifact was made for.
    `trusted` are the names of what else the artifact may use: a model's class or folder, the
    address of a server that is neither api.openai.com nor on this machine, `template`. Raises
    BadInput for a file that is no artifact, or one that needs more trust, a key, or a package.
    """
    return aligned(read_artifact(path), model, trusted=trusted)


def aligned(
    artifact: Artifact, model: Model | None = None, *, trusted: Collection[str] = ()
) -> AlignedModel:
    """As `load`, of an artifact that was read already."""
    _check_trust(artifact, trusted, own_model=model is not None)
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


def retriever_of(artifact: Artifact) -> ExampleRetriever | None:
    """Finds the examples of a query; None where there are none to find."""
    if not artifact.examples or artifact.retrieval.k == 0:
        return None
    return ExampleRetriever(artifact.shown, artifact.retrieval)


def wording_of(artifact: Artifact, *, own_model: bool = False) -> Wording:
    """How the artifact's messages are written; a chat model of one's own takes turns.

    Raises BadInput where this version of drpo has another template than the run had.
    """
    sources = {
        str(name): each.source
        for name, each in artifact.chat.templates.items()
        if each.source is not None
    }
    templates = JinjaTemplates(sources=sources)
    style = "chat" if own_model else artifact.chat.format
    name, hashes = f"target_{style}", templates.hashes()
    known = {str(name): each.sha256 for name, each in artifact.chat.templates.items()}
    if known.get(name, hashes[name]) != hashes[name]:
        version = artifact.provenance.drpo_version
        raise BadInput(
            f"the artifact's prompts were found with another {name}.jinja than this drpo has: "
            f"its messages would differ; use drpo {version}, or export it again"
        )
    return Wording(templates, style)


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


def _check_trust(artifact: Artifact, trusted: Collection[str], *, own_model: bool) -> None:
    """Raises BadInput for the first thing that an artifact names and its user does not."""
    named = [*_of_embedder(artifact), *_of_templates(artifact)]
    if not own_model:
        named += _of_target(artifact.target)
    for name, what in named:
        if name not in trusted:
            raise BadInput(
                f"the artifact names {what}, and what a file names is used only where you say "
                f"so: trust {name!r} (in Python trusted=[...], else --trust)"
            )


def _of_target(target: AnyModelSettings) -> Iterator[tuple[str, str]]:
    match target:
        case LangchainSettings():
            yield target.target_, f"the class {target.target_} as its model"
        case LocalSettings(trust_remote_code=True):
            raise BadInput(f"the artifact's model {target.model!r} runs code of its own: {ANOTHER}")
        case LocalSettings():
            yield target.model, f"the model {target.model!r} to read into this process"
        case OpenAISettings() | HFEndpointSettings():
            yield from _of_server(target.base_url)
        case _:
            pass


def _of_embedder(artifact: Artifact) -> Iterator[tuple[str, str]]:
    embedder = artifact.retrieval.embedder
    if retriever_of(artifact) is None:
        return
    match embedder:
        case SentenceSettings():
            yield embedder.model, f"the model {embedder.model!r} to read into this process"
        case EmbeddingServerSettings():
            yield from _of_server(embedder.base_url)
        case _:
            pass


def _of_server(address: str | None) -> Iterator[tuple[str, str]]:
    """A key and all that is asked would go to a server of the artifact's choice."""
    if address is not None and not is_local(address):
        yield address, f"the server {address}"


def _of_templates(artifact: Artifact) -> Iterator[tuple[str, str]]:
    if any(each.source is not None for each in artifact.chat.templates.values()):
        yield TEMPLATE, "a prompt template of its own"
