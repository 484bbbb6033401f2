"""Search strategies: whom to keep, when to stop, whom to return.

A strategy is three pure functions; whom a search rewrites differs in them and in no node.
`None` rewards sort last and never beat a scored candidate; ties keep creation order, but for those
of an example search.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Literal

from drpo.graph.values import HIGHEST_SCORE, Standing, is_root


@dataclass(frozen=True, slots=True)
class Strategy:
    """How a search chooses."""

    keep: Callable[[Sequence[Standing], int, Sequence[Standing]], list[Standing]]
    """Of a level's standings in creation order and of the previous beam's, at most `width`, best
    first: whom the next level rewrites."""
    stop: Callable[[int, int, int | None, Sequence[Standing]], bool]
    """Whether the candidates of this level are terminal, given the limit at its entry, how many
    levels the queries last (None: for ever), and where the previous beam and this level stand
    (nobody, before they are evaluated)."""
    answer: Callable[[Sequence[Standing], Sequence[Standing]], Standing]
    """Which standing the search returns, of the terminal ones and of those of earlier levels."""
    ranks_by: Literal["path value", "reward"] = "path value"
    """What `keep` and `answer` compare, for the words of their decisions."""

    def worth(self, at: Standing) -> float | None:
        """What it is compared by, 1-5; None where it has none."""
        return at.path_value if self.ranks_by == "path value" else at.reward


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


def keep_best_so_far(
    standings: Sequence[Standing], _: int, beam: Sequence[Standing]
) -> list[Standing]:
    """The best reward of the beam there is and of this level."""
    return [best_so_far((*beam, *standings))]


def best_so_far(standings: Sequence[Standing]) -> Standing:
    """By reward, all being of one query and selection; of equals the newest.

    One without a reward beats nobody: nothing speaks for it.
    """
    best, *others = standings
    for at in others:
        if at.reward is not None and (best.reward is None or at.reward >= best.reward):
            best = at
    return best


def stop_at_limit(
    level: int, limit: int, levels_of_queries: int | None, _: Sequence[Standing] = ()
) -> bool:
    """Path length (level + 1) has reached the limit, or the queries end here."""
    last = limit if levels_of_queries is None else min(limit, levels_of_queries)
    return level + 1 >= last


def stop_at_first(
    level: int, _: int, levels_of_queries: int | None, __: Sequence[Standing] = ()
) -> bool:
    """The first rewrites are the last, whatever the limit, or the queries end before them."""
    return stop_at_limit(level, 2, levels_of_queries)


def stop_at_perfect(
    level: int, limit: int, levels_of_queries: int | None, standings: Sequence[Standing]
) -> bool:
    """At the limit, or as soon as every valid score of the best is 5."""
    perfect = bool(standings) and best_so_far(standings).reward == HIGHEST_SCORE
    return perfect or stop_at_limit(level, limit, levels_of_queries)


def answer_best(standings: Sequence[Standing], _: Sequence[Standing]) -> Standing:
    """The best path value among the terminal ones; the earlier one where they tie."""
    return best_first(standings)[0]


def answer_best_ever(standings: Sequence[Standing], earlier: Sequence[Standing]) -> Standing:
    """The best path value of all levels, the earlier where they tie; the root if it is alone."""
    offspring = [at for at in (*earlier, *standings) if not is_root(at.candidate)]
    return best_first(offspring or standings)[0]


def answer_best_so_far(standings: Sequence[Standing], earlier: Sequence[Standing]) -> Standing:
    """The best reward of all levels; of equals the newest."""
    return best_so_far((*earlier, *standings))


def longest_search(strategy: Strategy, limit: int, levels_of_queries: int | None) -> int:
    """How many levels a search has whose level limit is never above `limit`."""
    return next(n + 1 for n in count() if strategy.stop(n, limit, levels_of_queries, ()))


STRATEGIES: Mapping[str, Strategy] = {
    "beam": Strategy(keep=keep_widest, stop=stop_at_limit, answer=answer_best),
    "greedy": Strategy(keep=keep_one, stop=stop_at_limit, answer=answer_best),
    "monte_carlo": Strategy(keep=keep_beam, stop=stop_at_limit, answer=answer_best_ever),
    "best_of_n": Strategy(keep=keep_one, stop=stop_at_first, answer=answer_best),
    "examples": Strategy(
        keep=keep_best_so_far,
        stop=stop_at_perfect,
        answer=answer_best_so_far,
        ranks_by="reward",
    ),
}
