"""What the search costs beside its model calls: against a bare asyncio skeleton, on one server.

`python -m benchmarks.overhead [--repeats 5] [--latency-ms 50 200] [--profile rewrite skip]`

The skeleton makes the same ChatOpenAI calls with the same dependencies and nothing else: no graph,
no templates, no parsing, no file. Runs are interleaved; figures are medians and their ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI

from benchmarks.serving import served
from drpo.conf.schema import Settings
from drpo.graph.values import ROLES, Role
from drpo.kinds import plan_of
from drpo.models.openai import response_format
from drpo.nodes import judge, rewrite, select_rewards
from drpo.run import new_run, search
from drpo.settings import compose_settings

EVALUATION: tuple[Role, Role] = ("target", "judge")
KINDS: dict[str, type[BaseMessage]] = {
    "system": SystemMessage,
    "user": HumanMessage,
    "assistant": AIMessage,
}
SCHEMAS = {
    "rewarder": select_rewards.SCHEMA,
    "judge": judge.SCHEMA,
    "rewriter": rewrite.schema(["system"]),
}


@dataclass
class Level:
    """The requests of one level, as `agenerate` takes them."""

    selections: list[dict[str, Any]] = field(default_factory=list)
    rewrites: list[dict[str, Any]] = field(default_factory=list)
    evaluations: dict[int, dict[Role, dict[str, Any]]] = field(default_factory=dict)
    """By candidate."""


def settings_for(base_url: str, concurrency: int) -> Settings:
    """The paper's search on that server."""
    models = [f"models.{role}.base_url={base_url}" for role in ROLES]
    return compose_settings(
        ["search=paper", "models=openai", f"concurrency={concurrency}", *models]
    )


async def searched(settings: Settings, folder: Path) -> tuple[float, Path]:
    """Seconds of one whole search, and its file."""
    began = time.perf_counter()
    run = new_run(settings, plan_of(settings), folder)
    await search(run)
    return time.perf_counter() - began, run.path


async def skeleton(base_url: str, levels: Sequence[Level]) -> float:
    """Seconds of the same calls with the same dependencies, and nothing else."""
    began = time.perf_counter()
    async with openai.DefaultAioHttpClient() as client:
        models = {role: _model(base_url, role, client) for role in ROLES}

        async def ask(role: Role, request: dict[str, Any]) -> None:
            await models[role].agenerate(**request)

        async def evaluate(evaluation: dict[Role, dict[str, Any]]) -> None:
            for role in EVALUATION:
                if role in evaluation:
                    await ask(role, evaluation[role])

        await asyncio.gather(*(ask("rewarder", each) for each in levels[0].selections))
        for level, following in zip(levels, [*levels[1:], Level()], strict=True):
            await asyncio.gather(*(ask("rewriter", each) for each in level.rewrites))
            await asyncio.gather(
                *(evaluate(each) for each in level.evaluations.values()),
                *(ask("rewarder", each) for each in following.selections),
            )
    return time.perf_counter() - began


def _model(base_url: str, role: Role, client: Any) -> ChatOpenAI:
    settings = settings_for(base_url, 1).models
    chosen = getattr(settings, role)
    sampling = {} if chosen.top_p is None else {"top_p": chosen.top_p}
    return ChatOpenAI(
        model=chosen.model,
        base_url=base_url,
        temperature=chosen.temperature,
        max_retries=0,
        http_async_client=client,
        **sampling,
    )


def recorded(path: Path) -> list[Level]:
    """The calls of a finished run, by level."""
    levels: dict[int, Level] = {}
    with closing(sqlite3.connect(path)) as db:
        texts = dict(db.execute("select sha256, body from text"))
        rows = db.execute("select role, level, candidate, messages, n from call order by rowid")
        for role, level, candidate, messages, n in rows:
            turns = [KINDS[who](content=texts[text]) for who, text in json.loads(messages)]
            request: dict[str, Any] = {"messages": [turns]}
            if n > 1:
                request["n"] = n
            if role in SCHEMAS:
                request["extra_body"] = {"response_format": response_format(SCHEMAS[role])}
            at = levels.setdefault(level, Level())
            if role == "rewarder":
                at.selections.append(request)
            elif role == "rewriter":
                at.rewrites.append(request)
            else:
                at.evaluations.setdefault(candidate, {})[role] = request
    return [levels[level] for level in sorted(levels)]


async def compare(latency_ms: float, profile: str, repeats: int, folder: Path) -> str:
    """One row of the table."""
    with served(latency_ms, "--profile", profile) as base_url:
        settings = settings_for(base_url, concurrency=64)
        # The first run is not counted: it imports, and it is what the skeleton plays.
        _, path = await searched(settings, folder)
        levels = recorded(path)
        ours, bare = [], []
        for _ in range(repeats):
            bare.append(await skeleton(base_url, levels))
            ours.append((await searched(settings, folder))[0])
        one_by_one, _ = await searched(settings_for(base_url, concurrency=1), folder)
    links = 1 + sum((1 if level.rewrites else 0) + 2 for level in levels)
    calls = sum(len(level.selections) + len(level.rewrites) for level in levels)
    calls += sum(len(each) for level in levels for each in level.evaluations.values())
    search_s, bare_s = statistics.median(ours), statistics.median(bare)
    return (
        f"{profile:>8} {latency_ms:>7.0f} {len(levels):>6} {links:>5} {calls:>5}"
        f" {links * latency_ms / 1000:>7.2f} {bare_s:>10.2f} {search_s:>8.2f}"
        f" {search_s / bare_s:>6.3f} {one_by_one / search_s:>11.1f}"
    )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--latency-ms", type=float, nargs="+", default=[50, 200])
    parser.add_argument("--profile", nargs="+", default=["rewrite", "skip"])
    chosen = parser.parse_args()
    os.environ.setdefault("OPENAI_API_KEY", "local")
    print(" profile latency levels links calls chain s skeleton s search s  ratio one by one x")
    for profile in chosen.profile:
        for latency_ms in chosen.latency_ms:
            with tempfile.TemporaryDirectory() as folder:
                work = compare(latency_ms, profile, chosen.repeats, Path(folder))
                print(asyncio.run(work), flush=True)


if __name__ == "__main__":
    main()
