"""The truth of the sandbox: what an answer is really worth to a query.

Defined without pool, rewarder or judge: the needs of the query times the quality of the answer.
All regret is measured in it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cache

from drpo.graph.values import HIGHEST_SCORE, LOWEST_SCORE
from drpo.models.sandbox.language import needs_of, parts_in
from drpo.models.sandbox.world import world_file

SPAN = HIGHEST_SCORE - LOWEST_SCORE


def truth(query: str, answer: str) -> float:
    """Of one answer, 1-5: the sum of need x quality over all aspects."""
    parts = parts_in(answer)
    worth = sum(need * quality(aspect, parts) for aspect, need in needs_of(query).items())
    return LOWEST_SCORE + SPAN * worth


def quality(aspect: str, parts: Collection[str]) -> float:
    """Of an answer made of these parts, in one aspect, 0-1."""
    return expected_quality(aspect, dict.fromkeys(parts, 1.0))


def expected_quality(aspect: str, chances: Mapping[str, float]) -> float:
    """The mean of `quality` where each part comes with its own chance, independently.

    Exact: no part both lifts and harms one aspect, so the factors are independent.
    """
    lifts, harms, floor = _worths(aspect)
    missing, kept = 1.0 - floor, 1.0
    for part, lift in lifts.items():
        missing *= 1.0 - lift * chances.get(part, 0.0)
    for part, harm in harms.items():
        kept *= 1.0 - harm * chances.get(part, 0.0)
    return (1.0 - missing) * kept


@cache
def _worths(aspect: str) -> tuple[Mapping[str, float], Mapping[str, float], float]:
    known = world_file().quality
    return known.lift.get(aspect, {}), known.harm.get(aspect, {}), known.floor
