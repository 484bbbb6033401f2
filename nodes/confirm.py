"""The last stage of an alignment: whether the challenger is really better than the root.

One test, laid down before the first of these answers is seen (`nodes.gain`), on the queries of
`confirm`. The other arms are compared beside it to see where a gain comes from, and decide nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from langgraph.runtime import Runtime

from drpo.graph.context import AlignmentContext
from drpo.graph.state import AlignmentState
from drpo.graph.values import ROOT, Arm
from drpo.nodes.choose import FIRST_ARM, value_of
from drpo.nodes.compare import Rewards, compare, queries_of
from drpo.nodes.gain import differences, gain_of, smallest_gain

NOTHING, EXAMPLES, PROMPT, BOTH = "nothing", "examples only", "prompt only", "both"


async def confirm(state: AlignmentState, runtime: Runtime[AlignmentContext]) -> AlignmentState:
    """Whether the challenger's gain is real; where it is not, the root stays."""
    context, challenger = runtime.context, state.get("challenger", ROOT)
    tested = _name(challenger, shown=state.get("with_examples", False))
    # Where examples alone are tested, the best prompt of the search is compared beside them.
    prompt = state.get("prompt", ROOT) if challenger == ROOT else challenger
    arms = _arms(prompt, shown=bool(state.get("examples")), context=context)
    found: dict[str, Any] = {"real": False, "tested": None}
    if tested != NOTHING:
        number = await context.store.read_confirm(context.confirm_sha256)
        rewards = await compare(arms, "confirm", context)
        found = _found(tested, arms, rewards, context)
        found |= {"reading": number, "exploratory": number > 1}
    chosen = {"challenger": challenger, "with_examples": state.get("with_examples", False)}
    await context.store.add_finding("confirm", chosen | found)
    return {"real": found["real"]}


def _name(prompt: int, *, shown: bool) -> str:
    if prompt == ROOT:
        return EXAMPLES if shown else NOTHING
    return BOTH if shown else PROMPT


def _arms(best: int, *, shown: bool, context: AlignmentContext) -> list[Arm]:
    """Nothing of the alignment, each half of it where there are two, and all of it."""
    ways = dict.fromkeys(
        (prompt, with_them)
        for prompt in (ROOT, best)
        for with_them in ((False, True) if shown else (False,))
    )
    # Beyond the arms of `select`.
    first = FIRST_ARM + 2 * context.validation.challengers + 1
    return [
        Arm(first + at, _name(prompt, shown=with_them), prompt, with_them)
        for at, (prompt, with_them) in enumerate(ways)
    ]


def _found(
    tested: str, arms: Sequence[Arm], rewards: Rewards, context: AlignmentContext
) -> dict[str, Any]:
    validation, by_name = context.validation, {arm.name: rewards[arm.candidate] for arm in arms}
    gain = gain_of(
        differences(by_name[tested], by_name[NOTHING]),
        min_gain=validation.min_gain,
        seed=context.seed,
    )
    asked = len(queries_of("confirm", context))
    return asdict(gain) | {
        "tested": tested,
        "min_gain": validation.min_gain,
        "smallest_gain": smallest_gain(asked, validation.spread, validation.min_gain),
        "arms": [
            {
                "name": name,
                "mean": value_of(said),
                "unscored": sum(each.count(None) for each in said.values()),
            }
            for name, said in by_name.items()
        ],
    }
