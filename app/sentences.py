"""The sentences of a prompt, and which of one prompt became which of another.

Pure text: knows no run. A bullet is a sentence of its own, or several; white space and the marks of
bullets make no difference. One sentence is matched with one: of two that were merged into a third,
one is changed and one removed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Literal

Kind = Literal["kept", "changed", "brought", "removed"]
"""What became of a sentence between two prompts."""

LEAST_LIKE = 0.45
"""Share of words that two sentences have in common, in order, from which on one is taken for the
other, changed. Of the paper's recorded runs, what is below shares hardly more than "the", "and",
"responses"."""

_BULLET = re.compile(r"\s*(?:[-*+\u2022\u2013]|#+|\(?(?:\d{1,2}|[A-Za-z])[.)])\s+")
_END = re.compile(r"[.!?\u2026]+[\"'\u201d\u2019)\]*_]*\s+|[\u3002\uff01\uff1f]+[\u300d\u300f]?\s*")
_ABBREVIATION = re.compile(
    r"\b(?:(?:e\.g|i\.e|vs|cf|dr|mr|mrs|ms|prof|approx|incl)|(?:[A-Z]\.)+[A-Z])$", re.IGNORECASE
)
_NUMBERED = re.compile(r"\b(?:no|nos|fig|sec|vol|p|pp)$", re.IGNORECASE)
"""An abbreviation only before a figure."""
_GOES_ON = re.compile(r"(?:\betc\.|\.\.\.|\u2026)$")
"""Before a small letter, what ends in this ends no sentence."""
_TOKEN = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]"
    r"|(?:\w|[\u0300-\u036f\u0900-\u0dff]|(?<=\w)['\u2019](?=\w))+|\s+|."
)
"""Words, white space and single other characters; scripts without spaces go by the character."""
_WRAPPED = 50
"""Characters from which on a line that ends in no mark may be one that an editor broke."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A sentence before and after; one of them is None where there is no other."""

    before: str | None
    after: str | None
    at_before: int | None
    """Its place among the sentences before, from 0."""
    at_after: int | None
    """Its place among the sentences after, from 0."""

    @property
    def kind(self) -> Kind:
        """What became of it."""
        if self.before is None:
            return "brought"
        if self.after is None:
            return "removed"
        return "kept" if same(self.before, self.after) else "changed"


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a changed sentence."""

    kind: Literal["kept", "brought", "removed"]
    text: str


def sentences(text: str) -> list[str]:
    """In order, each on one line, with the mark of its bullet; what has no word is none."""
    return [each for line in _lines(text) for each in _of_line(line)]


def match(before: Sequence[str], after: Sequence[str]) -> list[Pair]:
    """Every sentence of both once, in the order after; a removed one follows its predecessor.

    Equal ones first, wherever they stand; then the most alike, from `LEAST_LIKE` on, the earlier
    where two are as much alike.
    """
    partner = _equal(before, after)
    taken = set(partner.values())
    open_before = [at for at in range(len(before)) if at not in taken]
    open_after = [at for at in range(len(after)) if at not in partner]
    alike = [
        (-value, abs(new - old), new, old)
        for new in open_after
        for old in open_before
        if (value := likeness(before[old], after[new])) >= LEAST_LIKE
    ]
    for _, _, new, old in sorted(alike):
        if new not in partner and old not in taken:
            partner[new] = old
            taken.add(old)
    return _ordered(before, after, partner)


def same(one: str, other: str) -> bool:
    """Whether two sentences differ in nothing but white space and the mark of a bullet."""
    return bare(one) == bare(other)


@lru_cache(maxsize=65_536)
def bare(sentence: str) -> str:
    """Its identity: without the mark of a bullet, white space apart."""
    return " ".join(sentence[_mark(sentence) :].split())


@lru_cache(maxsize=65_536)
def likeness(one: str, other: str) -> float:
    """0-1: words in common in the same order, twice, over the words of both."""
    mine, theirs = words(one), words(other)
    if not mine or not theirs:
        return 0.0
    # No order of words has more in common than no order at all; counting is quick.
    common = sum((Counter(mine) & Counter(theirs)).values())
    most = 2 * common / (len(mine) + len(theirs))
    if most < LEAST_LIKE:
        return most
    return SequenceMatcher(None, mine, theirs, autojunk=False).ratio()


def pieces(before: str, after: str) -> list[Piece]:
    """A changed sentence word by word: what was kept, removed, brought."""
    old, new = _tokens(bare(before)), _tokens(bare(after))
    found: list[Piece] = []
    for tag, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag == "equal":
            found.append(Piece("kept", "".join(new[c:d])))
            continue
        found += [Piece("removed", "".join(old[a:b]))] if b > a else []
        found += [Piece("brought", "".join(new[c:d]))] if d > c else []
    return found


@lru_cache(maxsize=65_536)
def words(text: str) -> tuple[str, ...]:
    """In order, in small letters."""
    found = _TOKEN.findall(bare(text).casefold())
    return tuple(each for each in found if any(map(str.isalnum, each)))


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(text)


def _mark(line: str) -> int:
    """Length of the mark of a bullet, with the space after it."""
    found = _BULLET.match(line)
    return found.end() if found else 0


def _lines(text: str) -> list[str]:
    """With the lines together again that an editor has broken."""
    joined: list[str] = []
    broken = False
    for line in text.splitlines():
        bare = " ".join(line.split())
        if broken and bare[:1].islower() and not _mark(f"{bare} "):
            joined[-1] += f" {bare}"
        else:
            joined.append(bare)
        broken = len(bare) >= _WRAPPED and bare[-1] not in ".!?:;\u2026\u3002"
    return joined


@lru_cache(maxsize=65_536)
def _of_line(line: str) -> tuple[str, ...]:
    # Prompts of one run have most of their lines in common.
    found: list[str] = []
    start = 0
    for end in _END.finditer(line, _mark(line)):
        if not _goes_on(line[start : end.start()], end[0].rstrip(), line[end.end() :]):
            found.append(line[start : end.end()].strip())
            start = end.end()
    return tuple(each for each in (*found, line[start:].strip()) if words(each))


def _goes_on(said: str, mark: str, rest: str) -> bool:
    """Whether what looks like the end of a sentence is none."""
    if mark == "." and _ABBREVIATION.search(said):
        return True
    if mark == "." and rest[:1].isdigit() and _NUMBERED.search(said):
        return True
    return rest[:1].islower() and _GOES_ON.search(f"{said}{mark}") is not None


def _equal(before: Sequence[str], after: Sequence[str]) -> dict[int, int]:
    """Place after to place before, of the sentences that stayed; repeated ones in order."""
    places: dict[str, list[int]] = {}
    for at, sentence in enumerate(before):
        places.setdefault(bare(sentence), []).append(at)
    partner: dict[int, int] = {}
    for at, sentence in enumerate(after):
        free = places.get(bare(sentence))
        if free:
            partner[at] = free.pop(0)
    return partner


def _ordered(before: Sequence[str], after: Sequence[str], partner: dict[int, int]) -> list[Pair]:
    gone: dict[int, list[Pair]] = {}
    taken, last = set(partner.values()), -1
    for at, sentence in enumerate(before):
        if at in taken:
            last = at
        else:
            gone.setdefault(last, []).append(Pair(sentence, None, at, None))
    found = gone.get(-1, [])
    for at, sentence in enumerate(after):
        old = partner.get(at)
        found.append(Pair(None if old is None else before[old], sentence, old, at))
        found += [] if old is None else gone.get(old, [])
    return found
