"""The simulated rewriter: sees its prompt and nothing else, and helps less often than it believes.

What it takes from the verdicts is what their rationales say; without them it guesses by aspect.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence

from drpo.graph.values import Message
from drpo.models.sandbox.answers import AnswerRewriter, drawn
from drpo.models.sandbox.language import (
    aspect_named,
    instructions_of,
    parts_blamed,
    parts_praised,
    read_unit,
    words_of,
)
from drpo.models.sandbox.texts import (
    Judged,
    all_fenced,
    fenced,
    named_prompts,
    pieces_of,
    verdicts,
)
from drpo.models.sandbox.world import Instruction, RewriterKnowledge, Words, world_file

DIALS = ("helpful", "neutral", "harmful", "off")


class Rewriter:
    """Its dials are the shares of what it does."""

    def __init__(self, dials: Mapping[str, float]) -> None:
        known = world_file()
        self._dials = dials
        self._known: RewriterKnowledge = known.rewriter
        self._instructions: Mapping[str, Instruction] = known.instructions
        self._whens = {name: need.when for name, need in known.needs.items()}
        self._words: Words = known.language
        self._answers = AnswerRewriter()

    def answer(self, messages: Sequence[Message], rng: random.Random) -> str:
        """New prompts, or a new answer, as JSON; now and then something that is not."""
        pieces = pieces_of(messages)
        kind = rng.choices(DIALS, [self._dials[each] for each in DIALS])[0]
        draft = fenced(pieces, "draft")
        if draft:
            return self._answers.answer(kind, draft, verdicts(pieces), rng)
        prompts = named_prompts(pieces) or {"system": self._words.openings[0]}
        name = "system" if "system" in prompts else next(iter(prompts))
        text = _Text(prompts[name], all_fenced(pieces, "locked"), self._known.most_bullets)
        malformed = False
        if kind == "helpful":
            self._help(text, verdicts(pieces), rng)
        elif kind == "neutral":
            self._reword(text, rng)
        elif kind == "harmful":
            self._harm(text, rng)
        else:
            malformed = rng.random() < self._known.malformed
            self._fit(text, fenced(pieces, "query"), rng)
        reply = json.dumps(
            {"analysis": f"(simulated) {kind}", "prompts": prompts | {name: text.joined()}},
            ensure_ascii=False,
        )
        return f"I would rather explain it: {reply[: len(reply) // 3]}" if malformed else reply

    def _help(self, text: _Text, judged: Sequence[Judged], rng: random.Random) -> None:
        weak = [each for each in judged if each.score < self._known.scored_low] or list(judged)
        blamed = [part for each in weak for part in parts_blamed(each.rationale)]
        text.praised = {part for each in judged for part in parts_praised(each.rationale)}
        asked = {each.name for each in instructions_of(text.joined())}
        culprits = [name for part in blamed for name in self._known.culprits.get(part, ())]
        if text.drop(set(culprits) & asked):
            return
        ideas = [rng.choice(self._known.remedies[part]) for part in blamed]
        if not blamed:
            named = [aspect_named(each.aspect) or "" for each in weak]
            guesses = [self._known.guesses[name] for name in named if name in self._known.guesses]
            ideas = [rng.choice(each) for each in guesses] or [rng.choice(list(self._instructions))]
        new = Counter(name for name in ideas if name not in asked)
        for name in drawn(new, 2 if rng.random() < self._known.two else 1, rng):
            text.add(self._wording(name, rng), rng)
        if not new:
            self._reword(text, rng)

    def _wording(self, name: str, rng: random.Random) -> str:
        """One of the specific wordings, sometimes confined to the need it serves."""
        known = self._instructions[name]
        said = rng.choice(known.says)
        if known.when is None or rng.random() >= self._known.confines:
            return said
        return f"{rng.choice(self._whens[known.when])}, {said[0].lower()}{said[1:]}"

    def _reword(self, text: _Text, rng: random.Random) -> None:
        """Something that says nothing: another opening, a manner, a vague hint."""
        hints = [hint for each in self._instructions.values() for hint in each.hints]
        kinds = self._known.rewordings
        kind = rng.choices(list(kinds), list(kinds.values()))[0]
        if kind == "hint":
            text.add(rng.choice(hints), rng)
        elif kind == "manner" or not text.exchange(self._words.openings, rng):
            text.lead(rng.choice(self._words.manners), self._words.manners)

    def _harm(self, text: _Text, rng: random.Random) -> None:
        if text.bullets() and rng.random() < self._known.harmful.drops:
            text.forget(rng)
        else:
            text.add(rng.choice(self._instructions[rng.choice(self._known.harmful.adds)].says), rng)

    def _fit(self, text: _Text, query: str, rng: random.Random) -> None:
        """Guidance for the query at hand only."""
        topic = " ".join(sorted(words_of(query), key=lambda word: (len(word), word))[-2:]) or "this"
        said = rng.choice(self._instructions[rng.choice(list(self._instructions))].says)
        text.add(self._known.fitted.format(topic=topic, what=f"{said[0].lower()}{said[1:]}"), rng)


class _Text:
    """A prompt in lines, of which locked ones stay."""

    def __init__(self, text: str, locked: Sequence[str], most_bullets: int) -> None:
        self._lines = text.splitlines()
        self._locked = [_folded(each) for each in locked]
        self._most = most_bullets
        self.praised: set[str] = set()
        """Parts of the answers that a critic found good."""

    def joined(self) -> str:
        """The prompt as one text."""
        return "\n".join(self._lines)

    def bullets(self) -> list[int]:
        """Where the bullets are that may go."""
        return [
            at
            for at, line in enumerate(self._lines)
            if line.startswith(("- ", "* ")) and "{" not in line and not self._holds_locked(line)
        ]

    def add(self, said: str, rng: random.Random) -> None:
        """One bullet more, in place of another where there are enough."""
        every = [at for at, line in enumerate(self._lines) if line.startswith(("- ", "* "))]
        if len(every) >= self._most and self.bullets():
            self.forget(rng)
        if not every and self._lines:
            self._lines.append("")
        end = next(
            (at for at in range(len(self._lines) - 1, -1, -1) if self._lines[at].startswith("- ")),
            len(self._lines) - 1,
        )
        self._lines.insert(end + 1, f"- {said}")

    def forget(self, rng: random.Random) -> None:
        """One bullet less: a vague one if there is one, else one that nobody praised."""
        bullets = self.bullets()
        vague = [at for at in bullets if not _specific(self._lines[at])]
        idle = [at for at in bullets if not _specific(self._lines[at]) & self.praised]
        if bullets:
            del self._lines[rng.choice(vague or idle or bullets)]

    def drop(self, names: set[str]) -> bool:
        """Take out the first bullet that asks for one of these; whether there was one."""
        for at in self.bullets():
            if names & {each.name for each in read_unit(self._lines[at])}:
                del self._lines[at]
                return True
        return False

    def exchange(self, family: Sequence[str], rng: random.Random) -> bool:
        """Another sentence of a family in place of the one that is there."""
        for at, line in enumerate(self._lines):
            for old in family:
                if old in line and not self._holds_locked(line):
                    other = rng.choice([each for each in family if each != old])
                    self._lines[at] = line.replace(old, other, 1)
                    return True
        return False

    def lead(self, said: str, family: Sequence[str]) -> None:
        """One general sentence at the end of the first line, instead of another of its family."""
        first = self._lines[0] if self._lines else ""
        for old in family:
            if not self._holds_locked(old):
                first = first.replace(f" {old}", "")
        self._lines[:1] = [f"{first} {said}".strip()]

    def _holds_locked(self, line: str) -> bool:
        return any(each in _folded(line) or _folded(line) in each for each in self._locked)


def _specific(line: str) -> set[str]:
    return {each.name for each in read_unit(line) if each.specific}


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()
