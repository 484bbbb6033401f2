"""Which in-context examples a query is shown: those whose own queries are most like it.

The same inside a run and outside of one: a run only adds where vectors are kept. Needs no closing.
"""

from __future__ import annotations

from collections.abc import Sequence

from drpo.conf.schema import (
    AnyEmbedderSettings,
    EmbeddingServerSettings,
    LexicalSettings,
    RetrievalSettings,
    SentenceSettings,
)
from drpo.graph.errors import BadInput
from drpo.graph.values import Example, Query
from drpo.models.completions import CHARACTERS_PER_TOKEN
from drpo.models.embedders.embedder import Embedder, Keeper, Likeness
from drpo.models.embedders.sentences import SentenceEmbedder, check_sentences
from drpo.models.keys import api_key, header_values


class ExampleRetriever:
    """Implements `Retriever`."""

    def __init__(
        self,
        examples: Sequence[Example],
        settings: RetrievalSettings,
        keeper: Keeper | None = None,
    ) -> None:
        """Asks nobody yet. Without a keeper, vectors are remembered as long as this lives."""
        self._settings = settings
        # What is too long by itself would only keep others out.
        self._examples = [each for each in examples if not is_too_long(each, settings)]
        self._likeness: Likeness | None = None
        if self._examples and settings.k > 0:
            texts = [each.query for each in self._examples]
            self._likeness = likeness(texts, settings.embedder, keeper)

    async def prepare(self) -> None:
        """Ask for the vectors of all examples at once. Raises as `examples` does."""
        if self._likeness is not None:
            await self._likeness.prepare()

    async def examples(self, query: Query) -> tuple[Example, ...]:
        """In the order in which they are shown; of those equally alike, the earlier ones.

        Never the query itself, because a target that is shown its answer is not tried by it. Raises
        BadInput, ProviderStopped, ProviderRefused or RunFailed.
        """
        if self._likeness is None:
            return ()
        text = query.text
        alike = await self._likeness.to(text)
        others = [at for at, each in enumerate(self._examples) if bare(each.query) != bare(text)]
        ranked = sorted(others, key=lambda at: -alike[at])
        shown = fitting([self._examples[at] for at in ranked], self._settings)
        return shown if self._settings.order == "best_first" else shown[::-1]


def likeness(
    texts: Sequence[str], settings: AnyEmbedderSettings, keeper: Keeper | None = None
) -> Likeness:
    """What compares a text with these. Imports what only this kind needs."""
    if isinstance(settings, LexicalSettings):
        from drpo.models.embedders.lexical import LexicalLikeness  # noqa: PLC0415 - see above

        return LexicalLikeness(texts)
    from drpo.models.embedders.cosine import CosineLikeness  # noqa: PLC0415 - see above

    return CosineLikeness(texts, embedder_of(settings), keeper)


def embedder_of(settings: SentenceSettings | EmbeddingServerSettings) -> Embedder:
    """What makes vectors."""
    if isinstance(settings, SentenceSettings):
        return SentenceEmbedder(settings)
    from drpo.models.embedders.server import EmbeddingServer  # noqa: PLC0415 - see above

    return EmbeddingServer(settings)


def check_embedder(settings: AnyEmbedderSettings) -> None:
    """Raises BadInput when the embedder lacks what it needs from the user."""
    match settings:
        case SentenceSettings():
            check_sentences(settings)
        case EmbeddingServerSettings():
            api_key(settings)
            header_values(settings)
        case LexicalSettings():
            pass


def check_examples(examples: Sequence[Example], settings: RetrievalSettings) -> None:
    """Raises BadInput for an example that could never be shown."""
    for number, example in enumerate(examples, 1):
        if is_too_long(example, settings):
            raise BadInput(
                f"retrieval.max_tokens={settings.max_tokens}: example {number} has about "
                f"{tokens(example):,.0f} tokens by itself: shorten it, or allow more"
            )


def fitting(ranked: Sequence[Example], settings: RetrievalSettings) -> tuple[Example, ...]:
    """The first k, without the last of them as long as they are too long together."""
    shown = list(ranked[: settings.k])
    most = settings.max_tokens
    while shown and most is not None and sum(map(tokens, shown)) > most:
        shown.pop()
    return tuple(shown)


def tokens(example: Example) -> float:
    """About."""
    return (len(example.query) + len(example.answer)) / CHARACTERS_PER_TOKEN


def is_too_long(example: Example, settings: RetrievalSettings) -> bool:
    """Whether it is more by itself than all examples together may be."""
    return settings.max_tokens is not None and tokens(example) > settings.max_tokens


def bare(query: str) -> str:
    """Without what makes no other query: capitals, line breaks, spaces, the mark at the end."""
    return " ".join(query.casefold().split()).rstrip(" .?!")
