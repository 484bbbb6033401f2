"""Reward arithmetic, strategies and the order of queries."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import pytest

from drpo.conf.schema import SearchSettings
from drpo.graph.order import FixedOrder, SeededOrder
from drpo.graph.strategies import (
    STRATEGIES,
    best_first,
    keep_widest,
    longest_search,
    stop_at_limit,
)
from drpo.graph.values import Evaluation, Message, Query, Sample, Score, Standing, Verdict, mean
from drpo.nodes.advance import extended, skip_reason, standing
from drpo.settings import compose_settings


def test_the_mean_adds_from_left_to_right() -> None:
    """Where compensated summation gives another number, ours is the plain one."""
    values = [0.1] * 10
    assert math.fsum(values) / 10 == 0.1
    assert mean(values) == 0.09999999999999999


def test_the_mean_of_nothing_is_none() -> None:
    """Never 0."""
    assert mean([]) is None


def test_a_reward_counts_valid_scores_only() -> None:
    """An unscored aspect is left out of the mean."""
    scores = (Score("a", 5), Score("b", None, unscored="N/A"), Score("c", 2))
    assert Verdict(scores).reward == 3.5
    assert Verdict((Score("b", None, unscored="N/A"),)).reward is None


def at(candidate: int, value: float, reward: float | None = 1.0) -> Standing:
    return Standing(candidate, reward, (), value, 1)


def test_the_beam_is_the_first_of_a_stable_order() -> None:
    """Ties keep creation order."""
    standings = [at(1, 3), at(2, 4), at(3, 4), at(4, 2)]
    assert [s.candidate for s in best_first(standings)] == [2, 3, 1, 4]
    assert [s.candidate for s in keep_widest(standings, 2, [])] == [2, 3]


def test_no_reward_sorts_behind_every_reward() -> None:
    """However good its path was."""
    standings = [at(1, 5, None), at(2, 1), at(3, 4.9, None)]
    assert [s.candidate for s in best_first(standings)] == [2, 1, 3]


def test_greedy_keeps_one_whatever_the_width() -> None:
    """The three functions of a strategy are all that differs."""
    assert len(STRATEGIES["greedy"].keep([at(1, 3), at(2, 4)], 5, [])) == 1


def scored(candidate: int, reward: float | None) -> Standing:
    return Standing(candidate, reward, (), 0.0, 0)


@pytest.mark.parametrize(
    ("beam", "level", "kept"),
    [
        ([], [(0, 3.0)], 0),
        ([(0, 3.0)], [(1, 3.5)], 1),
        ([(0, 3.0)], [(1, 2.5)], 0),
        ([(0, 3.0)], [(1, 3.0)], 1),
        ([(0, 3.0)], [(1, None)], 0),
        ([(0, None)], [(1, 1.0)], 1),
        ([(0, None)], [(1, None)], 0),
        ([(0, 3.0)], [(1, 4.0), (2, 4.0), (3, 2.0)], 2),
    ],
)
def test_an_example_search_keeps_the_best_reward_so_far(
    beam: list[tuple[int, float | None]], level: list[tuple[int, float | None]], kept: int
) -> None:
    """Of equals the newest; one without a reward beats nobody."""
    earlier, standings = ([scored(*each) for each in these] for these in (beam, level))
    examples = STRATEGIES["examples"]
    assert [at.candidate for at in examples.keep(standings, 1, earlier)] == [kept]
    assert examples.answer(standings, earlier).candidate == kept


@pytest.mark.parametrize(
    ("level", "rewards", "stops"),
    [
        (0, [], False),
        (0, [5.0], True),
        (1, [4.9, 4.8], False),
        (1, [5.0, 4.8], True),
        (1, [None], False),
        (5, [], True),
        (5, [3.0], True),
    ],
)
def test_an_example_search_stops_at_its_limit_or_where_every_score_is_5(
    level: int, rewards: list[float | None], stops: bool
) -> None:
    """Before anybody is evaluated only the limit can be known."""
    standings = [scored(number, reward) for number, reward in enumerate(rewards)]
    assert STRATEGIES["examples"].stop(level, 6, None, standings) is stops
    assert longest_search(STRATEGIES["examples"], 6, None) == 6


def test_other_strategies_do_not_stop_at_a_perfect_candidate() -> None:
    """It is skipped there."""
    others = [each for name, each in STRATEGIES.items() if name != "examples"]
    assert not any(each.stop(0, 6, None, [scored(0, 5.0)]) for each in others)


@pytest.mark.parametrize("root", [0, 3_000_000])
def test_every_search_has_a_root_of_its_own(root: int, quick: SearchSettings) -> None:
    """It counts in no path, and is not what the root's rewrites are compared with."""
    assert standing(root, [judged(root, 4)], (0.0, 0), quick).path_count == 0
    assert standing(root + 1, [judged(root + 1, 4)], (0.0, 0), quick).path_count == 1
    found = STRATEGIES["monte_carlo"].answer([at(root + 1, 2)], [at(root, 3)])
    assert found.candidate == root + 1


@pytest.mark.parametrize(
    ("level", "limit", "queries", "stops"),
    [(18, 20, None, False), (19, 20, None, True), (4, 20, 5, True), (3, 20, 5, False)],
)
def test_a_path_ends_at_the_limit_or_with_the_queries(
    level: int, limit: int, queries: int | None, stops: bool
) -> None:
    """Path length is level + 1."""
    assert stop_at_limit(level, limit, queries) is stops


@pytest.fixture
def paper() -> SearchSettings:
    return compose_settings(["search=paper"]).search


@pytest.fixture
def quick() -> SearchSettings:
    return compose_settings(["search=quick"]).search


def judged(candidate: int, *scores: float | None) -> Evaluation:
    said = tuple(Score("a", score, unscored=None if score else "N/A") for score in scores)
    return Evaluation(candidate, 0, Sample("answer"), Verdict(said))


def test_a_path_adds_its_rewards_but_not_the_roots(quick: SearchSettings) -> None:
    """The root has a reward and no path value."""
    root = standing(0, [judged(0, 4)], (0.0, 0), quick)
    assert (root.reward, root.path_value, root.path_count) == (4.0, 0.0, 0)
    child = standing(3, [judged(3, 4), judged(3, 2)], (2.5, 1), quick)
    assert (child.reward, child.path_sum, child.path_count) == (3.0, 5.5, 2)


def test_an_unreadable_verdict_is_nothing_or_in_the_paper_zero(
    quick: SearchSettings, paper: SearchSettings
) -> None:
    """And it is a skip in the paper's preset alone."""
    ours, theirs = (standing(1, [judged(1)], (4.0, 1), each) for each in (quick, paper))
    assert (ours.reward, ours.path_sum, ours.path_count) == (None, 4.0, 1)
    assert (theirs.reward, theirs.path_sum, theirs.path_count) == (0.0, 4.0, 2)
    assert skip_reason(ours, quick) is None
    assert skip_reason(theirs, paper)


@pytest.mark.parametrize(
    ("scores", "skipped"), [((5, 5), True), ((5, 4), False), ((5, 5, 4), True), ((4.5,), False)]
)
def test_a_skip_needs_all_fives_or_more_than_the_threshold(
    scores: tuple[float, ...], skipped: bool, paper: SearchSettings
) -> None:
    """Exactly 4.5 is not above 4.5."""
    found = skip_reason(standing(1, [judged(1, *scores)], (0.0, 0), paper), paper)
    assert bool(found) is skipped


def test_a_level_with_skips_extends_by_one_up_to_the_most(paper: SearchSettings) -> None:
    """Two skips are one level."""
    assert (extended(20, 0, paper), extended(20, 2, paper), extended(30, 1, paper)) == (20, 21, 30)


def order(
    count: int,
    *,
    per_level: int = 1,
    seed: int = 0,
    among: Sequence[int] | None = None,
    **options: bool,
) -> SeededOrder:
    queries = [Query(n, str(n), (Message("user", str(n)),)) for n in range(count)]
    chosen = {"shuffle": True, "recycle": True} | options
    return SeededOrder(queries, per_level=per_level, seed=seed, among=among, **chosen)


@pytest.mark.parametrize(("count", "per_level"), [(5, 1), (5, 2), (5, 3), (5, 5), (7, 4), (4, 3)])
def test_no_level_sees_a_query_twice_and_rounds_are_fair(count: int, per_level: int) -> None:
    """Also in a level that spans two rounds."""
    sees = order(count, per_level=per_level)
    levels = [sees.at(level) for level in range(60)]
    assert all(len(set(level)) == per_level for level in levels)
    times = Counter(query for level in levels for query in level)
    assert max(times.values()) - min(times.values()) <= 1


def test_an_order_depends_on_the_seed_alone() -> None:
    """Not on which level was asked for first."""
    forward = [order(9).at(level) for level in range(30)]
    late = order(9)
    assert [late.at(level) for level in reversed(range(30))] == forward[::-1]
    assert forward != [order(9, seed=1).at(level) for level in range(30)]


def test_without_recycling_the_queries_end() -> None:
    """Five queries are two levels of two."""
    sees = order(5, per_level=2, recycle=False, shuffle=False)
    assert sees.levels == 2
    assert [sees.at(level) for level in range(3)] == [[0, 1], [2, 3], []]


def test_an_order_among_some_of_the_queries_sees_no_others() -> None:
    """In the order that they would have by themselves; all queries stay known."""
    chosen = [2, 3, 5, 7, 11]
    sees, alone = order(12, per_level=2, among=chosen), order(5, per_level=2)
    levels = [sees.at(level) for level in range(9)]
    assert levels == [[chosen[each] for each in alone.at(level)] for level in range(9)]
    assert len(sees.queries) == 12
    assert order(12, per_level=2, among=chosen, recycle=False).levels == 2


def test_the_default_order_is_the_one_of_stored_runs() -> None:
    """A fixed one: forks and replays of old runs rely on it."""
    sees = order(5, per_level=2, seed=7)
    assert [sees.at(level) for level in range(5)] == [[2, 0], [4, 3], [1, 2], [1, 0], [4, 3]]


def test_a_fixed_order_gives_one_query_for_ever() -> None:
    """At every level the same."""
    queries = order(3).queries
    sees = FixedOrder(queries, 2)
    assert (sees.queries, sees.levels) == (queries, None)
    assert [sees.at(level) for level in (0, 1, 99)] == [[2], [2], [2]]
