"""Runs the target under one candidate on one query, and stores what it answered."""

from __future__ import annotations

from langgraph.runtime import Runtime

from drpo.graph.context import Context, Place
from drpo.graph.state import EvaluationState, EvaluationUpdate


async def sample(state: EvaluationState, runtime: Runtime[Context]) -> EvaluationUpdate:
    """The sample of one candidate and query."""
    context = runtime.context
    [candidate] = await context.store.candidates([state["candidate"]])
    place = Place(candidate.level, candidate.id, state["query"], state.get("repeat", 0))
    answer = await context.target.run(
        candidate.prompts, context.order.queries[state["query"]], place
    )
    await context.store.add_sample(place, answer)
    return {"level": candidate.level, "sample": answer.value}
