"""A prompt as sentences, and what each was in an older prompt: the same, another one, or nothing.

Pure functions of texts, for any language. Knows nothing of runs. One module for `show --view why`,
`insights` and `diff`, so that they mean the same by a sentence.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from heapq import heappop, heappush, merge
from itertools import chain
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Words = tuple[str, ...]
Kind = Literal["kept", "changed", "added", "removed"]
"""What became of a sentence between two prompts."""

ALIKE = 0.6
"""Share of the words of two sentences, taken together, from which on one is the other, reworded."""
CONTAINED = 0.8
"""Share of the shorter one's words from which on a sentence was split off, or took another in."""
FEWEST_WORDS = 5
"""In the shorter one: less is in many sentences by chance."""
SHORTEST_RUN = 3
"""Words in a row that count as contained."""

_LAST = (0.0, 0, 0)
"""Behind every pair."""
_MARKER = re.compile(r"\s*(?:(?:[-*+•‣◦·\u2013—]|\(?\d{1,3}[.)]|\(?[A-Za-z]\)|#{1,6}|>)\s+)+")
"""What begins an item of a list, a heading or a quotation."""
_END = re.compile(
    r"[\u3002\uff01\uff1f\uff61]+[\u300d\u300f\u201d\u2019\uff09)\"']*"
    r"|[.!?\u2026\u061f\u0964]+[\"'\u201d\u2019»)\]]*(?=\s)"
)
"""Where a sentence may end; after the full stops of Chinese and Japanese there is no space."""
_NO_END = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|vs|cf|al|approx|no|nr|fig|mr|mrs|ms|dr|prof|st|z\.\s?b|bzw)|\b[A-Z])\.$",
    re.IGNORECASE,
)
"""A full stop that ends a short form; a capital by itself is an initial."""
_WORD = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]|\w+")
_TOKEN = re.compile(rf"{_WORD.pattern}|\s+|.")


def sentences(text: str) -> list[str]:
    """In order, each on one line and without the marker of its item of a list."""
    return [each for line in _lines(text) for each in _parts(line)]


def _lines(text: str) -> list[str]:
    """Items, headings and paragraphs; a line that only goes on with one is a part of it."""
    lines: list[str] = []
    begun = False
    for raw in text.splitlines():
        marker = _MARKER.match(raw)
        line = raw[marker.end() if marker else 0 :].strip()
        if begun and not marker and line[:1].islower():
            lines[-1] += f" {line}"
        elif line:
            lines.append(line)
        begun = bool(line) and not raw.lstrip().startswith("#")
    return lines


@lru_cache(maxsize=65_536)
def _parts(line: str) -> tuple[str, ...]:
    # Remembered, because the prompts of a run have most of their lines in common.
    parts, start = [], 0
    for end in _END.finditer(line):
        if _goes_on(line[start : end.end()], line[end.end() :]):
            continue
        parts.append(line[start : end.end()])
        start = end.end()
    folded = [_spaced(part) for part in (*parts, line[start:])]
    return tuple(part for part in folded if any(each.isalnum() for each in part))


def _goes_on(before: str, after: str) -> bool:
    """Whether what looks like the end of a sentence is in the middle of one."""
    return after.lstrip()[:1].islower() or _NO_END.search(before) is not None


def _spaced(text: str) -> str:
    return " ".join(text.split())


@dataclass(frozen=True, slots=True)
class Link:
    """What a sentence was in an older prompt."""

    old: int | None
    """Its place there; None where it is new."""
    same: bool = False
    """Word for word, wherever it stood."""


NEW = Link(None)


def equal(new: Sequence[str], old: Sequence[str]) -> dict[int, int]:
    """Of the sentences that are word for word in the older prompt: where they stood."""
    places: dict[str, list[int]] = {}
    for was, text in enumerate(old):
        places.setdefault(text, []).append(was)
    return {at: places[text].pop(0) for at, text in enumerate(new) if places.get(text)}


def links(new: Sequence[str], old: Sequence[str]) -> list[Link]:
    """Of each sentence of a prompt, given those of an older one.

    Equal ones first, in order; then the most alike of what is left, each once; at last one that
    was split, or that took in another.
    """
    kept = equal(new, old)
    found = {at: Link(was, same=True) for at, was in kept.items()}
    left = {at: words_of(text) for at, text in enumerate(new) if at not in found}
    if left:
        older = _Older([words_of(text) for text in old], left.values())
        found |= _reworded(left, older, set(kept.values()))
        found |= {at: older.whole_of(words) for at, words in left.items() if at not in found}
    return [found[at] for at in range(len(new))]


def _reworded(new: Mapping[int, Words], older: _Older, taken: set[int]) -> dict[int, Link]:
    """The most alike first, or the earlier of two, each once.

    As all pairs in order would give it; but one is compared only where no other can be more alike.
    """
    found: dict[int, Link] = {}

    def nearest(at: int) -> Iterator[tuple[float, int, int]]:
        for most, was in older.alike_at_most(new[at]):
            if at in found:
                return
            if was not in taken:
                yield (-most, at, was)

    compared: list[tuple[float, int, int]] = []
    for pair in chain(merge(*map(nearest, new)), [_LAST]):
        while compared and compared[0] <= pair:
            _, at, was = heappop(compared)
            if at not in found and was not in taken:
                found[at] = Link(was)
                taken.add(was)
        _, at, was = pair
        if pair is not _LAST and at not in found and was not in taken:
            alike = _alike(new[at], older.words[was])
            if alike >= ALIKE:
                heappush(compared, (-alike, at, was))
    return found


class _Older:
    """The sentences of an older prompt, by their words: to compare two takes long.

    Two have no more words in common than the same words are in both, in any order.
    """

    def __init__(self, words: Sequence[Words], others: Iterable[Words]) -> None:
        self.words = words
        self._lengths = np.array([len(each) for each in words], np.int64)
        places: dict[str, list[int]] = {word: [] for other in others for word in other}
        for was, each in enumerate(words):
            for word in places.keys() & each:
                places[word].append(was)
        self._places = {word: np.array(found, np.intp) for word, found in places.items()}

    def alike_at_most(self, words: Words) -> Iterator[tuple[float, int]]:
        """Those that may be as much alike as it takes, with how much at most, the most first."""
        return _most(2.0 * self._common(words) / (len(words) + self._lengths), ALIKE)

    def whole_of(self, words: Words) -> Link:
        """The one that has most of a sentence, or of which the sentence has most; the first."""
        shorter = np.minimum(len(words), self._lengths)
        found: list[tuple[float, int]] = []
        for most, was in _most(self._common(words) / shorter, CONTAINED):
            if found and -most > min(found)[0]:
                break
            share = _contained(words, self.words[was])
            found += [(-share, was)] if share >= CONTAINED else []
        return Link(min(found)[1]) if found else NEW

    def _common(self, words: Words) -> NDArray[np.int64]:
        """How many of the words are in each, at most."""
        counts = np.zeros(len(self.words), np.int64)
        for word, count in Counter(words).items():
            counts[self._places[word]] += count
        return counts


def _most(shares: NDArray[np.float64], least: float) -> Iterator[tuple[float, int]]:
    """Those from so much on, the most first, with their places."""
    places = np.flatnonzero(shares >= least)
    places = places[np.argsort(-shares[places], kind="stable")]
    return ((float(shares[place]), int(place)) for place in places)


def _alike(one: Words, other: Words) -> float:
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    if min(matcher.real_quick_ratio(), matcher.quick_ratio()) < ALIKE:
        return 0.0
    return matcher.ratio()


def _contained(one: Words, other: Words) -> float:
    shorter = min(len(one), len(other))
    # The runs are looked at first, because most have none in common, and blocks take long.
    if shorter < FEWEST_WORDS or _runs(one).isdisjoint(_runs(other)):
        return 0.0
    blocks = SequenceMatcher(None, one, other, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks if block.size >= SHORTEST_RUN) / shorter


@lru_cache(maxsize=65_536)
def _runs(words: Words) -> frozenset[Words]:
    starts = range(len(words) - SHORTEST_RUN + 1)
    return frozenset(words[start : start + SHORTEST_RUN] for start in starts)


@dataclass(frozen=True, slots=True)
class Pair:
    """A sentence before and after; one of them is None where there is no other."""

    before: str | None
    after: str | None

    @property
    def kind(self) -> Kind:
        """What became of it."""
        if self.before is None:
            return "added"
        if self.after is None:
            return "removed"
        return "kept" if self.before == self.after else "changed"


def match(before: Sequence[str], after: Sequence[str]) -> list[Pair]:
    """Every sentence of both prompts, in the order after; a removed one follows its predecessor.

    One that was split is there once for each part.
    """
    found = links(after, before)
    linked = {each.old for each in found}
    gone: dict[int, list[Pair]] = {}
    last = -1
    for at, sentence in enumerate(before):
        if at in linked:
            last = at
        else:
            gone.setdefault(last, []).append(Pair(sentence, None))
    pairs = gone.pop(-1, [])
    for sentence, link in zip(after, found, strict=True):
        pairs.append(Pair(None if link.old is None else before[link.old], sentence))
        if link.old is not None:
            pairs += gone.pop(link.old, [])
    return pairs


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a changed sentence."""

    kind: Literal["kept", "added", "removed"]
    text: str


def pieces(before: str, after: str) -> list[Piece]:
    """A changed sentence word by word: what was kept, removed, added."""
    old, new = _TOKEN.findall(before), _TOKEN.findall(after)
    found: list[Piece] = []
    for tag, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            found.append(Piece("kept", "".join(new[c:d])))
            continue
        found += [Piece("removed", "".join(old[a:b]))] if b > a else []
        found += [Piece("added", "".join(new[c:d]))] if d > c else []
    return found


@lru_cache(maxsize=65_536)
def words_of(text: str) -> Words:
    """In order, in small letters."""
    return tuple(_WORD.findall(text.casefold()))
