"""A prompt as sentences, and what each was in an older prompt: the same, another one, or nothing.

Pure functions of texts, for any language. Knows nothing of runs. One module for `show --view why`,
`insights` and `diff`, so that they mean the same by a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Literal

Kind = Literal["kept", "changed", "brought", "removed"]
"""What became of a sentence between two prompts."""

ALIKE = 0.6
"""Share of the words of two sentences, taken together, from which on one is the other, reworded."""
CONTAINED = 0.8
"""Share of the shorter one's words from which on a sentence was split off, or took another in."""
FEWEST_WORDS = 5
"""In the shorter one: less is in many sentences by chance."""
SHORTEST_RUN = 3
"""Words in a row that count as contained."""

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
    left = [at for at in range(len(new)) if at not in found]
    free = [at for at in range(len(old)) if at not in kept.values()]
    words = {at: words_of(new[at]) for at in left}
    before = {at: words_of(text) for at, text in enumerate(old)} if left else {}
    pairs = sorted(
        (-alike, at, was)
        for at in left
        for was in free
        if (alike := _alike(words[at], before[was])) >= ALIKE
    )
    taken: set[int] = set()
    for _, at, was in pairs:
        if at not in found and was not in taken:
            found[at] = Link(was)
            taken.add(was)
    for at in left:
        if at not in found:
            shares = [(_contained(words[at], before[was]), -was) for was in range(len(old))]
            best, was = max(shares, default=(0.0, 0))
            found[at] = Link(-was) if best >= CONTAINED else NEW
    return [found[at] for at in range(len(new))]


def _alike(one: Sequence[str], other: Sequence[str]) -> float:
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    if min(matcher.real_quick_ratio(), matcher.quick_ratio()) < ALIKE:
        return 0.0
    return matcher.ratio()


def _contained(one: Sequence[str], other: Sequence[str]) -> float:
    shorter = min(len(one), len(other))
    if shorter < FEWEST_WORDS:
        return 0.0
    blocks = SequenceMatcher(None, one, other, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks if block.size >= SHORTEST_RUN) / shorter


@dataclass(frozen=True, slots=True)
class Pair:
    """A sentence before and after; one of them is None where there is no other."""

    before: str | None
    after: str | None

    @property
    def kind(self) -> Kind:
        """What became of it."""
        if self.before is None:
            return "brought"
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

    kind: Literal["kept", "brought", "removed"]
    text: str


def pieces(before: str, after: str) -> list[Piece]:
    """A changed sentence word by word: what was kept, removed, brought."""
    old, new = _TOKEN.findall(before), _TOKEN.findall(after)
    found: list[Piece] = []
    for tag, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            found.append(Piece("kept", "".join(new[c:d])))
            continue
        found += [Piece("removed", "".join(old[a:b]))] if b > a else []
        found += [Piece("brought", "".join(new[c:d]))] if d > c else []
    return found


@lru_cache(maxsize=65_536)
def words_of(text: str) -> tuple[str, ...]:
    """In order, in small letters."""
    return tuple(_WORD.findall(text.casefold()))
