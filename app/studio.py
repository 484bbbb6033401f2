"""The graphs for LangGraph's own server and Studio: two to look at, and one that runs there.

`langgraph.json` names them. The server brings its own checkpoints and gives no context, so what it
runs is a simulated search in a temporary folder, and no run of drpo.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from drpo.checkpoints.ledger import SqliteLedger
from drpo.checkpoints.runs import StoredRun
from drpo.checkpoints.store import open_store
from drpo.conf.schema import Settings
from drpo.graph.build import (
    AlignmentGraph,
    SearchGraph,
    build_alignment,
    build_evaluation,
    build_search,
    initial_state,
)
from drpo.graph.context import Context
from drpo.kinds import plan_of
from drpo.models.caller import LedgeredCaller
from drpo.models.providers import open_providers
from drpo.parts import context_for
from drpo.run import new_run
from drpo.settings import compose_settings

SETTINGS = ("search.levels=4", "search.queries_per_level=3")
START = initial_state(compose_settings(SETTINGS).search)
"""What to give the search as input."""


def evaluation() -> Any:
    """The evaluation graph, to look at."""
    return build_evaluation()


def alignment() -> AlignmentGraph:
    """The alignment graph, to look at."""
    return build_alignment()


@asynccontextmanager
async def search() -> AsyncIterator[SearchGraph]:
    """The search graph; a run of it is a simulated search, from the state START on."""
    async with AsyncExitStack() as opened:
        context: list[Context] = []
        opening = asyncio.Lock()

        async def bound() -> Context:
            # Not before a node runs: the server also asks for the graph to draw it.
            async with opening:
                if not context:
                    context.append(await _open(opened))
            return context[0]

        yield build_search(bound=bound)


async def _open(opened: AsyncExitStack) -> Context:
    folder = opened.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
    settings, run = await asyncio.to_thread(_made, Path(folder))
    providers = await opened.enter_async_context(open_providers(settings.models))
    store = await opened.enter_async_context(open_store(run.path))
    caller = LedgeredCaller(
        providers, SqliteLedger(store), seed=settings.seed, concurrency=settings.concurrency
    )
    return context_for(settings, run.queries, caller, store)


def _made(folder: Path) -> tuple[Settings, StoredRun]:
    settings = compose_settings(SETTINGS)
    return settings, new_run(settings, plan_of(settings), folder)
