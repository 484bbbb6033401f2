"""One search of a run: from its start, or from its last checkpoint, to its answer.

A run may hold several, side by side in one file, each with checkpoints of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context as Variables
from dataclasses import dataclass

from langchain_core.runnables import RunnableConfig
from langgraph.runtime import RunControl

from drpo.again import ask_again
from drpo.checkpoints.reader import UNDER_REVIEW
from drpo.checkpoints.store import RunStore
from drpo.graph.build import build_search
from drpo.graph.context import Context
from drpo.graph.errors import RunPaused
from drpo.graph.state import SearchState
from drpo.review import Changes, hold_review

RECURSION_LIMIT = 1_000_000
"""Supersteps; a search ends by its own level limit."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """What tells one search of a run from the others."""

    thread: str
    """Under which its checkpoints are."""
    context: Context
    start: SearchState
    """Where it begins if it has no checkpoint yet."""
    watch: Callable[[int], Awaitable[None]]
    """Told the level limit, at the start and after each level."""


@dataclass(frozen=True, kw_only=True)
class Searcher:
    """What the searches of one session of a run have in common."""

    store: RunStore
    control: RunControl
    failed: bool
    """Whether the run stopped at too many failures, which are asked for once more."""
    decided: Changes | None = None
    """A person's, to a beam under review."""

    async def answer_apart(self, search: Search) -> int:
        """`answer`, where a node of another graph waits for it.

        LangGraph would take the search for a part of that graph, and its checkpoints with it.
        """
        return await asyncio.create_task(self.answer(search), context=Variables())

    async def answer(self, search: Search) -> int:
        """The candidate that the search returns.

        Raises RunPaused where it stops for a review, and whatever its nodes raise.
        """
        graph, review = build_search(self.store.saver), search.context.search.review
        config: RunnableConfig = {
            "configurable": {"thread_id": search.thread},
            "recursion_limit": RECURSION_LIMIT,
        }
        begun = await self.store.saver.aget_tuple(config)
        values = begun.checkpoint["channel_values"] if begun else search.start
        limit = values.get("level_limit", search.start["level_limit"])
        if review:
            await hold_review(
                self.decided,
                graph=graph,
                config=config,
                store=self.store,
                start=search.start,
                rewrites=search.context.search.rewrites,
            )
        if self.failed and begun:
            await ask_again(graph=graph, config=config, store=self.store, context=search.context)
        await search.watch(limit)
        answer: int | None = values.get("answer")
        async for update in graph.astream(
            None if begun else search.start,
            config,
            context=search.context,
            stream_mode="updates",
            durability="sync",
            control=self.control,
            interrupt_after=["advance"] if review else None,
        ):
            if "advance" in update:
                answer = update["advance"].get("answer")
                limit = update["advance"].get("level_limit", limit)
                await search.watch(limit)
        if answer is None:
            raise RunPaused(UNDER_REVIEW)
        return answer
