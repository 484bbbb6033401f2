"""Where the search goes next: pure functions of state and order, no side effects.

Together with `build` the only place that names nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from langgraph.graph import END
from langgraph.runtime import Runtime
from langgraph.types import Send

from drpo.graph.context import Context
from drpo.graph.state import EvaluateTask, QueryTask, RewriteTask, SearchState, level_candidates


def start(state: SearchState, runtime: Runtime[Context]) -> list[Send]:
    """The first level, which in a fork may be a later one, begins with its queries' selections."""
    return _selections(state["level"], runtime.context)


def after_select_rewards(state: SearchState) -> Literal["admit", "advance"]:
    """Before level 0 there is nobody to judge yet; later it runs beside the evaluations."""
    return "advance" if level_candidates(state) else "admit"


def after_admit(state: SearchState, runtime: Runtime[Context]) -> list[Send]:
    """Every candidate meets every query; beside them the next level's selections."""
    context, level = runtime.context, state["level"]
    last = context.strategy.stop(level, state["level_limit"], context.order.levels, ())
    evaluations = [
        Send("evaluate", EvaluateTask(candidate=candidate, query=query))
        for candidate in level_candidates(state)
        for query in context.order.at(level)
    ]
    return evaluations if last else evaluations + _selections(level + 1, context)


def after_advance(state: SearchState) -> Sequence[Send] | str:
    """The end, or a rewrite of every survivor that is not skipped."""
    if "answer" in state:
        return END
    rewrites = [
        Send("rewrite", RewriteTask(level=state["level"], candidate=candidate))
        for candidate in state["beam"]
        if candidate not in state["skips"]
    ]
    return rewrites or "admit"


def _selections(level: int, context: Context) -> list[Send]:
    return [
        Send("select_rewards", QueryTask(level=level, query=query))
        for query in context.order.at(level)
    ]
