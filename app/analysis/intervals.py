"""95 % intervals of means and shares over queries. Knows numbers alone, no runs.

The unit is the query: whoever calls has averaged what belongs to one query before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from drpo.graph.values import HIGHEST_SCORE, LOWEST_SCORE, mean
from drpo.nodes.student import student

FEWEST = 5
"""Values from which on a mean has an interval: of fewer, bounded and skewed as they are, Student's
t holds too little."""
_UPPER = 0.975
"""Quantile of the upper end."""
_Z = 1.959964
"""Normal quantile of 97.5 %."""
_WIDEST = HIGHEST_SCORE - LOWEST_SCORE
_SMALL = 1e-9
"""A spread that rounding makes."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Of 95 %."""

    low: float
    high: float


def mean_interval(values: Sequence[float]) -> Interval | None:
    """Of the mean of scores (1-5), by Student's t.

    None for fewer than `FEWEST` values, and where all are equal, which tells nothing of their
    spread.
    """
    error = _squared_error(values) if len(values) >= FEWEST else 0.0
    middle = mean(values)
    if middle is None or error <= _SMALL**2:
        return None
    reach = student(_UPPER, len(values) - 1) * math.sqrt(error)
    return Interval(max(LOWEST_SCORE, middle - reach), min(HIGHEST_SCORE, middle + reach))


def difference_interval(mine: Sequence[float], others: Sequence[float]) -> Interval | None:
    """Of the mean of one set of scores less that of another, by Welch's t; None as above."""
    if min(len(mine), len(others)) < FEWEST:
        return None
    one, other = _squared_error(mine), _squared_error(others)
    middle, beside = mean(mine), mean(others)
    if middle is None or beside is None or one + other <= _SMALL**2:
        return None
    freedom = (one + other) ** 2 / (one**2 / (len(mine) - 1) + other**2 / (len(others) - 1))
    # Rounded down it is a little wider.
    reach = student(_UPPER, math.floor(freedom)) * math.sqrt(one + other)
    found = middle - beside
    return Interval(max(-_WIDEST, found - reach), min(_WIDEST, found + reach))


def share_interval(share: float, queries: int) -> Interval | None:
    """Wilson's, of a mean of shares, one a query; None without queries.

    A query's share lies between 0 and 1, so it varies no more than a coin does, for which the
    interval is made: it is wide enough, or too wide.
    """
    if not queries:
        return None
    room = _Z**2 / queries
    middle = share + room / 2
    reach = _Z * math.sqrt(share * (1 - share) / queries + room / (4 * queries))
    return Interval(
        max(0.0, (middle - reach) / (1 + room)), min(1.0, (middle + reach) / (1 + room))
    )


def _squared_error(values: Sequence[float]) -> float:
    """Of their mean."""
    middle = mean(values) or 0.0
    squares = math.fsum((value - middle) ** 2 for value in values)
    return squares / (len(values) - 1) / len(values)
