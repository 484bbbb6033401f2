"""Whether a challenger's gain over the root is real: one sign-flip test on the confirm queries.

The unit is the query: repeated samples are averaged before anything else. A result depends on the
differences and the seed alone. Does not know how the challenger was chosen, nor who judged.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from drpo.graph.values import HIGHEST_SCORE, LOWEST_SCORE, mean
from drpo.nodes.student import student

LARGEST_P = 0.05
"""One-sided: above it a gain may well be luck."""
FEWEST_QUERIES = 5
"""With 4 even four gains out of four have p = 1/16."""
FEWEST_DIFFERING = 10
"""Queries that have to differ before an interval is quoted."""
POWER = 0.8
"""How probably the smallest gain is found."""

Numbers = NDArray[np.float64]

_ENUMERATED = 16
"""Differing queries up to which all sign assignments are counted: 65,536 of them."""
_DRAWN = 4_999
"""Sign assignments that stand for all where there are more."""
_SURE = 3.09
"""Normal quantile of 99.9 %: how sure it is that a p of draws is not above what is said.

A test that is exactly at 5 % would be shown to stay below 6 % by hardly more than half of all
series of 2,000 decisions, and differences skewed to the left would take it above: this margin
makes it 4 %, for gains that are 4 % larger."""
_RESAMPLES = 1_999
_OUTSIDE = 50
"""Of the resamples, sorted, the first and the last that count: 2.5 % of `_RESAMPLES` + 1."""
_CHUNK = 1 << 20
"""Numbers held at once while resampling."""
_TINY = 1e-9
"""Differences that rounding makes are ties, and a tie counts against the challenger."""
_SMALL = 1e-6
"""A standard error that rounding makes."""
_AIM = 0.82
"""A little above `POWER`, because differences are hardly ever normal."""
_STEP = 0.6
"""Rewards come in steps, so that differences tie, which counts against a gain. That this is enough
for steps of 0.25 was found by simulation."""
_WIDEST = HIGHEST_SCORE - LOWEST_SCORE


@dataclass(frozen=True, slots=True)
class Gain:
    """What the queries say about the challenger's mean reward less the root's."""

    queries: int
    differing: int
    """Queries whose difference is not 0."""
    estimate: float
    """Mean difference over all queries, in points of the scale 1-5."""
    p: float
    """One-sided: how probable so large a mean is where either arm may as well be the other; at
    most so much, where signs are drawn."""
    low: float | None
    """Of the two-sided 95 % interval; None where too few queries differ."""
    high: float | None
    real: bool
    """Whether `p` and `estimate` both allow to replace the root."""


def differences(
    challenger: Mapping[int, Sequence[float | None]], root: Mapping[int, Sequence[float | None]]
) -> list[float]:
    """Per query, in order of ordinals, mean reward of the challenger less that of the root.

    Rewards are 1-5, one a sample, None where an answer is unscored: that counts as the worst case
    for the challenger. Raises ValueError where the arms have not answered the same queries.
    """
    if challenger.keys() != root.keys():
        raise ValueError("both arms have to answer the same queries")
    return [
        _mean_reward(challenger[query], LOWEST_SCORE) - _mean_reward(root[query], HIGHEST_SCORE)
        for query in sorted(root)
    ]


def _mean_reward(rewards: Sequence[float | None], unscored: float) -> float:
    found = mean(unscored if reward is None else reward for reward in rewards)
    return unscored if found is None else found


def gain_of(differences: Sequence[float], *, min_gain: float, seed: int) -> Gain:
    """The decision: real only where p <= 0.05 and the mean difference reaches `min_gain`.

    Raises ValueError for no differences.
    """
    estimate = mean(differences)
    if estimate is None:
        raise ValueError("there are no queries to decide on")
    differing = sum(abs(each) > _TINY for each in differences)
    p = p_value(differences, seed)
    low, high = None, None
    if differing >= FEWEST_DIFFERING:
        low, high = _interval(differences, estimate, random.Random(f"{seed}:gain:resamples"))
    real = is_real(estimate, p, min_gain)
    return Gain(len(differences), differing, estimate, p, low, high, real)


def is_real(estimate: float, p: float, min_gain: float) -> bool:
    """Whether the challenger wins: both conditions, fixed before anything was measured."""
    return p <= LARGEST_P and estimate >= min_gain - _TINY


def p_value(differences: Sequence[float], seed: int) -> float:
    """Share of the sign assignments whose mean is at least the observed one.

    Where the flipped differences add to 0 or less, the mean does not fall: so it is enough to
    count subsets with such sums. Zero differences move no sum.
    """
    moved = np.array([each for each in differences if abs(each) > _TINY], np.float64)
    tie = _TINY * max(1.0, float(np.abs(moved).sum()))
    if len(moved) <= _ENUMERATED:
        sums = _subset_sums(moved)
        return float(np.count_nonzero(sums <= tie) / len(sums))
    rng = random.Random(f"{seed}:gain:flips")
    eights = range(0, len(moved), 8)
    drawn = np.frombuffer(rng.randbytes(len(eights) * _DRAWN), np.uint8).reshape(-1, _DRAWN)
    sums = np.zeros(_DRAWN)
    for row, first in zip(drawn, eights, strict=True):
        some = _subset_sums(moved[first : first + 8])
        sums += some[row & (len(some) - 1)]
    return _at_most(int(np.count_nonzero(sums <= tie)) / _DRAWN)


def _at_most(share: float) -> float:
    """Upper end of Wilson's interval of a share of the draws."""
    room = _SURE**2 / _DRAWN
    error = _SURE * math.sqrt(share * (1 - share) / _DRAWN + room / (4 * _DRAWN))
    return (share + room / 2 + error) / (1 + room)


def _subset_sums(values: Numbers) -> Numbers:
    """Of every subset, 2 to the power of their number."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate((sums, sums + value))
    return sums


def _interval(
    differences: Sequence[float], estimate: float, rng: random.Random
) -> tuple[float | None, float | None]:
    """Bootstrap-t: the quantiles of (resampled mean - mean) / its standard error.

    None where all differences are equal, which tells nothing of their spread.
    """
    centred = np.array(differences) - estimate
    error = float(_studentized(centred[None, :])[1][0])
    if error == 0:
        return None, None
    most = max(1, _CHUNK // len(centred))
    chunks = [min(most, _RESAMPLES - first) for first in range(0, _RESAMPLES, most)]
    t = np.sort(
        np.concatenate([_studentized(_resampled(centred, rows, rng))[0] for rows in chunks])
    )
    low = estimate - float(t[-_OUTSIDE]) * error
    high = estimate - float(t[_OUTSIDE - 1]) * error
    return max(low, -_WIDEST), min(high, _WIDEST)


def _resampled(values: Numbers, rows: int, rng: random.Random) -> Numbers:
    """Draws with replacement that hang on no version of numpy."""
    words = np.frombuffer(rng.randbytes(4 * rows * len(values)), np.dtype("<u4"))
    picked = (words.astype(np.uint64) * np.uint64(len(values))) >> np.uint64(32)
    return values[picked.astype(np.intp)].reshape(rows, len(values))


def _studentized(rows: Numbers) -> tuple[Numbers, Numbers]:
    """Mean over its standard error, and that error, of each row.

    A row of equal values is infinitely far off, or not at all.
    """
    means = rows.mean(axis=1)
    squares = np.einsum("ij,ij->i", rows, rows) / rows.shape[1] - means**2
    errors = np.sqrt(np.maximum(squares, 0) / (rows.shape[1] - 1))
    errors[errors <= _SMALL] = 0
    far = np.where(np.abs(means) > _SMALL, np.copysign(np.inf, means), 0.0)
    return np.divide(means, errors, out=far, where=errors > 0), errors


def smallest_gain(queries: int, spread: float, min_gain: float) -> float | None:
    """Smallest true gain that is found to be real with probability 0.8.

    With n queries and `spread`, the standard deviation of a query's difference, it is the larger
    of t(1 - a) x spread / sqrt(n), which makes p small enough, and min_gain, which makes the
    estimate large enough; plus t(0.82) x spread / sqrt(n) + 0.6 / n; rounded up to two digits.
    t(q) is the quantile of Student's distribution with n - 1 degrees of freedom, and a the share of
    sign assignments that may do as well: the largest multiple of 2 to the power of -n up to 0.05,
    0.0405 where signs are drawn. With 5 queries every one has to gain. None where not even that is
    enough, or where no gain is as large.
    """
    if queries < FEWEST_QUERIES:
        return None
    error = spread / math.sqrt(queries)
    margin = student(_AIM, queries - 1) * error
    if queries == FEWEST_QUERIES:
        threshold = spread * NormalDist().inv_cdf(_AIM ** (1 / queries)) - margin
    else:
        threshold = student(1 - _level(queries), queries - 1) * error
    gain = math.ceil(100 * (max(threshold, min_gain) + margin + _STEP / queries) - _TINY) / 100
    return gain if gain <= HIGHEST_SCORE - LOWEST_SCORE else None


def _level(queries: int) -> float:
    """Of the test: share of the sign assignments that may have a mean as high as the observed."""
    if queries > _ENUMERATED:
        return LARGEST_P - _SURE * math.sqrt(LARGEST_P * (1 - LARGEST_P) / _DRAWN)
    return math.floor(LARGEST_P * 2.0**queries) / 2.0**queries
