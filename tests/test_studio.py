"""What `langgraph dev` is given: graphs to look at, and a search that runs there."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver

from drpo import studio
from drpo.graph.build import build_search

ROOT = Path(__file__).parents[1]


def test_langgraph_json_names_what_there_is() -> None:
    """Each file by its path in the repository, and a function in it."""
    named = json.loads((ROOT / "langgraph.json").read_text("utf-8"))["graphs"]
    for graph, place in named.items():
        file, _, function = place.partition(":")
        assert (ROOT / file).is_file()
        assert function == graph
        assert callable(getattr(import_module(f"drpo.{Path(file).stem}"), function))


async def test_it_draws_the_search_as_it_is() -> None:
    """The same nodes and edges as those of a run."""
    async with studio.search() as graph:
        drawn = graph.get_graph()
    real = build_search().get_graph()
    assert {*drawn.nodes} == {*real.nodes}
    assert {*drawn.edges} == {*real.edges}


async def test_its_search_runs_on_the_sandbox_with_anybodys_checkpoints() -> None:
    """From START to an answer, without a context of the caller's."""
    async with studio.search() as graph:
        graph.checkpointer = InMemorySaver()
        config: RunnableConfig = {"configurable": {"thread_id": "one"}, "recursion_limit": 1000}
        found = await graph.ainvoke(studio.START, config)
    assert found["level"] == studio.START["level_limit"] - 1
    assert found["answer"] > 0


def test_graphs_to_look_at_compile() -> None:
    """Those that nobody can run there."""
    assert "judge" in studio.evaluation().nodes
    assert "confirm" in studio.alignment().nodes
