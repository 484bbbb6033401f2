"""Compiles the graphs: which node follows which, in one place.

The evaluation graph has no checkpointer and is awaited by the `evaluate` node: added as a node it
fails under `durability="sync"` (LangGraph 1.2.22).
"""

from __future__ import annotations

import warnings
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import wraps
from inspect import isawaitable
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime

from drpo.conf.schema import SearchSettings
from drpo.graph.context import AlignmentContext, Context
from drpo.graph.routing import after_admit, after_advance, after_select_rewards, start
from drpo.graph.state import AlignmentState, EvaluationState, SearchState
from drpo.graph.values import CANDIDATES_PER_SEARCH, PROMPT_SEARCH
from drpo.nodes.admit import admit
from drpo.nodes.advance import advance
from drpo.nodes.choose import choose
from drpo.nodes.confirm import confirm
from drpo.nodes.evaluate import evaluate
from drpo.nodes.judge import judge
from drpo.nodes.optimize_examples import optimize_examples
from drpo.nodes.rewrite import rewrite
from drpo.nodes.sample import sample
from drpo.nodes.search_prompt import search_prompt
from drpo.nodes.select_rewards import select_rewards

# See `nodes.evaluate`.
warnings.filterwarnings("ignore", message="`durability` has no effect")

Bound = Callable[[], Awaitable[Context]]
SearchGraph = CompiledStateGraph[SearchState, Context, SearchState, SearchState]
AlignmentGraph = CompiledStateGraph[
    AlignmentState, AlignmentContext, AlignmentState, AlignmentState
]


def build_search(
    saver: BaseCheckpointSaver[Any] | None = None, bound: Bound | None = None
) -> SearchGraph:
    """The search graph, checkpointed by `saver`.

    Nodes work with the context that whoever runs it gives, or with the `bound` one.
    """
    graph = StateGraph(SearchState, context_schema=None if bound else Context)

    def given(step: Any) -> Any:
        return step if bound is None else _with_context(step, bound)

    graph.add_node("select_rewards", given(select_rewards))
    graph.add_node("rewrite", given(rewrite))
    graph.add_node("admit", given(admit))
    graph.add_node("evaluate", given(evaluate))
    graph.add_node("advance", given(advance))
    graph.add_conditional_edges(START, given(start), ["select_rewards"])
    graph.add_conditional_edges("select_rewards", after_select_rewards)
    graph.add_conditional_edges("admit", given(after_admit), ["evaluate", "select_rewards"])
    graph.add_edge("evaluate", "advance")
    graph.add_conditional_edges("advance", after_advance, ["rewrite", "admit", END])
    graph.add_edge("rewrite", "admit")
    return graph.compile(checkpointer=saver, name="search")


def _with_context(step: Any, bound: Bound) -> Any:
    """A node or a router, in a context that is opened when the first of them needs it."""

    @wraps(step)
    async def inside(state: Any, runtime: Runtime[Any]) -> Any:
        done = step(state, replace(runtime, context=await bound()))
        return await done if isawaitable(done) else done

    return inside


def build_alignment(saver: BaseCheckpointSaver[Any] | None = None) -> AlignmentGraph:
    """The outer graph: its stages, each of which may be hours of searching, one after another."""
    graph = StateGraph(AlignmentState, context_schema=AlignmentContext)
    graph.add_node("optimize_examples", optimize_examples)
    graph.add_node("search_prompt", search_prompt)
    graph.add_node("choose", choose)
    graph.add_node("confirm", confirm)
    graph.add_edge(START, "optimize_examples")
    graph.add_edge("optimize_examples", "search_prompt")
    graph.add_edge("search_prompt", "choose")
    graph.add_edge("choose", "confirm")
    graph.add_edge("confirm", END)
    return graph.compile(checkpointer=saver, name="alignment")


def build_evaluation() -> CompiledStateGraph[
    EvaluationState, Context, EvaluationState, EvaluationState
]:
    """The evaluation graph `sample -> judge`."""
    graph = StateGraph(EvaluationState, context_schema=Context)
    graph.add_node("sample", sample)
    graph.add_node("judge", judge)
    graph.add_edge(START, "sample")
    graph.add_edge("sample", "judge")
    graph.add_edge("judge", END)
    return graph.compile(checkpointer=False, name="evaluation")


def initial_state(search: SearchSettings, number: int = PROMPT_SEARCH) -> SearchState:
    """What search `number` of a run starts with."""
    root = number * CANDIDATES_PER_SEARCH
    return {
        "level": 0,
        "level_limit": search.levels,
        "beam": [],
        "skips": [],
        "first_candidate": root,
        "next_candidate": root,
    }


def draw() -> str:
    """The search graph as Mermaid, the evaluation graph drawn in the place of `evaluate`.

    `get_graph(xray=True)` does not see a graph that a node awaits.
    """
    drawing = build_search().get_graph()
    inner = build_evaluation().get_graph()
    inner.trim_first_node()
    inner.trim_last_node()
    first, last = drawing.extend(inner, prefix="evaluate")
    if first is None or last is None:
        raise LookupError("the evaluation graph has no first and last node")
    drawing.edges = [
        edge._replace(
            source=last.id if edge.source == "evaluate" else edge.source,
            target=first.id if edge.target == "evaluate" else edge.target,
        )
        for edge in drawing.edges
    ]
    del drawing.nodes["evaluate"]
    return drawing.draw_mermaid()


def fingerprint(*, aligns: bool = False) -> dict[str, list[str]]:
    """What a stored run relies on: nodes, edges and state keys, by name."""
    graphs: list[tuple[str, Any]] = [("search", build_search()), ("evaluation", build_evaluation())]
    state_keys = list(SearchState.__annotations__)
    if aligns:
        graphs.append(("alignment", build_alignment()))
        state_keys += AlignmentState.__annotations__
    edges = [
        f"{name}: {edge.source} -> {edge.target}"
        for name, graph in graphs
        for edge in graph.get_graph().edges
    ]
    return {
        "nodes": sorted(f"{name}: {node}" for name, graph in graphs for node in graph.nodes),
        "edges": sorted(edges),
        "state keys": sorted(state_keys),
    }
