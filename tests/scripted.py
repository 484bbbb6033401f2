"""A search answered by a script: what a role says is a function of who asks, not of the text."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from drpo.checkpoints.reader import summary, trace
from drpo.checkpoints.runs import create_run
from drpo.checkpoints.store import open_store
from drpo.graph.build import build_search, initial_state
from drpo.graph.requests import Answer, Reply, Request
from drpo.graph.values import Message, Query
from drpo.parts import context_for
from drpo.settings import compose_settings

T = TypeVar("T")
Scores = Callable[[int, int], str | float]
"""(candidate, query) to the score of the aspect Clarity."""


def selecting(*aspects: str) -> str:
    """A rewarder's reply."""
    return json.dumps({"reason": "because", "aspects": [{"name": name} for name in aspects]})


def judging(score: str | float) -> str:
    """A judge's reply."""
    return json.dumps({"verdict": [{"aspect": "Clarity", "rationale": "so", "score": score}]})


def rewriting(text: str) -> str:
    """A rewriter's reply."""
    return json.dumps({"analysis": "so", "prompts": {"system": text}})


@dataclass
class ScriptedCaller:
    """Answers by identity; `before` may hold a request back."""

    scores: Scores
    rewrites: Callable[[int, int], str] = lambda candidate, item: rewriting(f"{candidate}.{item}")
    selection: str = field(default_factory=lambda: selecting("Clarity", "Depth"))
    before: Callable[[Request[Any]], Awaitable[None]] | None = None
    asked: list[Request[Any]] = field(default_factory=list)

    async def ask(self, request: Request[T]) -> Answer[T]:
        """The scripted reply, read by the request's own parser."""
        self.asked.append(request)
        if self.before is not None:
            await self.before(request)
        return Answer(request.parse(Reply(self._texts(request))))

    def _texts(self, request: Request[Any]) -> tuple[str, ...]:
        if request.role == "rewarder":
            return (self.selection,)
        assert request.candidate is not None
        if request.role == "rewriter":
            items = range(request.sample, request.sample + request.n)
            return tuple(self.rewrites(request.candidate, item) for item in items)
        assert request.query is not None
        if request.role == "target":
            return (f"answer of {request.candidate} to {request.query}",)
        return (judging(self.scores(request.candidate, request.query)),)

    def of(self, role: str) -> list[Request[Any]]:
        """What was asked of one role, in order."""
        return [request for request in self.asked if request.role == role]


@dataclass(frozen=True)
class Searched:
    """A finished search."""

    nodes: list[dict[str, Any]]
    told: dict[str, Any]
    limits: list[int]
    """Level limit at the entry of each level."""

    def level(self, level: int) -> list[dict[str, Any]]:
        """The candidates of one level."""
        return [node for node in self.nodes if node["level"] == level]


BEAM = ("search.queries_per_level=1", "search.rewrites=3", "search.levels=10")


async def searched(
    caller: ScriptedCaller,
    folder: Path,
    *overrides: str,
    queries: int = 6,
    reference: str | None = None,
) -> Searched:
    """A whole search through the compiled graph, answered by the script.

    Where the overrides choose no search, a beam of one query a level.
    """
    chosen = any(word.startswith("search=") for word in overrides)
    words = overrides if chosen else (*BEAM, *overrides)
    settings = compose_settings(["data.shuffle=false", *words])
    asked = [
        Query(n, f"q{n}", (Message("user", f"question {n}"),), reference=reference)
        for n in range(queries)
    ]
    run = create_run(
        folder,
        settings=settings.model_dump_json(),
        fingerprint={},
        queries=asked,
        version="test",
    )
    limits: dict[int, int] = {}
    async with open_store(run.path) as store:
        context = context_for(settings, asked, caller, store)
        async with asyncio.timeout(60):
            async for state in build_search(store.saver).astream(
                initial_state(settings.search),
                {"configurable": {"thread_id": run.id}, "recursion_limit": 10_000},
                context=context,
                stream_mode="values",
                durability="sync",
            ):
                limits.setdefault(state["level"], state["level_limit"])
    return Searched(trace(run.path), summary(run.path), list(limits.values()))


def ids(nodes: Sequence[dict[str, Any]]) -> list[int]:
    """Their candidate ids."""
    return [node["candidate"] for node in nodes]
