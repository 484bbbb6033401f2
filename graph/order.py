"""Which queries a level sees: an order that does not depend on anything that happened."""

from __future__ import annotations

import random
from collections.abc import Sequence

from drpo.graph.values import Query


class SeededOrder:
    """Queries in order, B a level; when they run out, in a new seeded order, or no more."""

    def __init__(
        self,
        queries: Sequence[Query],
        *,
        per_level: int,
        seed: int,
        shuffle: bool,
        recycle: bool,
        among: Sequence[int] | None = None,
    ) -> None:
        """`among` are the ordinals of the queries that are seen; None for all of them."""
        self.queries = queries
        self._among = list(range(len(queries)) if among is None else among)
        self.levels = None if recycle else len(self._among) // per_level
        self._per_level = per_level
        self._seed = seed
        self._order = list(self._among)
        if shuffle:
            self._random(0).shuffle(self._order)

    def at(self, level: int) -> list[int]:
        """Ordinals of the level's queries, no one twice; none beyond `levels`."""
        if self.levels is not None and level >= self.levels:
            return []
        first, last = level * self._per_level, (level + 1) * self._per_level
        while len(self._order) < last:
            self._append_round()
        return self._order[first:last]

    def _append_round(self) -> None:
        again = list(self._among)
        self._random(len(self._order) // len(again)).shuffle(again)
        # The level that spans two rounds must not see a query twice.
        begun = len(self._order) % self._per_level
        taken = self._order[len(self._order) - begun :]
        lacking = (self._per_level - begun) % self._per_level
        first = [query for query in again if query not in taken][:lacking]
        self._order += first + [query for query in again if query not in first]

    def _random(self, round_number: int) -> random.Random:
        return random.Random(f"{self._seed}:queries:{round_number}")


class FixedOrder:
    """One query, the same at every level, without an end."""

    def __init__(self, queries: Sequence[Query], ordinal: int) -> None:
        self.queries = queries
        self.levels: int | None = None
        self._ordinal = ordinal

    def at(self, level: int) -> list[int]:  # noqa: ARG002 - every order has it
        """Its ordinal, at every `level`."""
        return [self._ordinal]
