"""The sandbox: a small simulated world that plays all four roles, without model, network or cost.

An answer is made of parts that the system prompt asks for, the judge counts parts, the rewriter
asks for those that were missing. Deterministic in (seed, role, messages, sample index): it sees
nothing but its messages, keeps no state, and whatever it cannot read gets a plain answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from drpo.conf.schema import SandboxSettings
from drpo.graph.values import HIGHEST_SCORE, LOWEST_SCORE, Aspect, Message, Role
from drpo.models import sandbox_parts as world
from drpo.models.provider import Call, Completion
from drpo.models.sandbox_parts import Part, folded, mentions, parts_asked_for, parts_serving

CHARACTERS_PER_TOKEN = 4
LOWEST, ACCEPTABLE, HIGHEST = int(LOWEST_SCORE), 3, int(HIGHEST_SCORE)
"""Scores of the judge, who gives whole ones."""
SHORTENED = 60
"""Characters of the query that an answer repeats."""

_FENCE = re.compile(r"<([a-z_]+)-([0-9a-f]{12})>\n(.*?)\n</\1-\2>", re.DOTALL)
_SCORED = re.compile(r"(.+): (\d+(?:\.\d+)?) of 5")
_NAME = re.compile(r"(\S+):")
_HOW_MANY = re.compile(r"Choose (\d{1,4}) to (\d{1,4}) aspects")
_BASE_HEADING = re.compile(r"^# (Query|Answer)[ \t]*$", re.MULTILINE)


class Sandbox:
    """Answers for one role."""

    name = "sandbox"
    attempts = 1

    def __init__(self, settings: SandboxSettings, role: Role, seed: int) -> None:
        self.parameters: Mapping[str, Any] = {
            "model": settings.model,
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "max_tokens": settings.max_tokens,
        }
        self.multiple = settings.multiple
        self._role: Role = role
        self._seed = seed
        self._latency_s = settings.latency_ms / 1000

    async def complete(self, call: Call) -> Completion:
        """Text `i` is the one that sample index `call.sample + i` has by itself."""
        if self._latency_s > 0:
            await asyncio.sleep(self._latency_s)
        texts = tuple(self._text(call, call.sample + index) for index in range(call.n))
        return Completion(
            texts=texts,
            finish_reasons=("stop",) * len(texts),
            prompt_tokens=_tokens(turn.content for turn in call.messages),
            completion_tokens=_tokens(texts),
            cost_usd=0.0,
        )

    def _text(self, call: Call, sample: int) -> str:
        text = _ANSWERS[self._role](call.messages, self._random(call.messages, sample))
        for stop in filter(None, call.stop):
            text = text.split(stop, 1)[0]
        return text

    def _random(self, messages: Sequence[Message], sample: int) -> random.Random:
        turns = [[turn.role, turn.content] for turn in messages]
        known = json.dumps([self._seed, self._role, turns, sample])
        return random.Random(int(hashlib.sha256(known.encode()).hexdigest(), 16))


def _target(messages: Sequence[Message], rng: random.Random) -> str:
    prompt, query = _prompt_and_query(messages)
    asked = parts_asked_for(prompt)
    uptake = world.UPTAKE * min(1.0, world.MOST_HEEDED / max(1, len(asked)))
    parts = [
        part
        for part in world.PARTS
        if rng.random() < (uptake if part in asked else world.BY_ITSELF)
    ]
    opening = f"{world.MARK} To “{_shortened(query)}”:"
    if mentions(query, world.HARMFUL) and world.DECLINING not in parts:
        return f"{opening}\n\n{world.COMPLIED}"
    return "\n\n".join([opening, world.FILLER, *(part.sentence for part in parts)])


def _prompt_and_query(messages: Sequence[Message]) -> tuple[str, str]:
    """Of turns, or of the one text that a base model continues."""
    prompt = "\n".join(turn.content for turn in messages if turn.role == "system")
    query = _last_user_turn(messages)
    if prompt:
        return prompt, query
    before, *pieces = _BASE_HEADING.split(query)
    queries = [text for kind, text in _pairs(pieces) if kind == "Query"]
    return (before, queries[-1]) if queries else ("", query)


def _pairs(pieces: Sequence[str]) -> Iterable[tuple[str, str]]:
    return zip(pieces[::2], pieces[1::2], strict=True)


def _rewarder(messages: Sequence[Message], rng: random.Random) -> str:
    pieces = _pieces(_last_user_turn(messages))
    query = _first(pieces, "query")
    fewest, most = _how_many(pieces)
    aspects = _listed_aspects(pieces)
    pull = {aspect.name: _pull(aspect, query) + rng.random() for aspect in aspects}
    wanted = fewest + int(rng.random() * (most - fewest + 1))
    chosen = sorted(aspects, key=lambda aspect: -pull[aspect.name])[:wanted]
    if rng.random() < world.NEW_ASPECT or not chosen:
        name = rng.choice(list(world.NEW_ASPECTS))
        chosen = [*chosen[: most - 1], Aspect(name, world.NEW_ASPECTS[name])]
    names = ", ".join(aspect.name for aspect in chosen)
    risky = mentions(query, world.HARMFUL)
    return _json(
        {
            "analysis": {
                "topic": f"(simulated) {_shortened(query)}",
                "intent": "(simulated) an answer that can be used as it is",
                "ambiguities": "(simulated) how much the person knows already",
                "form": "(simulated) free text, unless the query names a form",
                "challenges": f"(simulated) {'it may do harm' if risky else 'nothing unusual'}",
            },
            "reason": f"(simulated) what the query's words call for most: {names}",
            "aspects": [{"name": at.name, "definition": at.definition} for at in chosen],
        }
    )


def _how_many(pieces: Sequence[_Piece]) -> tuple[int, int]:
    for piece in pieces:
        found = _HOW_MANY.search(piece.text) if not piece.label else None
        if found:
            fewest = max(1, int(found[1]))
            return fewest, max(fewest, int(found[2]))
    return 2, 5


def _pull(aspect: Aspect, query: str) -> float:
    """How strongly the words of the query call for an aspect."""
    cues = {folded(name): cues for name, cues in world.QUERY_CUES.items()}.get(folded(aspect.name))
    return 1.0 if cues is not None and mentions(query, cues) else 0.0


def _judge(messages: Sequence[Message], rng: random.Random) -> str:
    pieces = _pieces(_last_user_turn(messages))
    answer = _first(pieces, "answer")
    return _json({"verdict": [_judged(aspect, answer, rng) for aspect in _listed_aspects(pieces)]})


def _judged(aspect: Aspect, answer: str, rng: random.Random) -> dict[str, Any]:
    serving = parts_serving(aspect.name, aspect.definition) if world.MARK in answer else []
    if not serving:
        said = "(simulated) Acceptable; the sandbox has nothing to tell this quality by."
        return {"aspect": aspect.name, "rationale": said, "score": rng.choice(world.UNSERVED)}
    found = [part for part in serving if part.sentence in answer]
    lacking = [part.missing for part in serving if part not in found]
    score = rng.choice(world.SCORES[min(len(found), len(world.SCORES) - 1)])
    said = "(simulated)"
    if found:
        said += f" Good: {'; '.join(part.name for part in found)}."
    excess = sum(part.sentence in answer for part in world.PARTS) - world.MOST_WORDED
    if folded(aspect.name) == "conciseness" and excess > 0:
        score -= min(2, excess)
        said += " It says too many things at once."
    if folded(aspect.name) == "safety" and world.COMPLIED in answer:
        score = LOWEST
        said += " It goes along with a harmful request."
    if lacking:
        said += f" Lacking: {'; '.join(lacking)}."
    score = min(HIGHEST, max(LOWEST, score + rng.choice(world.NOISE)))
    return {"aspect": aspect.name, "rationale": said, "score": score}


@dataclass(frozen=True, slots=True)
class _Weaknesses:
    """What the verdicts of the current prompt complain about."""

    aspects: set[str] = field(default_factory=set)
    """Folded names of those with a low score."""
    parts: dict[str, float] = field(default_factory=dict)
    """How much each missing part cost, by its `missing`."""


def _rewriter(messages: Sequence[Message], rng: random.Random) -> str:
    pieces = _pieces(_last_user_turn(messages))
    prompts = _shown_prompts(pieces) or {"system": world.OPENINGS[0]}
    locked = [piece.text for piece in pieces if piece.label == "locked"]
    weak = _weaknesses(pieces)
    name = "system" if "system" in prompts else next(iter(prompts))
    lines, added = _with_bullets(prompts[name].splitlines(), weak, locked, rng)
    text = "\n".join(lines)
    if not added or rng.random() < world.REWORDED:
        text = _reworded(text, locked, rng)
    others = " ".join(text for other, text in prompts.items() if other != name)
    lost = [at for at in locked if not _holds(f"{text} {others}", at)]
    text = "\n".join([*lost, text])
    what = "; ".join(part.missing for part in added) or "nothing in particular"
    reply = _json(
        {
            "analysis": f"(simulated) Weak so far: {what}.",
            "prompts": {key: text if key == name else old for key, old in prompts.items()},
        }
    )
    if rng.random() >= world.UNTIDY:
        return reply
    wrapped = f"```json\n{reply}\n```", f"Here is the better prompt:\n\n{reply}\n\nI hope it helps."
    return rng.choice(wrapped)


def _shown_prompts(pieces: Sequence[_Piece]) -> dict[str, str]:
    """The current prompts, each named by the line before it; `system` where that is no name."""
    found: dict[str, str] = {}
    for before, piece in pairwise([_Piece("", ""), *pieces]):
        if piece.label == "prompt":
            named = None if before.label else _NAME.fullmatch(before.text.strip())
            found[named[1] if named else "system"] = piece.text
    return found


def _weaknesses(pieces: Sequence[_Piece]) -> _Weaknesses:
    weak = _Weaknesses()
    for at, piece in enumerate(pieces):
        scored = None if piece.label else _SCORED.fullmatch(piece.text)
        if scored is None or float(scored[2]) >= HIGHEST:
            continue
        if float(scored[2]) <= ACCEPTABLE:
            weak.aspects.add(folded(scored[1]))
        after = pieces[at + 1 : at + 2]
        rationale = "".join(piece.text for piece in after if piece.label == "rationale")
        named = [part for part in world.PARTS if part.missing in rationale]
        # A judge other than the sandbox's does not use these words.
        for part in named or ([] if "(simulated)" in rationale else parts_serving(scored[1])):
            cost = (HIGHEST - float(scored[2])) ** 2
            weak.parts[part.missing] = weak.parts.get(part.missing, 0.0) + cost
    return weak


def _with_bullets(
    lines: list[str], weak: _Weaknesses, locked: Sequence[str], rng: random.Random
) -> tuple[list[str], list[Part]]:
    """The prompt's lines with up to two bullets more, and the parts these ask for."""
    asked = parts_asked_for("\n".join(lines))
    open_ = [part for part in world.PARTS if part.missing in weak.parts and part not in asked]
    added: list[Part] = []
    for _ in range(min(len(open_), 2 if rng.random() < world.TWO_ADDED else 1)):
        costs = [weak.parts[part.missing] for part in open_]
        added.append(open_.pop(rng.choices(range(len(open_)), costs)[0]))
    added.sort(key=world.PARTS.index)
    while added and len(_bullets(lines)) + len(added) > world.MOST_BULLETS:
        spare = [at for at in _bullets(lines) if _is_spare(lines[at], weak, locked)]
        if spare:
            del lines[min(spare, key=lambda at: (_missed(at, lines), rng.random()))]
        else:
            added.pop(int(rng.random() * len(added)))
    bullets = _bullets(lines)
    if not bullets and lines and added:
        lines.append("")
    end = bullets[-1] + 1 if bullets else len(lines)
    return [*lines[:end], *(part.bullet for part in added), *lines[end:]], added


def _bullets(lines: Sequence[str]) -> list[int]:
    return [at for at, line in enumerate(lines) if line.startswith(("- ", "* "))]


def _is_spare(bullet: str, weak: _Weaknesses, locked: Sequence[str]) -> bool:
    """Whether a bullet may go: one that we know to serve nothing weak."""
    served = _served([bullet])
    kept = "{" in bullet or any(_holds(bullet, at) or _holds(at, bullet) for at in locked)
    return bool(served) and not kept and not served & weak.aspects


def _missed(at: int, lines: Sequence[str]) -> int:
    """How many aspects nothing else in the prompt serves."""
    return len(_served([lines[at]]) - _served([*lines[:at], *lines[at + 1 :]]))


def _served(lines: Sequence[str]) -> set[str]:
    parts = parts_asked_for("\n".join(lines))
    return {folded(name) for part in parts for name in part.aspects}


def _reworded(text: str, locked: Sequence[str], rng: random.Random) -> str:
    """Another general sentence in place of one of ours, or one more where none is."""
    held = [sentence for sentence in locked if _holds(text, sentence)]
    for family in (world.OPENINGS, world.MANNERS):
        for old in family:
            new = text.replace(old, rng.choice([other for other in family if other != old]), 1)
            if new != text and all(_holds(new, sentence) for sentence in held):
                return new
    lines = text.splitlines() or [""]
    end = next(iter(_bullets(lines)), len(lines))
    at = max((at for at in range(end) if lines[at].strip()), default=-1)
    if at < 0:
        return "\n".join([rng.choice(world.MANNERS), *lines])
    lines[at] = f"{lines[at]} {rng.choice(world.MANNERS)}"
    return "\n".join(lines)


def _holds(text: str, sentence: str) -> bool:
    """Whether `text` has `sentence`, whatever their white space."""
    return " ".join(sentence.split()).casefold() in " ".join(text.split()).casefold()


@dataclass(frozen=True, slots=True)
class _Piece:
    """A fenced text, or one line of what stands around the fences."""

    label: str
    """Of the fence; empty for a line."""
    text: str


def _pieces(text: str) -> list[_Piece]:
    """Fences from left to right, so that what a fence holds is never taken for a line."""
    pieces, at = [], 0
    for found in _FENCE.finditer(text):
        pieces += [_Piece("", line) for line in text[at : found.start()].splitlines()]
        pieces.append(_Piece(found[1], found[3]))
        at = found.end()
    return pieces + [_Piece("", line) for line in text[at:].splitlines()]


def _first(pieces: Sequence[_Piece], label: str) -> str:
    """The first fenced text of that label; without one, everything."""
    for piece in pieces:
        if piece.label == label:
            return piece.text
    return "\n".join(piece.text for piece in pieces)


def _listed_aspects(pieces: Sequence[_Piece]) -> list[Aspect]:
    """The list below the line that begins with `Aspects`."""
    found: list[Aspect] = []
    begun = ended = False
    for piece in pieces:
        if piece.label or not begun:
            begun = not piece.label and piece.text.startswith("Aspects")
        elif piece.text.startswith("- "):
            name, _, definition = piece.text[2:].partition(": ")
            found.append(Aspect(name.strip(), definition.strip()))
            ended = False
        elif ended:
            break
        else:
            # A definition may go on over several lines, and end in an empty one.
            ended = not piece.text.strip() and bool(found)
    return found


def _last_user_turn(messages: Sequence[Message]) -> str:
    return next((turn.content for turn in reversed(messages) if turn.role == "user"), "")


def _shortened(query: str) -> str:
    text = " ".join(query[:400].split())
    return text if len(text) <= SHORTENED else f"{text[: SHORTENED - 1].rstrip()}…"


def _tokens(texts: Iterable[str]) -> int:
    count = 0
    for text in texts:
        count += math.ceil(len(text) / CHARACTERS_PER_TOKEN)
    return count


def _json(said: Mapping[str, Any]) -> str:
    return json.dumps(said, ensure_ascii=False)


_ANSWERS: Mapping[Role, Callable[[Sequence[Message], random.Random], str]] = {
    "target": _target,
    "rewarder": _rewarder,
    "judge": _judge,
    "rewriter": _rewriter,
}
