"""Evaluates one candidate on one query by the evaluation graph `sample -> judge`.

The graph has no checkpoints of its own: after a kill the ledger answers what was already asked.
"""

from __future__ import annotations

from langgraph.runtime import RunControl, Runtime

from drpo.graph.context import Context
from drpo.graph.state import EvaluateTask, SearchUpdate


async def evaluate(state: EvaluateTask, runtime: Runtime[Context]) -> SearchUpdate:
    """Store the sample and the verdict of one candidate and query."""
    # Without a durability of its own it inherits `sync`, and fails for lack of a checkpointer
    # (LangGraph 1.2.22); with one it warns that this has no effect, which `graph.build` silences.
    # A control of its own lets it finish when the search drains.
    await runtime.context.evaluation.ainvoke(
        dict(state), context=runtime.context, durability="async", control=RunControl()
    )
    return {}
