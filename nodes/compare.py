"""Lets arms answer the same queries, blind and shuffled, judged by the same selections.

Does not know what follows from their rewards.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence

from langgraph.runtime import Runtime

from drpo.graph.context import AlignmentContext, Tally
from drpo.graph.state import EvaluateTask, QueryTask
from drpo.graph.values import Arm, Judged, Part, Query
from drpo.nodes.advance import NOTHING_READABLE
from drpo.nodes.evaluate import evaluate
from drpo.nodes.failures import FEWEST, hold_to_limit
from drpo.nodes.select_rewards import select_rewards

Rewards = Mapping[int, Mapping[int, Sequence[float | None]]]
"""By arm, then by query: the reward of each repeated sample, 1-5; None where it is unscored."""


def queries_of(part: Part, context: AlignmentContext) -> list[Query]:
    """Those of one part of the data."""
    return [query for query in context.queries if query.part == part]


async def compare(arms: Sequence[Arm], part: Part, context: AlignmentContext) -> Rewards:
    """The rewards of every arm on every query of `part`; what was judged before is not asked again.

    Raises TooManyFailures where too many answers have none.
    """
    await context.store.add_arms(part, arms)
    queries = [query.ordinal for query in queries_of(part, context)]
    bare = Runtime(context=context.bare)
    await asyncio.gather(
        *(select_rewards(QueryTask(level=0, query=query), bare) for query in queries)
    )
    shown = bare
    if any(arm.with_examples for arm in arms):
        shown = Runtime(context=await context.shown())
    repeats = range(context.validation.samples)
    tasks = [(arm, query, repeat) for arm in arms for query in queries for repeat in repeats]
    done = {(each.arm, each.query, each.repeat) for each in await context.store.judged(arms)}
    left = [task for task in tasks if (task[0].candidate, *task[1:]) not in done]
    # A server that gets slower or worse meanwhile does so for all arms alike.
    random.Random(f"{context.seed}:{part}").shuffle(left)
    tally = Tally(context.watch, part, len(tasks))
    tally.add(len(tasks) - len(left))

    async def one(arm: Arm, query: int, repeat: int) -> None:
        task = EvaluateTask(candidate=arm.candidate, query=query, repeat=repeat)
        await evaluate(task, shown if arm.with_examples else bare)
        tally.add(1)

    await asyncio.gather(*(one(*task) for task in left))
    return _rewards(arms, await context.store.judged(arms), context)


def _rewards(arms: Sequence[Arm], judged: Sequence[Judged], context: AlignmentContext) -> Rewards:
    unscored = [
        None if each.reward is not None else each.unscored or NOTHING_READABLE for each in judged
    ]
    fewest = min(FEWEST, len(unscored))
    hold_to_limit("evaluations", 0, unscored, context.bare.most_failures, fewest)
    found: dict[int, dict[int, list[float | None]]] = {arm.candidate: {} for arm in arms}
    for each in judged:
        found[each.arm].setdefault(each.query, []).append(each.reward)
    return found
