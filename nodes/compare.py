"""Lets arms answer the same queries, blind and shuffled, judged by the same selections.

Does not know what follows from their rewards.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from langgraph.runtime import RunControl, Runtime

from drpo.graph.context import AlignmentContext, Context, Rewards
from drpo.graph.state import EvaluateTask, QueryTask
from drpo.graph.values import Arm, Part, Query
from drpo.nodes.failures import FEWEST, hold_to_limit
from drpo.nodes.select_rewards import select_rewards


def queries_of(part: Part, context: AlignmentContext) -> list[Query]:
    """Those of one part of the data."""
    return [query for query in context.queries if query.part == part]


async def compare(arms: Sequence[Arm], part: Part, context: AlignmentContext) -> Rewards:
    """The rewards of every arm on every query of `part`.

    Raises TooManyFailures where too many answers have none.
    """
    await context.store.add_arms(part, arms)
    queries = [query.ordinal for query in queries_of(part, context)]
    selecting = Runtime(context=context.bare)
    await asyncio.gather(
        *(select_rewards(QueryTask(level=0, query=query), selecting) for query in queries)
    )
    repeats = range(context.validation.samples)
    tasks = [(arm, query, repeat) for arm in arms for query in queries for repeat in repeats]
    answered = await context.store.answered(arms)
    # A server that gets slower or worse meanwhile does so for all arms alike.
    random.Random(f"{context.seed}:{part}").shuffle(tasks)
    shown = await context.shown() if any(arm.with_examples for arm in arms) else context.bare
    watching = _Watching(part, len(tasks), context, shown)
    left = [task for task in tasks if (task[0].candidate, *task[1:]) not in answered]
    watching.count(len(tasks) - len(left))
    await asyncio.gather(*(watching.evaluate(*task) for task in left))
    unscored = await context.store.why_unscored(arms)
    fewest = min(FEWEST, len(unscored))
    hold_to_limit("evaluations", 0, unscored, context.bare.most_failures, fewest)
    return await context.store.rewards(arms)


class _Watching:
    """Counts what is done."""

    def __init__(self, stage: str, of: int, context: AlignmentContext, shown: Context) -> None:
        self._stage = stage
        self._of = of
        self._done = 0
        self._context = context
        self._shown = shown

    async def evaluate(self, arm: Arm, query: int, repeat: int) -> None:
        """One sample and its verdict."""
        context = self._shown if arm.with_examples else self._context.bare
        task = EvaluateTask(candidate=arm.candidate, query=query, repeat=repeat)
        # See `nodes.evaluate`.
        await context.evaluation.ainvoke(
            dict(task), context=context, durability="async", control=RunControl()
        )
        self.count(1)

    def count(self, done: int) -> None:
        """So many more."""
        self._done += done
        self._context.watch(self._stage, self._done, self._of)
