"""Search strategies: whom to keep, when to stop, whom to return.

A strategy is three pure functions and nothing else; searches differ in them and in no node.
`None` rewards sort last and never beat a scored candidate; ties keep creation order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from drpo.graph.values import Standing


@dataclass(frozen=True, slots=True)
class Strategy:
    """How a search chooses."""

    keep: Callable[[Sequence[Standing], int], list[Standing]]
    """Of a level's standings in creation order, at most `width`, best first."""
    stop: Callable[[int, int, int | None], bool]
    """Whether the candidates of this level are terminal, given the limit at its entry and how
    many levels the queries last (None: for ever)."""
    answer: Callable[[Sequence[Standing]], Standing]
    """Which of the terminal standings the search returns."""


def best_first(standings: Sequence[Standing]) -> list[Standing]:
    """Stable descending order by path value; those without a reward last."""
    return sorted(standings, key=lambda at: (at.reward is None, -at.path_value))


def keep_widest(standings: Sequence[Standing], width: int) -> list[Standing]:
    """The first `width` by path value."""
    return best_first(standings)[:width]


def keep_one(standings: Sequence[Standing], _: int) -> list[Standing]:
    """The first by path value, whatever the width."""
    return best_first(standings)[:1]


def stop_at_limit(level: int, limit: int, levels_of_queries: int | None) -> bool:
    """Path length (level + 1) has reached the limit, or the queries end here."""
    last = limit if levels_of_queries is None else min(limit, levels_of_queries)
    return level + 1 >= last


def answer_best(standings: Sequence[Standing]) -> Standing:
    """The best path value among the terminal ones; the earlier one where they tie."""
    return best_first(standings)[0]


STRATEGIES: Mapping[str, Strategy] = {
    "beam": Strategy(keep=keep_widest, stop=stop_at_limit, answer=answer_best),
    "greedy": Strategy(keep=keep_one, stop=stop_at_limit, answer=answer_best),
}
