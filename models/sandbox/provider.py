"""The sandbox as a provider: one role in one world.

Deterministic in (seed, role, messages, sample index); keeps no state.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from drpo.conf.schema import SandboxSettings
from drpo.graph.errors import BadInput
from drpo.graph.values import Message, Role
from drpo.models.completions import CHARACTERS_PER_TOKEN
from drpo.models.prices import FREE
from drpo.models.provider import Call, Completion, Limits
from drpo.models.sandbox.judge import Judge
from drpo.models.sandbox.rewarder import Rewarder
from drpo.models.sandbox.rewriter import Rewriter
from drpo.models.sandbox.target import Target
from drpo.models.sandbox.world import dials, world_sha256

Answer = Callable[[Sequence[Message], random.Random], str]


class Sandbox:
    """Answers for one role."""

    name = "sandbox"
    price = FREE

    def __init__(self, settings: SandboxSettings, role: Role) -> None:
        """Raises BadInput for a dial that the role does not have."""
        self.parameters: Mapping[str, Any] = {
            "model": settings.model,
            "world": settings.world,
            "profile": settings.profile,
            "seed": settings.seed,
            "dials": dict(settings.dials),
            "sha256": world_sha256(),
        }
        self.multiple = settings.multiple
        self.limits = Limits(asks=settings.asks)
        self._role: Role = role
        self._seed = settings.seed
        self._latency_s = settings.latency_ms / 1000
        self._answer = _answerer(settings, role)

    async def complete(self, call: Call) -> Completion:
        """Text `i` is the one that sample index `call.sample + i` has by itself."""
        if self._latency_s > 0:
            await asyncio.sleep(self._latency_s)
        said = [self._text(call, call.sample + index) for index in range(call.n)]
        texts = tuple(text[: _most_characters(call)] for text in said)
        return Completion(
            texts=texts,
            finish_reasons=tuple(
                "stop" if text == whole else "length"
                for text, whole in zip(texts, said, strict=True)
            ),
            prompt_tokens=_tokens(turn.content for turn in call.messages),
            completion_tokens=_tokens(texts),
        )

    def leave_out(self, parameter: str) -> None:
        """Nothing: it takes whatever it is asked with."""

    def _text(self, call: Call, sample: int) -> str:
        text = self._answer(call.messages, self._random(call.messages, sample))
        for stop in filter(None, call.stop):
            text = text.split(stop, 1)[0]
        return text

    def _random(self, messages: Sequence[Message], sample: int) -> random.Random:
        turns = [[turn.role, turn.content] for turn in messages]
        known = json.dumps([self._seed, self._role, turns, sample])
        return random.Random(int(hashlib.sha256(known.encode()).hexdigest(), 16))


def _answerer(settings: SandboxSettings, role: Role) -> Answer:
    known = dials(settings.world, role, {})
    unknown = [name for name in settings.dials if name not in known]
    if unknown:
        raise BadInput(
            f"models.{role}.dials: there is no dial {unknown[0]!r}; allowed are {', '.join(known)}"
        )
    turned = dials(settings.world, role, settings.dials)
    if role == "target":
        return Target(settings.profile, turned["heeds"]).answer
    if role == "rewarder":
        return Rewarder(turned).answer
    return Judge(turned).answer if role == "judge" else Rewriter(turned).answer


def _most_characters(call: Call) -> int | None:
    return None if call.room is None else call.room * CHARACTERS_PER_TOKEN


def _tokens(texts: Iterable[str]) -> int:
    return math.ceil(sum(len(text) for text in texts) / CHARACTERS_PER_TOKEN)
