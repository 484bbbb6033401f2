"""The third stage of an alignment: which ONE prompt is tested against the root.

It is chosen by the queries of `select`, which neither the search nor the test sees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from langgraph.runtime import Runtime

from drpo.graph.context import AlignmentContext
from drpo.graph.state import AlignmentState
from drpo.graph.values import (
    ARMS,
    CANDIDATES_PER_SEARCH,
    LOWEST_SCORE,
    ROOT,
    Arm,
    mean,
)
from drpo.nodes.compare import compare

FIRST_ARM = ARMS * CANDIDATES_PER_SEARCH


async def choose(state: AlignmentState, runtime: Runtime[AlignmentContext]) -> AlignmentState:
    """The challenger: the best mean on `select`, the earlier and simpler arm where they tie.

    With one arm there is nothing to choose, and nothing to pay for.
    """
    context = runtime.context
    prompts = await context.store.challengers(context.validation.challengers)
    arms = arms_of([each.id for each in prompts], shown=bool(state.get("examples")))
    means: list[float | None] = [None] * len(arms)
    if len(arms) > 1:
        rewards = await compare(arms, "select", context)
        means = [value_of(rewards[arm.candidate], LOWEST_SCORE) for arm in arms]
    best = max(range(len(arms)), key=lambda at: means[at] or LOWEST_SCORE, default=None)
    prompt, shown = (ROOT, False) if best is None else (arms[best].prompt, arms[best].with_examples)
    compared = [
        {"prompt": arm.prompt, "with_examples": arm.with_examples, "mean": value}
        for arm, value in zip(arms, means, strict=True)
    ]
    chosen = {"challenger": prompt, "with_examples": shown}
    await context.store.add_finding("select", chosen | {"arms": compared})
    return {"challenger": prompt, "with_examples": shown}


def arms_of(prompts: Sequence[int], *, shown: bool) -> list[Arm]:
    """Every prompt with and without examples, and the root with them."""
    ways = [
        (prompt, with_them)
        for prompt in prompts
        for with_them in ((False, True) if shown else (False,))
    ]
    ways += [(ROOT, True)] if shown else []
    return [
        Arm(
            FIRST_ARM + at,
            f"candidate {prompt}{' with examples' if with_them else ''}",
            prompt,
            with_them,
        )
        for at, (prompt, with_them) in enumerate(ways)
    ]


def value_of(
    rewards: Mapping[int, Sequence[float | None]], unscored: float | None = None
) -> float | None:
    """Of an arm: the mean over queries of the means of their samples, 1-5.

    `unscored` is what a sample without a reward counts as; None leaves it out.
    """
    filled = ([unscored if each is None else each for each in said] for said in rewards.values())
    means = (mean(each for each in said if each is not None) for said in filled)
    return mean(value for value in means if value is not None)
