"""What texts mean in the sandbox: needs in queries, instructions in prompts, parts in answers.

Everything is read off the words themselves, by patterns of the frozen file, so that paraphrases
mean the same. Knows no effects and no scores.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from drpo.models.sandbox.world import WorldFile, world_file

_UNIT = re.compile(r"(?<=[.!?])\s+|\n+")
_BULLET = re.compile(r"^\s*(?:[-*\u2022]|\d+[.)])\s+")
_MARK = re.compile(r"\[([a-z ]+)\]", re.IGNORECASE)
_PRAISE = re.compile(r"Good: ([a-zI ,]+)\.")
_WORD = re.compile(r"[a-z]{4,}")
PLAIN_NEEDS = ("Helpfulness", "Clarity")
"""What a query needs whose words say nothing of needs."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One instruction found in a prompt."""

    name: str
    specific: bool
    when: str | None = None
    """The need it is confined to."""
    topic: str | None = None
    """The topic it is confined to, in its own words."""


def needs_of(query: str) -> dict[str, float]:
    """The need vector of a query: weights by aspect, adding up to 1."""
    found = _needs_in(query) or PLAIN_NEEDS
    return {name: 1 / len(found) for name in found}


@cache
def _needs_in(text: str) -> tuple[str, ...]:
    sentences = units(text)
    return tuple(
        name
        for name, patterns in _reader().needs.items()
        if any(_any(patterns, sentence) for sentence in sentences)
    )


@cache
def instructions_of(prompt: str) -> tuple[Asked, ...]:
    """What a prompt asks for, each class once, in order; of two wordings the specific one."""
    found: dict[tuple[str, str | None, str | None], Asked] = {}
    for unit in units(prompt):
        for asked in read_unit(unit):
            key = (asked.name, asked.when, asked.topic)
            if key not in found or asked.specific:
                found[key] = asked
    return tuple(found.values())


def lines_heeded(prompt: str) -> int:
    """How many things a prompt asks for: those understood, and bullets that say something else."""
    others = sum(1 for unit in units(prompt) if _BULLET.match(unit) and not read_unit(unit))
    return len(instructions_of(prompt)) + others


def units(text: str) -> list[str]:
    """Sentences and bullets."""
    return [unit for unit in _UNIT.split(text) if unit.strip()]


@cache
def read_unit(unit: str) -> tuple[Asked, ...]:
    """The instructions in one sentence or bullet."""
    reader = _reader()
    text, when, topic = _without_condition(_BULLET.sub("", unit).strip())
    asked = [
        Asked(name, specific=True, when=when, topic=topic)
        for name, known in reader.instructions.items()
        if _meant(known.specific, text)
    ]
    if asked:
        return tuple(asked)
    return tuple(
        Asked(name, specific=False, when=when, topic=topic)
        for name, known in reader.instructions.items()
        if _meant(known.vague, text)
    )


def _without_condition(unit: str) -> tuple[str, str | None, str | None]:
    """The sentence without a condition it begins or ends with, and what that is: need or topic."""
    for found in _reader().condition.finditer(unit):
        clause = found[0]
        rest = f"{unit[: found.start()]} {unit[found.end() :]}".strip(" ,.;:")
        if not rest:
            continue
        about = _reader().topic.search(clause)
        if about:
            return rest, None, clause[about.end() :].strip(" ,.;:")
        confined = _needs_in(clause)
        if confined:
            return rest, confined[0], None
    return unit, None, None


def concerns(topic: str, query: str) -> bool:
    """Whether a query shares a longer word with a topic."""
    return bool(words_of(topic) & words_of(query))


def words_of(text: str) -> set[str]:
    """Its longer words, in lower case."""
    return set(_WORD.findall(text.lower()))


def parts_in(answer: str) -> tuple[str, ...]:
    """The parts an answer is made of, by their marks, each once."""
    by_mark = _reader().marks
    found = (by_mark.get(mark.lower()) for mark in _MARK.findall(answer))
    return tuple(dict.fromkeys(part for part in found if part))


def parts_blamed(rationale: str) -> tuple[str, ...]:
    """The parts a critic misses, or the flaws it blames."""
    text = rationale.lower()
    return tuple(
        name
        for name, part in world_file().parts.items()
        if any(lack.lower() in text for lack in part.lacks)
    )


def parts_praised(rationale: str) -> tuple[str, ...]:
    """The parts a critic calls good, by their marks."""
    praised = _PRAISE.findall(rationale)
    marks = (mark.strip().lower() for said in praised for mark in said.split(","))
    return tuple(_reader().marks[mark] for mark in marks if mark in _reader().marks)


def aspect_named(name: str, definition: str = "") -> str | None:
    """The world's own aspect behind a name, or behind the needs its definition speaks of."""
    by_name = _reader().aspects.get(folded(name))
    if by_name:
        return by_name
    meant = _needs_in(f"{name}. {definition}")
    return meant[0] if meant else None


def folded(name: str) -> str:
    """`critical thinking` and `Critical-Thinking` are one name."""
    return re.sub(r"[\W_]+", "", name).casefold()


def unmarked(text: str) -> str:
    """Without brackets, so that a repeated query cannot pose as a part."""
    return text.replace("[", "(").replace("]", ")")


@dataclass(frozen=True, slots=True)
class _Patterns:
    specific: tuple[tuple[re.Pattern[str], ...], ...]
    vague: tuple[tuple[re.Pattern[str], ...], ...]


@dataclass(frozen=True, slots=True)
class _Reader:
    """The file's patterns, compiled."""

    needs: Mapping[str, tuple[tuple[re.Pattern[str], ...], ...]]
    instructions: Mapping[str, _Patterns]
    marks: Mapping[str, str]
    aspects: Mapping[str, str]
    no: re.Pattern[str]
    condition: re.Pattern[str]
    topic: re.Pattern[str]


@cache
def _reader() -> _Reader:
    known: WorldFile = world_file()
    words = known.language
    return _Reader(
        needs={name: _compiled(need.patterns) for name, need in known.needs.items()},
        instructions={
            name: _Patterns(_compiled(each.specific), _compiled(each.vague))
            for name, each in known.instructions.items()
        },
        marks={part.mark.lower(): name for name, part in known.parts.items()},
        aspects={folded(name): name for name in known.needs},
        no=re.compile(rf"\b(?:{words.no})\b", re.IGNORECASE),
        condition=re.compile(
            rf"\b(?:{words.condition})\b(?:(?!\b(?:{words.condition})\b)[^,;:.])*", re.IGNORECASE
        ),
        topic=re.compile(rf"\b{words.topic}\b", re.IGNORECASE),
    )


def _compiled(patterns: Iterable[str]) -> tuple[tuple[re.Pattern[str], ...], ...]:
    return tuple(
        tuple(
            re.compile(rf"(?<![\w'-])(?:{alternatives.strip()})", re.IGNORECASE)
            for alternatives in pattern.split(" & ")
        )
        for pattern in patterns
    )


def _any(patterns: Sequence[Sequence[re.Pattern[str]]], text: str) -> bool:
    return any(all(each.search(text) for each in pattern) for pattern in patterns)


def _meant(patterns: Sequence[Sequence[re.Pattern[str]]], text: str) -> bool:
    no = _reader().no
    for pattern in patterns:
        found = [at for at in (each.search(text) for each in pattern) if at]
        if len(found) == len(pattern):
            wants_no = any(no.fullmatch(at[0]) for at in found)
            if wants_no or not _refused(text, [at.start() for at in found]):
                return True
    return False


def _refused(text: str, starts: Sequence[int]) -> bool:
    """Whether a `no` stands in the clause before the match."""
    before = re.split(r"[,;:]|\band\b|\bbut\b", text[: max(starts)])[-1]
    return _reader().no.search(before) is not None
