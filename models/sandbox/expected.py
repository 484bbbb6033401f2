"""The expected truth of a prompt: over queries, and over all answers that may be drawn.

Parts come independently, so the mean over every set of parts is a product of means: exact, without
a draw. Counts draws only to check that.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from drpo.graph.values import LOWEST_SCORE, Message
from drpo.models.sandbox.language import needs_of
from drpo.models.sandbox.target import Examples, Target
from drpo.models.sandbox.truth import SPAN, expected_quality, truth


def expected_truth(
    target: Target, prompt: str, queries: Sequence[str], examples: Examples = ()
) -> float:
    """Mean truth (1-5) of the target's answers to these queries under a prompt, exact."""
    worth = 0.0
    for query in queries:
        chances = target.chances(prompt, query, examples)
        for aspect, need in needs_of(query).items():
            worth += need * expected_quality(aspect, chances)
    return LOWEST_SCORE + SPAN * worth / len(queries)


def drawn_truth(
    target: Target, prompt: str, queries: Sequence[str], draws: int = 100_000, seed: int = 0
) -> tuple[float, float]:
    """Mean truth of so many answers, evenly over the queries, and its standard error."""
    rng = random.Random(f"{seed}:draws")
    total = squares = 0.0
    for number in range(draws):
        query = queries[number % len(queries)]
        messages = (Message("system", prompt), Message("user", query))
        worth = truth(query, target.answer(messages, rng))
        total, squares = total + worth, squares + worth * worth
    mean = total / draws
    return mean, math.sqrt(max(0.0, squares / draws - mean * mean) / draws)
