"""What a rewrite must not be: the reasons for which `admit` refuses one.

Each guard is a pure function of (prompts, situation) that gives a reason or None. The order is
the order of the list at the end. Skips never come here, and `search=paper` has no guards.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from drpo.graph.values import Prompts, Query

CHARACTERS_PER_TOKEN = 4
SHORTEST_COPY = 24
"""Characters from which on a query or reference inside a prompt counts as copied: shorter ones
are phrases."""

_BRACES = re.compile(r"\{\{|\}\}|\{[A-Za-z_]\w*\}")
_URL = re.compile(r"\b(?:https?://|www\.)\S+", re.IGNORECASE)
_SCORE = (
    r"\b(?:scores?|rat(?:e|ing)|grades?)\b[^.\n]{0,40}\b(?:[1-5]|one|five|full|top|highest|perfect)\b"
    r"|\b[1-5]\s*(?:/|out of)\s*5\b"
)
_JUDGE = re.compile(
    rf"\b(?:judges?|graders?|evaluators?|raters?)\b|{_SCORE}",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Situation:
    """What a rewrite is held against."""

    root: Prompts
    parent: Prompts
    siblings: Collection[tuple[tuple[str, str], ...]]
    """Prompts already admitted at this level, as sorted items."""
    queries: Sequence[Query]
    locked: Sequence[str]
    token_cap: int


Guard = Callable[[Prompts, Situation], str | None]


def refusal(prompts: Prompts, situation: Situation) -> str | None:
    """The first reason to refuse `prompts`, or None."""
    for guard in GUARDS:
        reason = guard(prompts, situation)
        if reason is not None:
            return reason
    return None


def names_a_score(text: str) -> bool:
    """Whether it says which score something is to get."""
    return re.search(_SCORE, text, re.IGNORECASE) is not None


def identity(prompts: Prompts) -> tuple[tuple[str, str], ...]:
    """Equal for prompts that differ in nothing but white space at line ends."""
    return tuple(
        (name, "\n".join(line.rstrip() for line in text.strip().splitlines()))
        for name, text in sorted(prompts.items())
    )


def variables(text: str) -> list[str]:
    """Each `{name}` once, in order; doubled braces are escaped ones, or another language's."""
    found = dict.fromkeys(_BRACES.findall(text))
    return [each for each in found if each not in ("{{", "}}")]


def _empty(prompts: Prompts, _: Situation) -> str | None:
    for name, text in prompts.items():
        if not text.strip():
            return f"prompt {name!r} is empty"
    return None


def _repeats_parent(prompts: Prompts, situation: Situation) -> str | None:
    return "repeats its parent" if identity(prompts) == identity(situation.parent) else None


def _repeats_sibling(prompts: Prompts, situation: Situation) -> str | None:
    return "repeats another rewrite" if identity(prompts) in situation.siblings else None


def _too_long(prompts: Prompts, situation: Situation) -> str | None:
    for name, text in prompts.items():
        tokens = -(-len(text) // CHARACTERS_PER_TOKEN)
        if tokens > situation.token_cap:
            return f"prompt {name!r} has about {tokens} tokens, {situation.token_cap} are allowed"
    return None


def _copies_query(prompts: Prompts, situation: Situation) -> str | None:
    text, before = _flat(prompts), _flat(situation.root)
    for query in situation.queries:
        for what, source in (
            ("training", query.messages[-1].content),
            ("the reference answer of", query.reference),
        ):
            copy = _folded(source or "")
            if len(copy) >= SHORTEST_COPY and copy in text and copy not in before:
                return f"copies {what} query {query.id!r}"
    return None


def _loses_locked(prompts: Prompts, situation: Situation) -> str | None:
    text = _flat(prompts)
    for sentence in situation.locked:
        if _folded(sentence) not in text:
            return f"loses the locked sentence {sentence!r}"
    return None


def _loses_variable(prompts: Prompts, situation: Situation) -> str | None:
    for name, text in situation.root.items():
        lost = set(variables(text)) - set(variables(prompts.get(name, "")))
        if lost:
            return f"prompt {name!r} loses the variable {min(lost)}"
    return None


def _invents_variable(prompts: Prompts, situation: Situation) -> str | None:
    for name, text in prompts.items():
        new = set(variables(text)) - set(variables(situation.root.get(name, "")))
        if new:
            return f"prompt {name!r} invents the variable {min(new)}"
    return None


def _addresses_judge(prompts: Prompts, situation: Situation) -> str | None:
    return _newly(_JUDGE, prompts, situation, "speaks of judging")


def _brings_address(prompts: Prompts, situation: Situation) -> str | None:
    return _newly(_URL, prompts, situation, "brings in an address")


def _newly(
    pattern: re.Pattern[str], prompts: Prompts, situation: Situation, reason: str
) -> str | None:
    """What the root itself says is the user's own choice."""
    before = _flat(situation.root)
    for text in prompts.values():
        for match in pattern.finditer(text):
            if _folded(match[0]) not in before:
                return f"{reason}: {match[0]!r}"
    return None


def _flat(prompts: Prompts) -> str:
    return _folded("\n".join(prompts.values()))


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()


GUARDS: Sequence[Guard] = (
    _empty,
    _repeats_parent,
    _repeats_sibling,
    _too_long,
    _copies_query,
    _loses_locked,
    _loses_variable,
    _invents_variable,
    _addresses_judge,
    _brings_address,
)
