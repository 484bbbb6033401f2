"""Which low scores are the evidence of a sentence: those whose aspect or rationale has its words.

A pure function of texts. It tells what a sentence and a rationale have in common, not what a
rewriter thought: nobody can know that.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from drpo.models.embedders.lexical import tokens_of

ENOUGH = 2
"""Words that a sentence has to share with a rationale or definition, where it does not have the
aspect's name."""
COMMON = 0.2
"""Share of the rationales on the path; a word in more of them tells nothing."""
FEWEST = 20
"""Rationales from which on that can be said."""
MOST = 500
"""Rationales that are looked at, evenly drawn from more."""
SHORTEST_STEM = 4
TALK = (
    *("answer", "assistant", "ensure", "information", "prompt", "provide"),
    *("query", "question", "request", "response", "user"),
    *("could", "make", "may", "might", "must", "rather", "should", "would"),
)
"""What every rationale and every prompt speaks of, or is made of."""

_ENDINGS = (
    "ational",
    *("ations", "ements", "ically", "uality"),
    *("ality", "ances", "ation", "ement", "ences", "ingly", "ities", "ments", "tions"),
    *(
        "able",
        "ance",
        "ence",
        "etic",
        "ible",
        "ings",
        "ions",
        "ious",
        "ives",
        "ment",
        "ness",
        "tion",
    ),
    *("ely", "ers", "ful", "ies", "ify", "ing", "ion", "ity", "ive", "ous", "ual"),
    *("al", "at", "ed", "er", "es", "ic", "iv", "ly", "ty"),
    *("e", "s", "y"),
)
"""Of English words, the longest first; of a pair like creative and creativity none is left.

Snowball's English stemmer keeps empathetic and empathy apart, and six letters, as in
`drpo.analysis.grouping`, clarify and clarity: each loses 2 of the 26 matched sentences in the
recorded best prompts.
"""


@dataclass(frozen=True, slots=True)
class Judged:
    """One aspect that scored low, as the rewriter saw it."""

    aspect: str
    definition: str
    rationale: str
    score: float
    """1-5."""


@dataclass(frozen=True, slots=True)
class Match:
    """How much a sentence has in common with one of them."""

    matched: bool
    shared: tuple[str, ...]
    """The sentence's words that it shares, in order."""
    weight: float = 0.0
    """Of the shared words, the rarer the more."""
    named: bool = False
    """Whether the sentence has the aspect's name."""


class Words:
    """What words are worth in one run, by the rationales on the way to its prompt."""

    def __init__(self, rationales: Sequence[str]) -> None:
        rationales = rationales[:: 1 + len(rationales) // MOST]
        self._count = len(rationales)
        self._in = Counter(stem for text in rationales for stem in set(_stems(text)))

    def matches(self, sentence: str, before: str | None, seen: Sequence[Judged]) -> list[Match]:
        """Of each of `seen`, with a sentence that is new, or was `before`.

        Of a changed one what is new in it counts, unless that says nothing.
        """
        words = _stems(sentence)
        if before is not None:
            old = set(_stems(before))
            fresh = {stem: word for stem, word in words.items() if stem not in old}
            found = [self._match(fresh, each) for each in seen]
            if any(match.matched for match in found):
                return found
        return [self._match(words, each) for each in seen]

    def _match(self, words: Mapping[str, str], judged: Judged) -> Match:
        name = {stem for stem in _stems(judged.aspect) if stem in words}
        said = _stems(f"{judged.definition} {judged.rationale}")
        telling = {stem for stem in words if stem in said and self._tells(stem)}
        shared = [stem for stem in words if stem in name | telling]
        return Match(
            matched=bool(name) or len(telling) >= ENOUGH,
            shared=tuple(words[stem] for stem in shared),
            weight=sum(math.log(1 + (1 + self._count) / (1 + self._in[stem])) for stem in shared),
            named=bool(name),
        )

    def _tells(self, stem: str) -> bool:
        if stem in _TALK:
            return False
        return self._count < FEWEST or self._in[stem] <= COMMON * self._count


def rank(judged: Judged, match: Match) -> tuple[bool, bool, float, float]:
    """What to sort by for the best evidence first: named, most in common, lowest score."""
    return (not match.matched, not match.named, -match.weight, judged.score)


def _stems(text: str) -> Mapping[str, str]:
    """The words that count without their endings, each with the word itself."""
    # Remembered, because every sentence of a rewrite is held against the same scores.
    found: dict[str, str] = {}
    for word in tokens_of(text):
        if not word.isdigit():
            found.setdefault(_stem(word), word)
    return found


@cache
def _stem(word: str) -> str:
    """Without its endings, as long as something is left."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= SHORTEST_STEM:
            return _stem(word.removesuffix(ending))
    return word


_TALK = frozenset(_stem(word) for word in TALK)
