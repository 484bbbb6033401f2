"""The simulated model under test: a prompt and a query give the chances of parts, draws an answer.

Knows what instructions and examples do to it, and nothing of what parts are worth.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from functools import cache

from drpo.graph.values import Message
from drpo.models.sandbox.language import (
    Asked,
    concerns,
    instructions_of,
    lines_heeded,
    needs_of,
    parts_in,
    unmarked,
    words_of,
)
from drpo.models.sandbox.texts import turns_of
from drpo.models.sandbox.world import Part, TargetKnowledge, Words, world_file

Examples = Sequence[tuple[str, str]]


class Target:
    """One profile."""

    def __init__(self, profile: str, heeds: float = 1.0) -> None:
        """`heeds` 0: instructions and examples do nothing."""
        known = world_file()
        self._parts: Mapping[str, Part] = known.parts
        self._words: Words = known.language
        self._known: TargetKnowledge = known.target
        self._profile = known.target.profiles[profile]
        self._heeds = heeds

    def answer(self, messages: Sequence[Message], rng: random.Random) -> str:
        """A readable text of marked parts."""
        turns = turns_of(messages)
        chances = self.chances(turns.prompt, turns.query, turns.examples)
        drawn = [part for part in self._parts if rng.random() < chances.get(part, 0.0)]
        sentences = [
            f"[{self._parts[part].mark}] {rng.choice(self._parts[part].says)}" for part in drawn
        ]
        asked = unmarked(_shortened(turns.query, self._known.words))
        opening = f"{self._words.simulated} On “{asked}”: {self._words.gist}"
        return "\n".join([opening, *sentences])

    def chances(self, prompt: str, query: str, examples: Examples = ()) -> dict[str, float]:
        """Of each part, 0-1, independent of one another."""
        chances = self.chances_of(instructions_of(prompt), lines_heeded(prompt), query)
        if self._heeds > 0:
            self._imitate(chances, query, examples)
        return chances

    def chances_of(self, asked: Sequence[Asked], lines: int, query: str) -> dict[str, float]:
        """Of each part where a prompt of so many lines asks for this."""
        by_itself = {part: self._known.skill for part, at in self._parts.items() if not at.flaw}
        by_itself.pop(self._known.pair.part)
        chances = by_itself | dict(self._profile.skill) | dict(self._profile.flaws)
        if self._heeds > 0:
            self._instruct(chances, self._strengths(asked, lines, query))
        return chances

    def _strengths(self, asked: Sequence[Asked], lines: int, query: str) -> dict[str, float]:
        """How much of each instruction is heeded for this query, 0-1."""
        heeded = self.attention(lines)
        found: dict[str, float] = {}
        for each in asked:
            if _applies(each, query):
                strength = heeded * (self._known.uptake if each.specific else self._known.vague)
                found[each.name] = max(found.get(each.name, 0.0), strength)
        for one, other in self._known.antagonists:
            if one in found and other in found:
                found[one] *= self._known.rivalry
                found[other] *= self._known.rivalry
        return found

    def attention(self, lines: int) -> float:
        """What is left of each instruction where a prompt asks for so many things, 0-1."""
        over = self._known.attention / max(lines, self._known.attention)
        return self._heeds * math.pow(over, self._known.fatigue)

    def _instruct(self, chances: dict[str, float], strengths: Mapping[str, float]) -> None:
        pair, both = self._known.pair, 1.0
        for name in pair.of:
            both *= strengths.get(name, 0.0) / self._known.uptake
        if both > 0:
            _raise(chances, pair.part, both * pair.chance)
        for name, strength in strengths.items():
            alone = strength * (1.0 - both) if name in pair.of else strength
            if name in self._parts:
                _raise(chances, name, strength)
            for effects in (self._known.raises, self._profile.raises):
                for part, effect in effects.get(name, {}).items():
                    _raise(chances, part, alone * effect)
        # After every raise, so that the order of instructions does not matter.
        for name, strength in strengths.items():
            for part, effect in self._known.lowers.get(name, {}).items():
                chances[part] = chances.get(part, 0.0) * (1.0 - strength * effect)

    def _imitate(self, chances: dict[str, float], query: str, examples: Examples) -> None:
        known = self._known.examples
        for number, (asked, said) in enumerate(examples, 1):
            near = alike(asked, query)
            if near >= known.alike:
                for part in parts_in(said):
                    _raise(chances, part, near * known.imitation)
            spoilt = known.distraction if near < known.alike else 0.0
            spoilt += known.surfeit if number > self._profile.best_examples else 0.0
            for part in chances:
                if not self._parts[part].flaw:
                    chances[part] *= 1.0 - min(1.0, spoilt)


@cache
def alike(one: str, other: str) -> float:
    """Similarity of two queries, 0-1: of their needs, a little also of their words."""
    first, second = needs_of(one), needs_of(other)
    dot = sum(weight * second.get(name, 0.0) for name, weight in first.items())
    norms = math.hypot(*first.values()) * math.hypot(*second.values())
    words, others = words_of(one), words_of(other)
    shared = len(words & others) / max(1, min(len(words), len(others)))
    return min(1.0, 0.8 * dot / norms + 0.4 * shared)


def _applies(asked: Asked, query: str) -> bool:
    if asked.topic is not None:
        return concerns(asked.topic, query)
    return asked.when is None or asked.when in needs_of(query)


def _raise(chances: dict[str, float], part: str, by: float) -> None:
    chances[part] = 1.0 - (1.0 - chances.get(part, 0.0)) * (1.0 - by)


def _shortened(text: str, most: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[:most].rstrip()}..."
