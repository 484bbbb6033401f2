"""The protocols between retrieval, what turns texts into vectors, and what keeps those.

Nobody here knows what a query or an example is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol


class Embedder(Protocol):
    """Turns texts into vectors, which point the same way where the texts mean the same."""

    @property
    def identity(self) -> str:
        """What its vectors depend on: those of two identities cannot be compared."""
        ...

    async def vectors(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        """One of each text, of any length above 0.

        Raises BadInput, ProviderStopped or ProviderRefused.
        """
        ...


class Keeper(Protocol):
    """Remembers vectors, as little-endian float32, so that nobody computes them again."""

    async def vectors(self, embedder: str, texts: Sequence[str]) -> Mapping[str, bytes]:
        """Of those texts that the embedder with this identity was asked for before, by text."""
        ...

    async def keep_vectors(self, embedder: str, vectors: Mapping[str, bytes]) -> None:
        """By text; committed when it returns."""
        ...


class Likeness(Protocol):
    """How like a text some other texts are, which it has from the beginning."""

    async def prepare(self) -> None:
        """Do what can be done before the first text is known. Raises as `to` does."""
        ...

    async def to(self, text: str) -> Sequence[float]:
        """One number for each of the others, higher for one that is more like `text`.

        Raises BadInput, ProviderStopped, ProviderRefused or RunFailed.
        """
        ...
