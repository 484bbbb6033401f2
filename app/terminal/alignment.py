"""What `drpo show` prints of an alignment: what to use, and how its gain was tested.

The values on the way of its search are not shown here: levels differ in queries, and read as a
curve they would claim a gain that nobody has tested.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from drpo.wording import counted, scored

Say = Callable[..., None]
_CHOSEN = (("prompt", "challenger"), ("with_examples", "with_examples"))


def say_alignment(say: Say, told: Mapping[str, Any]) -> None:
    """As far as it has come."""
    found = told["findings"]
    if told["examples"]:
        say(f"{counted(len(told['examples']), 'example')} (`--view examples`).")
    if "examples" in found:
        say(f"Too long for retrieval.max_tokens, so never shown: {found['examples']['too_long']}.")
    if "select" in found:
        _say_choice(say, found["select"])
    if "confirm" in found:
        _say_confirmation(say, found["confirm"])
    if "truth" in found:
        _say_truth(say, found["truth"])


def say_examples(say: Say, examples: Sequence[Mapping[str, Any]]) -> None:
    """Every example, with what its search made of it."""
    for number, each in enumerate(examples):
        say()
        say(f"== example {number}{_rewards(each)}")
        for name in ("query", "answer"):
            say(f"   {name}:")
            for line in each[name].splitlines() or [""]:
                say(f"     {line}")


def _rewards(example: Mapping[str, Any]) -> str:
    if example["reward"] is None:
        return ""
    before = "unscored" if example["before"] is None else f"{example['before']:.2f}"
    return f": reward {before} before, {example['reward']:.2f} now"


def _say_choice(say: Say, found: Mapping[str, Any]) -> None:
    compared = [arm for arm in found["arms"] if arm["mean"] is not None]
    if not compared:
        return
    say("To be tested was chosen, by mean rewards on the queries of `select`:")
    for arm in compared:
        chosen = all(arm[name] == found[key] for name, key in _CHOSEN)
        mark = "  <- chosen" if chosen else ""
        say(f"  candidate {arm['prompt']:>4} {_shown(arm):<16}  {arm['mean']:.2f}{mark}")


def _shown(arm: Mapping[str, Any]) -> str:
    return "with examples" if arm["with_examples"] else "without examples"


def _say_confirmation(say: Say, found: Mapping[str, Any]) -> None:
    if found["tested"] is None:
        say("Nothing was found to test against the root, which stays.")
        return
    say(f"{'A real gain' if found['real'] else 'No real gain: the root stays'}.")
    if found["exploratory"]:
        say(
            f"EXPLORATORY: some of these queries, or all, were used to confirm a gain before, in "
            f"{counted(found['reading'] - 1, 'other run')}. The test proves less than it says."
        )
    interval = "no interval, too few queries differ"
    if found["low"] is not None:
        interval = f"95 % interval {found['low']:.2f} to {found['high']:.2f}"
    say(
        f"Gain over the root on {found['queries']} queries that nothing was fitted to: "
        f"{found['estimate']:.2f} ({interval}), p = {found['p']:.2g}; asked for were p of at most "
        f"0.05 and {found['min_gain']:g} points."
    )
    say("Their mean rewards (1-5):")
    for arm in found["arms"]:
        unscored = f", {arm['unscored']} unscored" if arm["unscored"] else ""
        tested = "  <- tested" if arm["name"] == found["tested"] else ""
        say(f"  {arm['name']:<14} {scored(arm['mean'])}{unscored}{tested}")


def _say_truth(say: Say, values: Mapping[str, float]) -> None:
    say("What they are really worth in the simulated world, over its held-out queries (1-5):")
    for name, value in values.items():
        say(f"  {name:<14} {value:.2f}")
