"""Divides the queries of a run: to search with, to choose a challenger by, to confirm its gain on.

Near-duplicates stay together, so that no query of one part is known from another. Likeness is that
of words: a paraphrase in other words is not seen. Knows nothing of models or rewards.
"""

from __future__ import annotations

import json
import math
import random
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from zlib import crc32

from drpo.conf.schema import ValidationSettings
from drpo.graph.errors import BadInput
from drpo.graph.values import Part, Query

ALIKE = 0.6
"""Share of the words of two near-duplicates that both have, weighted by rarity. In 1,000 prompts of
just-eval-instruct, questions repeated or with one word exchanged have 0.63 and more; different
questions in one frame ("Explain step by step how many ...") have less, and so have the sandbox's
queries (0.59), which are built of the same sentences."""
MOST_WORDS = 128
"""Words by which a text is compared: a sample is enough of a long one."""
FEWEST_CONFIRMED = 5
"""Groups of near-duplicates in `confirm`: with fewer no gain can have p <= 0.05."""

# Thai, Lao, Myanmar, Khmer, kana and Han put no spaces between words: each letter counts as one.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
_ROUNDING = 1e-9


def split_queries(queries: Sequence[Query], settings: ValidationSettings, seed: int) -> list[Query]:
    """The same queries, each with its part; seeds of examples stay what they are.

    A group of near-duplicates is in one part, and searched with where a seed is among them. Large
    groups are rather searched with, because the test counts each query as one of its own.
    Raises BadInput where a part would have too few.
    """
    groups = near_duplicates(queries)
    random.Random(f"{seed}:split").shuffle(groups)
    groups.sort(key=len, reverse=True)
    count = sum(query.part != "seed" for query in queries)
    select, confirm = max(1, round(count * settings.select)), round(count * settings.confirm)
    room: dict[Part, int] = {
        "train": count - select - confirm,
        "select": select,
        "confirm": confirm,
    }
    found = list(queries)
    filled: Counter[Part] = Counter()
    for group in groups:
        own = [at for at in group if queries[at].part != "seed"]
        if not own:
            continue
        roomy: list[Part] = [part for part in room if room[part] >= len(own)]
        part = roomy[0] if roomy and len(own) == len(group) else "train"
        room[part] -= len(own)
        filled[part] += 1
        for at in own:
            found[at] = replace(queries[at], part=part)
    _check(filled, count, settings)
    return found


def _check(filled: Counter[Part], count: int, settings: ValidationSettings) -> None:
    if filled["train"] and filled["select"] and filled["confirm"] >= FEWEST_CONFIRMED:
        return
    raise BadInput(
        f"validation: {count} queries, {filled.total()} of them different, leave {filled['train']} "
        f"for train, {filled['select']} for select and {filled['confirm']} for confirm: allowed "
        f"are at least 1, 1 and {FEWEST_CONFIRMED}; give more queries or change validation.select "
        f"({settings.select:g}) and validation.confirm ({settings.confirm:g})"
    )


def part_hash(queries: Sequence[Query], part: Part) -> str:
    """Of the texts of one part, whatever their order: tells whether two runs have the same."""
    texts = sorted(query.text for query in queries if query.part == part)
    return sha256(json.dumps(texts).encode()).hexdigest()


def near_duplicates(queries: Sequence[Query]) -> list[list[int]]:
    """Positions of the queries, in groups of those that are alike, also through others."""
    same: dict[frozenset[str], list[int]] = defaultdict(list)
    for at, query in enumerate(queries):
        same[_words(query.text)].append(at)
    alike = _alike(list(same))
    groups: dict[int, list[int]] = defaultdict(list)
    for number, members in enumerate(same.values()):
        groups[alike.first(number)] += members
    return [sorted(group) for group in groups.values()]


def _words(text: str) -> frozenset[str]:
    """The words, of a long text always the same sample of them."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    words = set(_WORD.findall(plain)) or {plain.strip()}
    if len(words) > MOST_WORDS:
        words = set(sorted(words, key=lambda word: (crc32(word.encode()), word))[:MOST_WORDS])
    return frozenset(words)


class _Groups:
    """Which text belongs with which: each points to an earlier one of its group, or to itself."""

    def __init__(self, count: int) -> None:
        self._earlier = list(range(count))

    def first(self, text: int) -> int:
        """The first text of the group."""
        while self._earlier[text] != text:
            self._earlier[text] = text = self._earlier[self._earlier[text]]
        return text

    def join(self, one: int, other: int) -> None:
        """Puts the groups of both together."""
        low, high = sorted((self.first(one), self.first(other)))
        self._earlier[high] = low


def _alike(texts: Sequence[frozenset[str]]) -> _Groups:
    """Compares only texts that share one of their rare words.

    What two near-duplicates share weighs at least `ALIKE` of either. So the rarest word they share
    is among the rarest of each, before what is left of it weighs less than that.
    """
    counts = Counter(word for text in texts for word in text)
    weights = {word: math.log((len(texts) + 1) / count) for word, count in counts.items()}
    totals = [math.fsum(weights[word] for word in text) for text in texts]
    having: dict[str, list[int]] = defaultdict(list)
    groups = _Groups(len(texts))
    for at, text in enumerate(texts):
        rare = _rarest(text, weights, ALIKE * totals[at])
        shared: dict[int, float] = defaultdict(float)
        for word in rare:
            weight = weights[word]
            for other in having[word]:
                shared[other] += weight
            having[word].append(at)
        for other, weight in shared.items():
            least = ALIKE * (totals[at] + totals[other]) / (1 + ALIKE) - _ROUNDING
            # Beyond its rare words neither has more than this.
            if weight + ALIKE * max(totals[at], totals[other]) < least:
                continue
            if groups.first(at) == groups.first(other):
                continue
            if math.fsum(map(weights.__getitem__, text & texts[other])) >= least:
                groups.join(at, other)
    return groups


def _rarest(text: frozenset[str], weights: Mapping[str, float], least: float) -> list[str]:
    """Words from the rarest on, until the others weigh less than `least`."""
    ordered = sorted(text, key=lambda word: (-weights[word], word))
    left = math.fsum(weights[word] for word in ordered)
    for number, word in enumerate(ordered):
        if left < least - _ROUNDING:
            return ordered[:number]
        left -= weights[word]
    return ordered
