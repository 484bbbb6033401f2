"""Feeds recorded runs of the paper's own code through our compiled graph and compares every level.

`python -m benchmarks.replay_reference FILE...`

One line a file; exit code 0 when all match, 1 when one does not, 2 for a file that cannot be read.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drpo.checkpoints.reader import tree
from drpo.checkpoints.runs import create_run
from drpo.checkpoints.store import RunStore, open_store
from drpo.conf.schema import Settings
from drpo.graph.build import build_search, initial_state
from drpo.graph.context import Context
from drpo.graph.errors import BadInput, DrpoError
from drpo.models.recorded import RecordedCaller, RecordedLevel, RecordedRun
from drpo.parts import context_for
from drpo.searching import RECURSION_LIMIT
from drpo.settings import compose_settings


def differences(recorded: RecordedRun, folder: Path) -> list[str]:
    """What our search does otherwise than the recorded one; nothing when they are the same."""
    settings = paper_settings(recorded)
    queries = recorded.queries
    run = create_run(folder, settings="{}", fingerprint={}, queries=queries, version="replay")

    async def search() -> Searched:
        async with open_store(run.path) as store:
            context = context_for(settings, queries, RecordedCaller(recorded), store)
            return await searched(run.id, context, store)

    return compared(recorded, asyncio.run(search()), tree(run.path))


def paper_settings(recorded: RecordedRun, *overrides: str) -> Settings:
    """Of the search that the paper's own code made, from the same root."""
    settings = compose_settings(["search=paper", "data.shuffle=false", *overrides])
    return settings.model_copy(update={"root": {"system": recorded.prompt(0)}})


@dataclass(frozen=True, slots=True)
class Searched:
    """How our search went."""

    limits: Mapping[int, int]
    """Level limit at the entry of each level."""
    answer: int
    """The terminal candidate."""


async def searched(run_id: str, context: Context, store: RunStore) -> Searched:
    """The whole search through the compiled graph."""
    limits: dict[int, int] = {}
    answer = -1
    async for state in build_search(store.saver).astream(
        initial_state(context.search),
        {"configurable": {"thread_id": run_id}, "recursion_limit": RECURSION_LIMIT},
        context=context,
        stream_mode="values",
        durability="sync",
    ):
        limits.setdefault(state["level"], state["level_limit"])
        answer = state.get("answer", answer)
    return Searched(limits, answer)


def compared(recorded: RecordedRun, ours: Searched, nodes: Sequence[dict[str, Any]]) -> list[str]:
    """What is different in our search, whose tree is `nodes`."""
    found = _candidates(recorded, nodes)
    if found:
        return found
    levels = [level.depth for level in recorded.levels]
    if sorted(ours.limits) != levels:
        return [f"levels {sorted(ours.limits)} instead of {levels}"]
    for level in recorded.levels:
        found += _level(level, nodes, ours.limits[level.depth])
    answer = ours.answer
    if answer != recorded.terminal_node:
        found.append(f"terminal candidate {answer} instead of {recorded.terminal_node}")
    elif _value(nodes[answer]) != recorded.cum_reward:
        found.append(f"path value {_value(nodes[answer])!r} instead of {recorded.cum_reward!r}")
    if _path(nodes, answer) != recorded.path:
        found.append("another path to the terminal candidate")
    return found


def _candidates(recorded: RecordedRun, nodes: Sequence[dict[str, Any]]) -> list[str]:
    """Same candidates in the same order, each with the same reward, bit for bit."""
    if len(nodes) != len(recorded.nodes):
        return [f"{len(nodes)} candidates instead of {len(recorded.nodes)}"]
    found = []
    for ours, theirs in zip(nodes, recorded.nodes, strict=True):
        name = f"candidate {theirs.id}"
        place = (ours["candidate"], ours["level"], ours["parent"], ours["prompts"]["system"])
        expected = (theirs.id, theirs.depth, theirs.parent, recorded.prompt(theirs.id))
        if place != expected:
            found.append(f"{name} has another level, parent or prompt")
        # The recorded reward of the root is 0.0, because it counts in no path value.
        reward = theirs.eval_mean if theirs.parent is None else theirs.reward
        if not ours["reward"] == reward == theirs.eval_mean:
            found.append(f"{name} has reward {ours['reward']!r} instead of {reward!r}")
    return found


def _level(level: RecordedLevel, nodes: Sequence[dict[str, Any]], limit: int) -> list[str]:
    mine = [node for node in nodes if node["level"] == level.depth]
    kept = sorted((n for n in mine if n["beam_rank"] is not None), key=lambda n: n["beam_rank"])
    ours = {
        "nodes": [node["candidate"] for node in mine],
        "beam": [node["candidate"] for node in kept],
        "beam_mean_reward": [_value(node) for node in kept],
        "depth_limit_at_entry": limit,
        "skipped": [
            n["candidate"] for n in kept if any(d.startswith("skip") for d in n["decisions"])
        ],
    }
    theirs = level.model_dump()
    return [
        f"level {level.depth}: {name} {value!r} instead of {theirs[name]!r}"
        for name, value in ours.items()
        if value != theirs[name]
    ]


def _value(node: dict[str, Any]) -> float:
    """The reference gives the root's path the value 0.0."""
    return 0.0 if node["path_value"] is None else float(node["path_value"])


def _path(nodes: Sequence[dict[str, Any]], last: int) -> list[int]:
    path: list[int] = []
    at: int | None = last
    while at is not None and 0 <= at < len(nodes):
        path.insert(0, at)
        at = nodes[at]["parent"]
    return path


def main(arguments: Sequence[str]) -> int:
    """One line a file."""
    if not arguments:
        print(__doc__)
        return 2
    worst = 0
    for name in arguments:
        try:
            recorded = RecordedRun.read(Path(name))
        except BadInput as error:
            print(error)
            return 2
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = differences(recorded, Path(folder))
            except DrpoError as error:
                found = [f"the search goes elsewhere: {error}"]
        if found:
            worst = 1
            print(f"{name}: DIFFERENT: {found[0]} (and {len(found) - 1} more)")
        else:
            print(f"{name}: same: {len(recorded.nodes)} candidates, {len(recorded.levels)} levels")
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
