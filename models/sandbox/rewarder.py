"""The simulated rewarder: reads a query and chooses aspects, with gaps and slips by its dials."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence

from drpo.graph.values import Aspect, Message
from drpo.models.sandbox.language import aspect_named, needs_of
from drpo.models.sandbox.texts import Piece, fenced, listed_aspects, pieces_of
from drpo.models.sandbox.world import RewarderKnowledge, world_file

_HOW_MANY = re.compile(r"Choose (\d{1,4}) to (\d{1,4}) aspects")
DIALS = ("recall", "precision", "new")


class Rewarder:
    """Precision and recall are dials; so is the chance that it proposes an aspect of its own."""

    def __init__(self, dials: Mapping[str, float]) -> None:
        self._dials = dials
        self._known: RewarderKnowledge = world_file().rewarder

    def answer(self, messages: Sequence[Message], rng: random.Random) -> str:
        """A selection as JSON."""
        pieces = pieces_of(messages)
        query = fenced(pieces, "query")
        fewest, most = _how_many(pieces)
        chosen = self._chosen(listed_aspects(pieces), query, fewest, most, rng)
        names = ", ".join(aspect.name for aspect in chosen)
        about = "(simulated) read off the words of the query"
        return json.dumps(
            {
                "analysis": dict.fromkeys(
                    ("topic", "intent", "ambiguities", "form", "challenges"), about
                ),
                "reason": f"(simulated) what the query's words call for: {names}",
                "aspects": [{"name": at.name, "definition": at.definition} for at in chosen],
            },
            ensure_ascii=False,
        )

    def _chosen(
        self, pool: Sequence[Aspect], query: str, fewest: int, most: int, rng: random.Random
    ) -> list[Aspect]:
        needs = needs_of(query)
        named = {aspect.name: aspect_named(aspect.name) for aspect in pool}
        right = [aspect for aspect in pool if named[aspect.name] in needs]
        wrong = [aspect for aspect in pool if aspect not in right]
        chosen = [aspect for aspect in right if rng.random() < self._dials["recall"]]
        for name, definition in self._known.known.items():
            if name in needs and name not in named.values() and rng.random() < self._dials["new"]:
                chosen.append(Aspect(name, definition))
        rng.shuffle(wrong)
        for _ in range(len(chosen)):
            while wrong and rng.random() >= self._dials["precision"]:
                chosen.append(wrong.pop())
        while wrong and len(chosen) < fewest:
            chosen.append(wrong.pop())
        rng.shuffle(chosen)
        return chosen[:most]


def _how_many(pieces: Sequence[Piece]) -> tuple[int, int]:
    for piece in pieces:
        found = _HOW_MANY.search(piece.text) if not piece.label else None
        if found:
            fewest = max(1, int(found[1]))
            return fewest, max(fewest, int(found[2]))
    return 2, 5
