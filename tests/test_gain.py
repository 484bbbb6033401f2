"""Whether a gain is real: p, interval and smallest gain against what they are by definition."""

from __future__ import annotations

import itertools
import random

import pytest

from benchmarks.validation import WORLDS, false_gains, found_gains, upper_bound
from drpo.nodes.gain import Gain, differences, gain_of, smallest_gain
from drpo.nodes.student import student


def decided(values: list[float], min_gain: float = 0.1, seed: int = 1) -> Gain:
    return gain_of(values, min_gain=min_gain, seed=seed)


def by_brute_force(values: list[float]) -> float:
    signs = itertools.product((1, -1), repeat=len(values))
    means = [
        sum(s * value for s, value in zip(some, values, strict=True)) / len(values)
        for some in signs
    ]
    return sum(each >= means[0] - 1e-9 for each in means) / len(means)


def drawn(count: int, center: float = 0.0, seed: int = 0, step: float = 0.0) -> list[float]:
    rng = random.Random(seed)
    values = [rng.gauss(center, 0.8) for _ in range(count)]
    return [round(value / step) * step for value in values] if step else values


def test_samples_are_averaged_by_query() -> None:
    """In order of ordinals; the number of samples makes no query heavier."""
    challenger = {7: [4.0, 5.0], 2: [3.0]}
    assert differences(challenger, {2: [2.0, 2.5], 7: [4.0]}) == [0.75, 0.5]


def test_an_unscored_answer_is_the_worst_case() -> None:
    """Lowest for the challenger, highest for the root, and so is a query without an answer."""
    challenger: dict[int, list[float | None]] = {0: [None, 4.0], 1: [4.0], 2: []}
    root: dict[int, list[float | None]] = {0: [3.0], 1: [None, 3.0], 2: [3.0]}
    assert differences(challenger, root) == [-0.5, 0.0, -2.0]


def test_both_arms_answer_the_same_queries() -> None:
    """A difference needs two rewards."""
    with pytest.raises(ValueError, match="same queries"):
        differences({0: [3.0]}, {1: [3.0]})


def test_there_is_no_decision_without_queries() -> None:
    """Nothing is not a gain of 0."""
    with pytest.raises(ValueError, match="no queries"):
        decided([])


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9, 12])
@pytest.mark.parametrize("step", [0.0, 0.25, 1.0])
def test_p_counts_every_assignment_of_signs(count: int, step: float) -> None:
    """The same as by brute force, with ties and zeros and without."""
    for seed in range(5):
        values = drawn(count, 0.3, seed, step)
        assert decided(values).p == pytest.approx(by_brute_force(values), abs=1e-12)


def test_a_tie_counts_against_the_challenger() -> None:
    """Also where rounding hides it: 0.1 + 0.2 is no less than 0.3."""
    assert decided([1.0, -1.0]).p == 0.75
    assert decided([0.1, 0.2, -0.3]).p == by_brute_force([0.1, 0.2, -0.3]) == 0.625


@pytest.mark.parametrize(("count", "real"), [(1, False), (4, False), (5, True), (6, True)])
def test_five_gains_are_the_fewest_that_can_be_real(count: int, real: bool) -> None:
    """Four gains out of four have p = 1/16."""
    found = decided([1.0] * count)
    assert (found.p, found.real) == (2.0**-count, real)


@pytest.mark.parametrize("count", [1, 5, 40])
def test_no_difference_is_no_gain(count: int) -> None:
    """P is 1, and nothing can be said of the spread."""
    assert decided([0.0] * count) == Gain(count, 0, 0.0, 1.0, None, None, real=False)


def test_zero_differences_stay_in_the_estimate() -> None:
    """They change no p, but they make the gain smaller."""
    found = decided([1.0] * 6 + [0.0] * 94)
    assert (found.queries, found.differing, found.estimate) == (100, 6, 0.06)
    assert found.p == 2.0**-6
    assert not found.real
    assert decided([1.0] * 6 + [0.0] * 94, min_gain=0.06).real


def test_what_rounding_leaves_is_no_difference() -> None:
    """Means of the same rewards in another order may differ in the last digit."""
    assert decided([1e-16] * 40).differing == 0


def test_a_gain_of_exactly_the_least_is_enough() -> None:
    """Although ten times 0.1, added and divided by ten, is a little less."""
    assert decided([0.1] * 10, min_gain=0.1).real


def test_drawn_signs_are_near_all_signs() -> None:
    """With 17 differences there are too many to count; what is said is not below the truth."""
    values = drawn(17, 0.4, seed=3, step=0.25)
    exact = by_brute_force(values)
    assert exact <= decided(values).p <= exact + 0.02


def test_a_p_of_draws_is_never_zero() -> None:
    """However clear the gain; and it is a plain number, as every other, for storage."""
    found = decided([1.0 + 0.01 * at for at in range(200)])
    assert 0 < found.p < 0.003
    assert {type(value) for value in (found.p, found.estimate, found.low, found.high)} == {float}


def test_the_other_way_round_it_is_no_gain() -> None:
    """The test is one-sided, and the interval of the negated differences is the mirrored one."""
    values = drawn(50, 0.5)
    found, mirrored = decided(values), decided([-value for value in values])
    assert found.real
    assert not mirrored.real
    assert mirrored.p > 0.95
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low), abs=1e-9)  # type: ignore[operator]


def test_a_decision_depends_on_differences_and_seed_alone() -> None:
    """The same again, and with another seed nearly the same."""
    values = drawn(80, 0.2)
    assert decided(values, seed=5) == decided(values, seed=5)
    assert decided(values, seed=5) != decided(values, seed=6)
    assert decided(values, seed=5).p == pytest.approx(decided(values, seed=6).p, abs=0.02)


@pytest.mark.parametrize(("differing", "quoted"), [(9, False), (10, True)])
def test_an_interval_needs_ten_queries_that_differ(differing: int, quoted: bool) -> None:
    """However many do not."""
    found = decided([0.5, 1.0, *[0.75] * (differing - 2), *[0.0] * 30])
    assert (found.low is not None) == (found.high is not None) == quoted


def test_equal_differences_have_no_interval() -> None:
    """Without any spread its width would be 0, which nobody should believe."""
    assert decided([1.0] * 12).low is None


def test_the_interval_stays_on_the_scale() -> None:
    """Few differences far apart make it wide, but no gain is above 4."""
    found = decided([4.0, -4.0] + [0.01 * at for at in range(1, 9)])
    assert found.low is not None
    assert found.high is not None
    assert -4 <= found.low < found.estimate < found.high <= 4


def test_the_interval_holds_the_true_gain_as_often_as_it_says() -> None:
    """Of skewed differences, too: in about 95 of 100 cases."""
    rng = random.Random(4)
    held = 0
    for case in range(300):
        found = decided([0.8 * rng.expovariate(1) - 0.5 for _ in range(40)], seed=case)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0.3 <= found.high
    assert 0.92 <= held / 300 <= 0.98


def test_thousands_of_queries_are_decided_in_pieces() -> None:
    """Draws and resamples that do not fit into one piece come to the same."""
    found = decided([*drawn(2_000, 0.2), *[0.0] * 1_000])
    assert (found.queries, found.differing, found.real) == (3_000, 2_000, True)
    assert found.low is not None
    assert found.high is not None
    error = 0.667 / 3_000**0.5
    assert found.low == pytest.approx(found.estimate - 1.96 * error, abs=0.005)
    assert found.high == pytest.approx(found.estimate + 1.96 * error, abs=0.005)


@pytest.mark.parametrize("candidates", [1, 3, 8])
@pytest.mark.parametrize("world", WORLDS[:4], ids=lambda world: world.name)
def test_a_gain_that_is_not_there_is_seldom_found(world: object, candidates: int) -> None:
    """However many candidates the challenger was the best of; the benchmark decides more often."""
    assert false_gains(world, candidates, 24, 200) <= 18  # type: ignore[arg-type]


@pytest.mark.parametrize("queries", [5, 6, 8, 15, 40, 150])
@pytest.mark.parametrize("spread", [0.4, 0.8])
def test_the_smallest_gain_is_found(queries: int, spread: float) -> None:
    """With probability 0.8; a series of 300 may have a little less by chance."""
    gain = smallest_gain(queries, spread, 0.1)
    assert gain is not None
    assert found_gains(queries, spread, gain, 0.25, 300) / 300 > 0.74


def test_four_queries_can_show_no_gain() -> None:
    """Whatever it is."""
    assert smallest_gain(4, 0.8, 0.1) is None
    assert smallest_gain(100, 0.8, 4.0) is None


def test_more_queries_show_smaller_gains_but_none_below_the_least() -> None:
    """With any number of queries `min_gain` has to be reached."""
    gains = [smallest_gain(queries, 0.8, 0.1) or 0.0 for queries in (5, 6, 10, 30, 100, 1_000)]
    assert gains == sorted(gains, reverse=True)
    assert smallest_gain(1_000_000, 0.8, 0.1) == pytest.approx(0.11)


@pytest.mark.parametrize(
    ("probability", "freedom", "quantile"),
    [
        (0.6, 1, 0.324919696),
        (0.9995, 1, 636.619248769),
        (0.995, 2, 9.924843201),
        (0.975, 4, 2.776445105),
        (0.95, 10, 1.812461123),
        (0.82, 39, 0.926274769),
        (0.975, 299, 1.967929669),
        (0.975, 300, 1.967903011),
        (0.9995, 300, 3.323251513),
        (0.6, 1_000, 0.253414516),
    ],
)
def test_quantiles_of_student(probability: float, freedom: int, quantile: float) -> None:
    """As scipy has them, of few and of many degrees of freedom."""
    assert student(probability, freedom) == pytest.approx(quantile, rel=1e-8)


def test_the_upper_bound_of_a_rate() -> None:
    """By Clopper and Pearson: no hit in n has 1 - 0.05^(1/n), and all hits have 1."""
    assert upper_bound(0, 20) == pytest.approx(1 - 0.05 ** (1 / 20))
    assert upper_bound(20, 20) == pytest.approx(1)
    assert upper_bound(100, 2_000) == pytest.approx(0.0588, abs=5e-5)
