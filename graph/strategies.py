"""Search strategies: whom to keep, when to stop, whom to return.

A strategy is three pure functions and nothing else; searches differ in them and in no node.
`None` rewards sort last and never beat a scored candidate; ties keep creation order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from drpo.graph.values import ROOT, Standing


@dataclass(frozen=True, slots=True)
class Strategy:
    """How a search chooses."""

    keep: Callable[[Sequence[Standing], int, Sequence[Standing]], list[Standing]]
    """Of a level's standings in creation order and of the previous beam's, at most `width`, best
    first: whom the next level rewrites."""
    stop: Callable[[int, int, int | None], bool]
    """Whether the candidates of this level are terminal, given the limit at its entry and how
    many levels the queries last (None: for ever)."""
    answer: Callable[[Sequence[Standing], Sequence[Standing]], Standing]
    """Which standing the search returns, of the terminal ones and of those of earlier levels."""


def best_first(standings: Sequence[Standing]) -> list[Standing]:
    """Stable descending order by path value; those without a reward last."""
    return sorted(standings, key=lambda at: (at.reward is None, -at.path_value))


def keep_widest(standings: Sequence[Standing], width: int, _: Sequence[Standing]) -> list[Standing]:
    """The first `width` by path value."""
    return best_first(standings)[:width]


def keep_one(standings: Sequence[Standing], _: int, __: Sequence[Standing]) -> list[Standing]:
    """The first by path value, whatever the width."""
    return best_first(standings)[:1]


def keep_beam(standings: Sequence[Standing], _: int, beam: Sequence[Standing]) -> list[Standing]:
    """The beam there is, at level 0 the root: nobody's offspring is ever rewritten."""
    return list(beam or standings)


def stop_at_limit(level: int, limit: int, levels_of_queries: int | None) -> bool:
    """Path length (level + 1) has reached the limit, or the queries end here."""
    last = limit if levels_of_queries is None else min(limit, levels_of_queries)
    return level + 1 >= last


def stop_at_first(level: int, _: int, levels_of_queries: int | None) -> bool:
    """The first rewrites are the last, whatever the limit, or the queries end before them."""
    return stop_at_limit(level, 2, levels_of_queries)


def answer_best(standings: Sequence[Standing], _: Sequence[Standing]) -> Standing:
    """The best path value among the terminal ones; the earlier one where they tie."""
    return best_first(standings)[0]


def answer_best_ever(standings: Sequence[Standing], earlier: Sequence[Standing]) -> Standing:
    """The best path value of all levels, the earlier where they tie; the root if it is alone."""
    offspring = [at for at in (*earlier, *standings) if at.candidate != ROOT]
    return best_first(offspring or standings)[0]


def longest_search(strategy: Strategy, limit: int, levels_of_queries: int | None) -> int:
    """How many levels a search has whose level limit is never above `limit`."""
    return next(n + 1 for n in count() if strategy.stop(n, limit, levels_of_queries))


STRATEGIES: Mapping[str, Strategy] = {
    "beam": Strategy(keep=keep_widest, stop=stop_at_limit, answer=answer_best),
    "greedy": Strategy(keep=keep_one, stop=stop_at_limit, answer=answer_best),
    "monte_carlo": Strategy(keep=keep_beam, stop=stop_at_limit, answer=answer_best_ever),
    "best_of_n": Strategy(keep=keep_one, stop=stop_at_first, answer=answer_best),
}
