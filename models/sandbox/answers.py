"""The simulated rewriter of answers: adds parts that rationales miss, takes out flaws they blame.

Sees the answer and the verdict on it and nothing else, and helps less often than it believes.
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from drpo.models.sandbox.language import parts_blamed, parts_in
from drpo.models.sandbox.texts import Judged
from drpo.models.sandbox.world import Part, RewriterKnowledge, world_file


class AnswerRewriter:
    """Does to an answer what the dials of the rewriter say."""

    def __init__(self) -> None:
        known = world_file()
        self._known: RewriterKnowledge = known.rewriter
        self._parts: Mapping[str, Part] = known.parts

    def answer(self, kind: str, draft: str, judged: Sequence[Judged], rng: random.Random) -> str:
        """A new answer as JSON, of a kind named like a dial; now and then something that is not."""
        malformed = False
        if kind == "helpful":
            draft = self._help(draft, judged, rng)
        elif kind == "neutral":
            draft = self._reword(draft, rng)
        elif kind == "harmful":
            draft = self._harm(draft, rng)
        else:
            malformed = rng.random() < self._known.malformed
            draft = self._add_any(draft, rng, flaw=False)
        reply = json.dumps(
            {"analysis": f"(simulated) {kind}", "prompts": {"answer": draft}}, ensure_ascii=False
        )
        return f"I would rather explain it: {reply[: len(reply) // 3]}" if malformed else reply

    def _help(self, draft: str, judged: Sequence[Judged], rng: random.Random) -> str:
        weak = [each for each in judged if each.score < self._known.scored_low] or judged
        there = parts_in(draft)
        # A flaw is blamed for being there, everything else for being missing.
        wanted = Counter(
            part
            for each in weak
            for part in parts_blamed(each.rationale)
            if self._parts[part].flaw == (part in there)
        )
        if not wanted:
            return self._reword(draft, rng)
        for part in drawn(wanted, 2 if rng.random() < self._known.two else 1, rng):
            draft = self._without(draft, part) if part in there else self._with(draft, part, rng)
        return draft

    def _reword(self, draft: str, rng: random.Random) -> str:
        """The same part in its other words."""
        there = parts_in(draft)
        if not there:
            return draft
        said = self._parts[rng.choice(there)].says
        one, other = rng.sample(said, 2)
        return draft.replace(one, other, 1) if one in draft else draft.replace(other, one, 1)

    def _harm(self, draft: str, rng: random.Random) -> str:
        good = [part for part in parts_in(draft) if not self._parts[part].flaw]
        if good and rng.random() < self._known.harmful.drops:
            return self._without(draft, rng.choice(good))
        return self._add_any(draft, rng, flaw=True)

    def _add_any(self, draft: str, rng: random.Random, *, flaw: bool) -> str:
        """A part of that kind, whatever was said of the answer."""
        there = parts_in(draft)
        left = [
            name for name, part in self._parts.items() if part.flaw == flaw and name not in there
        ]
        return self._with(draft, rng.choice(left), rng) if left else draft

    def _with(self, draft: str, part: str, rng: random.Random) -> str:
        known = self._parts[part]
        return f"{draft.rstrip()}\n[{known.mark}] {rng.choice(known.says)}"

    def _without(self, draft: str, part: str) -> str:
        mark = re.escape(self._parts[part].mark)
        return re.sub(rf"\n?\[{mark}\][^\[\n]*", "", draft, flags=re.IGNORECASE)


def drawn(counts: Mapping[str, int], most: int, rng: random.Random) -> list[str]:
    """So many different names, those that came up often before others."""
    left, found = dict(counts), list[str]()
    while left and len(found) < most:
        [name] = rng.choices(list(left), [count**2 for count in left.values()])
        found.append(name)
        del left[name]
    return found
