"""Likeness of meaning: the cosine between vectors, each of which is computed once and kept.

Whoever asks for the same text at the same time waits for one computation. Knows no embedder by
name; without a keeper it remembers for as long as it lives. May be asked from several event loops.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from drpo.graph.errors import RunFailed
from drpo.models.embedders.embedder import Embedder, Keeper

Vector: TypeAlias = NDArray[np.float32]

AT_ONCE = 8
"""Questions to the embedder at the same time."""
MOST_KNOWN = 4_096
"""Vectors in memory, so that a server that answers everybody does not grow for ever."""
DIGITS = 6
"""Of a cosine; what a batch changes in a vector is below that."""
_STORED = np.dtype("<f4")


class CosineLikeness:
    """Implements `Likeness`."""

    def __init__(
        self, texts: Sequence[str], embedder: Embedder, keeper: Keeper | None = None
    ) -> None:
        self._texts = tuple(dict.fromkeys(texts))
        self._places = [self._texts.index(text) for text in texts]
        self._vectors = _Vectors(embedder, keeper)
        self._matrix: Vector | None = None

    async def prepare(self) -> None:
        """The vectors of the texts, in one question."""
        await self._all()

    async def to(self, text: str) -> Sequence[float]:
        """From -1 to 1."""
        matrix = await self._all()
        [vector] = await self._vectors.of((text,))
        if len(vector) != matrix.shape[1]:
            raise RunFailed(
                f"retrieval.embedder gave a vector of {len(vector)} numbers, but "
                f"{matrix.shape[1]} before: another model answers under the same name"
            )
        cosines = [round(float(cosine), DIGITS) for cosine in matrix @ vector]
        return [cosines[place] for place in self._places]

    async def _all(self) -> Vector:
        if self._matrix is None:
            vectors = await self._vectors.of(self._texts)
            if len({len(vector) for vector in vectors}) > 1:
                raise RunFailed("retrieval.embedder gave vectors of different lengths")
            self._matrix = np.stack(vectors)
        return self._matrix


@dataclass(slots=True)
class _Flight:
    """A computation, and how many wait for it."""

    task: asyncio.Task[Mapping[str, Vector]]
    waiting: int = 0


@dataclass(slots=True)
class _Here:
    """What one event loop has under way."""

    turn: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    flights: dict[tuple[str, ...], _Flight] = field(default_factory=dict)


class _Vectors:
    """Of length 1, by text."""

    def __init__(self, embedder: Embedder, keeper: Keeper | None) -> None:
        self._embedder = embedder
        self._keeper = keeper
        self._known: dict[str, Vector] = {}
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Here] = WeakKeyDictionary()

    async def of(self, texts: tuple[str, ...]) -> list[Vector]:
        """In the order of the texts, which differ."""
        found = {text: self._known[text] for text in texts if text in self._known}
        missing = tuple(text for text in texts if text not in found)
        if missing:
            found |= await self._shared(missing)
        return [found[text] for text in texts]

    async def _shared(self, texts: tuple[str, ...]) -> Mapping[str, Vector]:
        here = self._loops.setdefault(asyncio.get_running_loop(), _Here())
        flight = here.flights.get(texts)
        if flight is None:
            flight = _Flight(asyncio.create_task(self._fetched(texts, here.turn)))
            here.flights[texts] = flight
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiting -= 1
            # Nobody is left who would hear of it.
            if not flight.waiting:
                del here.flights[texts]
                flight.task.cancel()

    async def _fetched(
        self, texts: tuple[str, ...], turn: asyncio.Semaphore
    ) -> Mapping[str, Vector]:
        """From the keeper, and the others from the embedder."""
        identity, kept = self._embedder.identity, dict[str, bytes]()
        if self._keeper is not None:
            kept |= await self._keeper.vectors(identity, texts)
        new = [text for text in texts if text not in kept]
        if new:
            async with turn:
                made = await self._embedder.vectors(new)
            packed = {text: _packed(vector) for text, vector in zip(new, made, strict=True)}
            if self._keeper is not None:
                await self._keeper.keep_vectors(identity, packed)
            kept |= packed
        vectors = {text: _unpacked(kept[text]) for text in texts}
        self._known |= vectors
        while len(self._known) > max(MOST_KNOWN, len(texts)):
            del self._known[next(iter(self._known))]
        return vectors


def _packed(vector: Sequence[float]) -> bytes:
    """Of length 1, in the form that is kept. Raises RunFailed for what is no vector."""
    values = np.asarray(vector, dtype=np.float64)
    length = float(np.linalg.norm(values))
    if not values.size or not np.isfinite(length):
        raise RunFailed("retrieval.embedder gave a vector that is empty or not finite")
    return (values / (length or 1.0)).astype(_STORED).tobytes()


def _unpacked(stored: bytes) -> Vector:
    try:
        return np.frombuffer(stored, dtype=_STORED).astype(np.float32)
    except ValueError as error:
        raise RunFailed(f"a kept vector is damaged: {error}; see `drpo doctor RUN`") from None
