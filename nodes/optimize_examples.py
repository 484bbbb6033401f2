"""The first stage of an alignment: better answers for the in-context examples.

Each example is a search of its own, all side by side; how they run is the context's business.
"""

from __future__ import annotations

from langgraph.runtime import Runtime

from drpo.graph.context import AlignmentContext
from drpo.graph.state import AlignmentState


async def optimize_examples(
    state: AlignmentState,  # noqa: ARG001 - LangGraph gives it
    runtime: Runtime[AlignmentContext],
) -> AlignmentState:
    """The examples that the next stages show to the target."""
    return {"examples": await runtime.context.optimize_examples()}
