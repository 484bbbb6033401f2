"""The second stage of an alignment: the search for the prompt, under which examples are shown."""

from __future__ import annotations

from langgraph.runtime import Runtime

from drpo.graph.context import AlignmentContext
from drpo.graph.state import AlignmentState


async def search_prompt(
    state: AlignmentState,  # noqa: ARG001 - LangGraph gives it
    runtime: Runtime[AlignmentContext],
) -> AlignmentState:
    """The candidate that the search returns."""
    return {"prompt": await runtime.context.search_prompt()}
