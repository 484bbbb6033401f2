"""The simulated judge: sees query, answer and aspects, and scores the quality of what it reads.

Does not know what the query needs, what the prompt was, or who answered. Its dials make it err.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

from drpo.graph.values import HIGHEST_SCORE, LOWEST_SCORE, Aspect, Message
from drpo.models.sandbox.language import aspect_named, parts_in
from drpo.models.sandbox.texts import fenced, listed_aspects, pieces_of
from drpo.models.sandbox.truth import quality
from drpo.models.sandbox.world import JudgeKnowledge, Part, Quality, world_file

MIDDLE = (LOWEST_SCORE + HIGHEST_SCORE) / 2
DIALS = ("noise", "difficulty", "length", "leniency", "na", "gullible")


class Judge:
    """Strict and even, but for its dials."""

    def __init__(self, dials: Mapping[str, float]) -> None:
        known = world_file()
        self._dials = dials
        self._known: JudgeKnowledge = known.judge
        self._quality: Quality = known.quality
        self._parts: Mapping[str, Part] = known.parts
        self._ask = re.compile(known.judge.ask, re.IGNORECASE)

    def answer(self, messages: Sequence[Message], rng: random.Random) -> str:
        """A verdict as JSON, one entry an aspect."""
        pieces = pieces_of(messages)
        query, answer = fenced(pieces, "query"), fenced(pieces, "answer")
        bias = self._bias(query, answer)
        obeys = self._ask.search(answer) and rng.random() < self._dials["gullible"]
        entries = [
            self._entry(aspect, answer, bias, rng) | ({"score": 5} if obeys else {})
            for aspect in listed_aspects(pieces)
        ]
        return json.dumps({"verdict": entries}, ensure_ascii=False)

    def _bias(self, query: str, answer: str) -> float:
        """What the whole verdict is off by, in points."""
        words = len(answer.split())
        return (
            self._dials["leniency"]
            + self._dials["length"] * (words - self._known.words) / 100
            - self._dials["difficulty"] * _hardness(query)
        )

    def _entry(
        self, aspect: Aspect, answer: str, bias: float, rng: random.Random
    ) -> dict[str, Any]:
        noise, refuses = rng.gauss(0.0, self._dials["noise"]), rng.random() < self._dials["na"]
        known = aspect_named(aspect.name, aspect.definition)
        parts = parts_in(answer)
        exact = MIDDLE if known is None else LOWEST_SCORE + 4.0 * quality(known, parts)
        score = round(min(HIGHEST_SCORE, max(LOWEST_SCORE, exact + bias + noise)))
        return {
            "aspect": aspect.name,
            "rationale": self._rationale(known, parts, rng),
            "score": "N/A" if refuses else score,
        }

    def _rationale(self, aspect: str | None, parts: Sequence[str], rng: random.Random) -> str:
        """What is good, and one or two things that cost most."""
        if aspect is None:
            return "(simulated) Acceptable; nothing speaks for or against it."
        lift, harm = self._quality.lift.get(aspect, {}), self._quality.harm.get(aspect, {})
        good = [self._parts[part].mark for part in parts if part in lift]
        costs = {part: worth for part, worth in lift.items() if part not in parts}
        costs |= {part: worth for part, worth in harm.items() if part in parts}
        blamed = [
            part for part in _worst(costs, self._known.blames, rng) if self._sayable(part, parts)
        ]
        said = [f"Good: {', '.join(good)}."] if good else []
        said += [f"{rng.choice(self._parts[part].lacks).capitalize()}." for part in blamed]
        return " ".join(["(simulated)", *(said or ["Nothing is missing."])])

    def _sayable(self, part: str, parts: Sequence[str]) -> bool:
        """A part that harms here, but is no flaw, has no words for the harm."""
        return self._parts[part].flaw == (part in parts)


def _worst(costs: Mapping[str, float], most: int, rng: random.Random) -> list[str]:
    """Some of them, the dearer the likelier."""
    left, found = dict(costs), list[str]()
    while left and len(found) < most:
        [part] = rng.choices(list(left), [worth**2 for worth in left.values()])
        found.append(part)
        del left[part]
    return found


def _hardness(query: str) -> float:
    """Of a query, fixed: standard normal, by its words."""
    seed = int(hashlib.sha256(query.encode()).hexdigest(), 16)
    return random.Random(seed).gauss(0.0, 1.0)
