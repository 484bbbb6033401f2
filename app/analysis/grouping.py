"""Groups short texts that say much the same, by their words. Deterministic; needs no model.

Around the text that has most others near it, then around the next of what is left. Does not know
what the texts are.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drpo.analysis.sentences import words_of

NEAR = 0.3
"""Cosine of two texts, their words weighed by rarity, from which on they say much the same."""
_STEM = 6
"""Letters of a word that count: a stemmer of one language would help in no other.

Nor is that of `drpo.analysis.evidence` better for English: it changes 18 of the 120 instructions
told of the recorded runs, and loses those that speak of empathy and clarity by name.
"""
_LEAST = 3
"""Letters of the shortest word that says anything."""


@dataclass(frozen=True, slots=True)
class Group:
    """Texts, by their places in the list."""

    central: int
    """The one that has most others near it."""
    members: tuple[int, ...]
    """The central one among them, in order."""


def grouped(texts: Sequence[str], about: Sequence[int]) -> list[Group]:
    """Every text in one group, the largest group first; the earlier where two are as large.

    `about` says for each text what it is about, e.g. a query: words that only texts about the same
    thing have tell what that is, and not what is said of it. They do not count.
    """
    if not texts:
        return []
    alike = _cosines(texts, about)
    beside = alike >= NEAR
    np.fill_diagonal(beside, val=True)
    left = np.ones(len(texts), np.bool_)
    found: list[Group] = []
    while left.any():
        counts = (beside & left).sum(axis=1)
        # What is nearest to its neighbours is the most typical where as many have as many.
        typical = np.where(left, counts + (alike * (beside & left)).sum(axis=1) / len(texts), -1.0)
        central = int(np.argmax(np.round(typical, 9)))
        members = np.flatnonzero(beside[central] & left)
        left[members] = False
        found.append(Group(central, tuple(int(each) for each in members)))
    return sorted(found, key=lambda group: -len(group.members))


def in_turn(about: Sequence[int], most: int) -> list[int]:
    """Places of at most so many, one of each thing in turn, so that none has them all; in order."""
    rounds: Counter[int] = Counter()
    order: list[tuple[int, int]] = []
    for at, thing in enumerate(about):
        order.append((rounds[thing], at))
        rounds[thing] += 1
    return sorted(at for _, at in sorted(order)[:most])


def telling(said: Mapping[str, Sequence[str]]) -> dict[str, dict[str, float]]:
    """By name, how much each stem tells of what was said under it rather than under the others."""
    counts = {
        name: Counter(stem for text in (name, *texts) for stem in stems(text))
        for name, texts in said.items()
    }
    spread = Counter(stem for each in counts.values() for stem in each)
    return {
        name: {
            stem: math.log1p(count) * math.log((len(counts) + 1) / spread[stem])
            for stem, count in each.items()
        }
        for name, each in counts.items()
    }


def stems(text: str) -> frozenset[str]:
    """Beginnings of its words: `creative` and `creativity` have one."""
    return frozenset(word[:_STEM] for word in words_of(text) if len(word) >= _LEAST)


def _cosines(texts: Sequence[str], about: Sequence[int]) -> NDArray[np.float32]:
    counted = [Counter(words_of(text)) for text in texts]
    known = Counter(word for each in counted for word in each)
    used = known if len(set(about)) == 1 else _of_several(counted, about)
    places = {word: at for at, word in enumerate(each for each in known if each in used)}
    # What stands in nearly every text says nothing of any.
    rarity = {word: math.log((len(texts) + 1) / known[word]) for word in places}
    weights = np.zeros((len(texts), max(1, len(places))), np.float32)
    for row, each in enumerate(counted):
        for word in each.keys() & places.keys():
            weights[row, places[word]] = rarity[word]
    lengths = np.linalg.norm(weights, axis=1, keepdims=True)
    np.divide(weights, lengths, out=weights, where=lengths > 0)
    alike: NDArray[np.float32] = weights @ weights.T
    return alike


def _of_several(counted: Sequence[Counter[str]], about: Sequence[int]) -> set[str]:
    """Words of texts about several things."""
    first: dict[str, int] = {}
    several: set[str] = set()
    for each, thing in zip(counted, about, strict=True):
        several.update(word for word in each if first.setdefault(word, thing) != thing)
    return several
