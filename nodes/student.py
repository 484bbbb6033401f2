"""Quantiles of Student's t, for intervals and for the smallest gain that can be shown.

Numbers alone, by the standard library: scipy would be loaded for nothing else.
"""

from __future__ import annotations

import math
from functools import cache
from statistics import NormalDist

_LARGE = 300
"""Degrees of freedom from which on the expansion is exact to nine digits, while sums take long."""
_HALVINGS = 60
_WIDE = 100.0


@cache
def student(probability: float, freedom: int) -> float:
    """Below which it lies with this probability, above 0.5."""
    if freedom >= _LARGE:
        return _expanded(probability, freedom)
    both_sides = 2 * probability - 1
    low, high = 0.0, _WIDE
    while _within(high, freedom) < both_sides:
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        within = _within(middle, freedom) < both_sides
        low, high = (middle, high) if within else (low, middle)
    return high


def _within(t: float, freedom: int) -> float:
    """How probably it lies between -t and t: Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    angle = math.atan2(t, math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = 0.0
    for step in range(1 + odd, freedom, 2):
        total += term
        term *= cosine**2 * step / (step + 1)
    return 2 * (angle + sine * total) / math.pi if odd else sine * total


def _expanded(probability: float, freedom: int) -> float:
    """The expansion of Cornish and Fisher in 1 / freedom."""
    z = NormalDist().inv_cdf(probability)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return math.fsum(term / freedom**power for power, term in enumerate(terms))
