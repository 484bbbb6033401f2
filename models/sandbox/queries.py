"""The sandbox's own queries: a topic and the words of its needs, drawn from the frozen file.

Train and held-out share one distribution of needs, but no topic; the shifted split has the topics
of held-out and other needs; in the constant ones every query needs the same.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache

from drpo.models.sandbox.world import Split, WorldFile, world_file

FEWEST_NEEDS, MOST_NEEDS = 2, 5


@cache
def queries(split: str) -> tuple[str, ...]:
    """The texts of a split, always the same. Raises KeyError for a split that there is not."""
    known = world_file()
    return tuple(_drawn(known, known.splits[split], random.Random(f"{known.version}:{split}")))


def split_names() -> list[str]:
    """Every split."""
    return list(world_file().splits)


def _drawn(known: WorldFile, split: Split, rng: random.Random) -> Iterator[str]:
    seen: set[str] = set()
    topics = known.topics[split.topics]
    number = 0
    while number < split.queries:
        text = worded(topics[number % len(topics)], drawn_needs(split, rng), rng)
        if text not in seen:
            seen.add(text)
            number += 1
            yield text


def worded(topic: str, needs: tuple[str, ...], rng: random.Random) -> str:
    """A query about a topic that needs this, in one of many wordings."""
    phrases = [rng.choice(world_file().needs[need].phrases) for need in needs]
    rng.shuffle(phrases)
    return " ".join([topic, *phrases])


def drawn_needs(split: Split, rng: random.Random) -> tuple[str, ...]:
    """The needs of one query of a split."""
    if split.shares is None:
        return split.needs
    left = {name: float(getattr(need, split.shares)) for name, need in world_file().needs.items()}
    chosen: list[str] = []
    for _ in range(rng.randint(FEWEST_NEEDS, MOST_NEEDS)):
        [name] = rng.choices(list(left), list(left.values()))
        chosen.append(name)
        del left[name]
    return tuple(chosen)
