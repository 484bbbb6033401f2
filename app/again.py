"""Lets a run that stopped at too many failures ask once more for what failed (FAULTS M9)."""

from __future__ import annotations

import asyncio

from langchain_core.runnables import RunnableConfig
from langgraph.runtime import Runtime

from drpo.checkpoints.store import RunStore
from drpo.graph.build import SearchGraph
from drpo.graph.context import Context
from drpo.graph.state import QueryTask
from drpo.graph.values import CANDIDATES_PER_SEARCH
from drpo.nodes.select_rewards import select_rewards


async def ask_again(
    *, graph: SearchGraph, config: RunnableConfig, store: RunStore, context: Context
) -> None:
    """Back to the step whose answers failed; what did not fail is in the ledger, and free.

    First the checkpoint, then the rows: a run that dies in between only stops at the same place.
    """
    state = await graph.aget_state(config)
    if state.next not in (("advance",), ("admit",)):
        # It was in the midst of a level when another search of the run failed.
        return
    level, first = state.values["level"], state.values["first_candidate"]
    if "advance" in state.next:
        again = {"next_candidate": first}
        await graph.aupdate_state(config, again, as_node="rewrite")
    else:
        await graph.aupdate_state(config, {}, as_node="advance")
    await store.forget_failures(level, first // CANDIDATES_PER_SEARCH)
    runtime = Runtime(context=context)
    await asyncio.gather(
        *(
            select_rewards(QueryTask(level=level, query=query), runtime)
            for query in context.order.at(level)
        )
    )
