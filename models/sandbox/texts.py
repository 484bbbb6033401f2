"""Takes the messages of a role apart: fences that templates must keep, and the lines around them.

Whatever a fence holds is never taken for a line, and the other way round.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from drpo.graph.values import Aspect, Message

_FENCE = re.compile(r"<([a-z_]+)-([0-9a-f]{12})>\n(.*?)\n</\1-\2>", re.DOTALL)
_BASE_HEADING = re.compile(r"^# (Query|Answer)[ \t]*$", re.MULTILINE)
_NAME = re.compile(r"(\S+):")
_SCORED = re.compile(r"(.+): (\d+(?:\.\d+)?) of 5")


@dataclass(frozen=True, slots=True)
class Piece:
    """A fenced text, or one line of what stands around the fences."""

    label: str
    """Of the fence; empty for a line."""
    text: str


@dataclass(frozen=True, slots=True)
class Turns:
    """What a target is given."""

    prompt: str
    query: str
    examples: tuple[tuple[str, str], ...] = ()
    """Earlier queries with their answers."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One aspect of a verdict, as the rewriter is shown it."""

    aspect: str
    score: float
    rationale: str


def pieces_of(messages: Sequence[Message]) -> list[Piece]:
    """Of the last user turn, from left to right."""
    text = last_user_turn(messages)
    pieces, at = [], 0
    for found in _FENCE.finditer(text):
        pieces += [Piece("", line) for line in text[at : found.start()].splitlines()]
        pieces.append(Piece(found[1], found[3]))
        at = found.end()
    return pieces + [Piece("", line) for line in text[at:].splitlines()]


def fenced(pieces: Sequence[Piece], label: str) -> str:
    """The first fenced text of that label; empty without one."""
    return next((piece.text for piece in pieces if piece.label == label), "")


def all_fenced(pieces: Sequence[Piece], label: str) -> list[str]:
    """Every fenced text of that label."""
    return [piece.text for piece in pieces if piece.label == label]


def listed_aspects(pieces: Sequence[Piece]) -> list[Aspect]:
    """The list below the line that begins with `Aspects`."""
    found: list[Aspect] = []
    begun = False
    for piece in pieces:
        if not begun:
            begun = not piece.label and piece.text.startswith("Aspects")
        elif not piece.label and piece.text.startswith("- "):
            name, _, definition = piece.text[2:].partition(":")
            found.append(Aspect(name.strip(), definition.strip()))
        elif found:
            break
    return found


def named_prompts(pieces: Sequence[Piece]) -> dict[str, str]:
    """The current prompts, each named by the line before it; `system` where that is no name."""
    found: dict[str, str] = {}
    for before, piece in pairwise([Piece("", ""), *pieces]):
        if piece.label == "prompt":
            named = None if before.label else _NAME.fullmatch(before.text.strip())
            found[named[1] if named else "system"] = piece.text
    return found


def verdicts(pieces: Sequence[Piece]) -> list[Judged]:
    """Every scored aspect, with its rationale where one follows."""
    found: list[Judged] = []
    for at, piece in enumerate(pieces):
        scored = None if piece.label else _SCORED.fullmatch(piece.text)
        if scored is not None:
            after = pieces[at + 1 : at + 2]
            rationale = "".join(each.text for each in after if each.label == "rationale")
            found.append(Judged(scored[1], float(scored[2]), rationale))
    return found


def turns_of(messages: Sequence[Message]) -> Turns:
    """Prompt, examples and query of turns, or of the one text that a base model continues."""
    prompt = "\n".join(turn.content for turn in messages if turn.role == "system")
    talk = [turn for turn in messages if turn.role != "system"]
    before, *pieces = _BASE_HEADING.split(last_user_turn(messages))
    if prompt or not pieces:
        return Turns(prompt, last_user_turn(messages), tuple(_answered(talk[:-1])))
    sections = [(kind, text.strip()) for kind, text in _pairs(pieces)]
    queries = [text for kind, text in sections if kind == "Query"]
    shown = [
        (asked[1], said[1])
        for asked, said in pairwise(sections)
        if (asked[0], said[0]) == ("Query", "Answer") and said[1]
    ]
    return Turns(before.strip(), queries[-1] if queries else "", tuple(shown))


def last_user_turn(messages: Sequence[Message]) -> str:
    """The text of it; empty without one."""
    return next((turn.content for turn in reversed(messages) if turn.role == "user"), "")


def _answered(talk: Sequence[Message]) -> Iterable[tuple[str, str]]:
    for asked, said in pairwise(talk):
        if (asked.role, said.role) == ("user", "assistant"):
            yield asked.content, said.content


def _pairs(pieces: Sequence[str]) -> Iterable[tuple[str, str]]:
    return zip(pieces[::2], pieces[1::2], strict=True)
