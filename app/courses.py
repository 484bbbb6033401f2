"""How a run may go, in calls per role: at the least, as expected, and at the most.

Pure arithmetic on settings and the number of queries. Knows nothing of tokens, prices or time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from drpo.conf.schema import Settings
from drpo.graph.strategies import STRATEGIES, longest_search
from drpo.graph.values import ROLES, Query, Role

SKIPPED = 0.05
"""Expected share of the survivors that are carried on without a rewrite."""
WITHOUT_CALLS = 0.15
"""Expected share of the rewrites that nobody is asked about: a guard refuses them, or they repeat
another one and the ledger answers. Both shares are rounded from searches on the sandbox."""

LEAST_PART = 0.01
"""Of a level; less than that is not counted."""


@dataclass(frozen=True, slots=True)
class Course:
    """One way a search may go."""

    levels: float
    calls: Mapping[Role, float]

    @property
    def total(self) -> float:
        """Calls of all roles."""
        return sum(self.calls.values())

    def __add__(self, other: Course) -> Course:
        """One after the other."""
        calls: dict[Role, float] = {
            role: self.calls[role] + other.calls[role] for role in self.calls
        }
        return Course(self.levels + other.levels, calls)

    def within(self, budget: int | None) -> Course:
        """As much of it as the budget allows."""
        if budget is None or self.total <= budget:
            return self
        part = budget / self.total
        return Course(self.levels * part, {role: self.calls[role] * part for role in self.calls})

    def alone(self, budget: int | None) -> dict[Role, float]:
        """Calls of each role where the others leave it the whole budget."""
        return {
            role: calls if budget is None else min(calls, budget)
            for role, calls in self.calls.items()
        }


_NOTHING = Course(0, dict.fromkeys(ROLES, 0))


class Courses:
    """The courses of one search, before its budget."""

    def __init__(self, settings: Settings, queries: int, levels_of_queries: int | None) -> None:
        """`levels_of_queries` is how many levels the queries last; None for ever."""
        self._search = settings.search
        self._queries = queries
        self._dynamic = settings.rewards.kind == "dynamic"
        self._asks = 1 if settings.models.rewriter.multiple else settings.search.rewrites
        several = settings.models.judge.multiple
        self._verdicts = 1 if several else settings.judge.samples
        strategy, levels = STRATEGIES[self._search.strategy], self._search.levels
        # Where the root is terminal, nothing can be skipped.
        limit = levels + self._search.max_extension if levels > 1 else levels
        self._last = longest_search(strategy, limit, levels_of_queries)
        self._first = longest_search(strategy, levels, levels_of_queries)

    def least(self) -> tuple[Course, ...]:
        """Every survivor skipped from the root on, or never a skip and never a new prompt.

        Of all searches in which every reply can be read, one of the two takes the fewest calls: the
        prompt stays the root's, so each query is asked once. A skip saves a rewrite and costs a
        level, but only as long as the search can still get longer.
        """
        skipped = self._course(self._last, self._distinct(self._last), 0)
        refused = self._course(self._first, self._distinct(self._first), self._first - 1)
        return skipped, refused

    def expected(self) -> Course:
        """With the usual shares of skips and of rewrites that come to nothing."""
        search = self._search
        limit, level = float(self._first), 0.0
        survivors, evaluated, rewritten = 1.0, 1.0, 0.0
        # A limit between two levels stands for a search that sometimes has the last one.
        while (part := min(1.0, limit - (level + 1))) > LEAST_PART:
            renewed = survivors * (1 - SKIPPED)
            new = max(1.0, search.rewrites * (1 - WITHOUT_CALLS))
            candidates = survivors * SKIPPED + renewed * new
            rewritten += part * renewed
            evaluated += part * candidates
            limit = min(limit + part * (1 - (1 - SKIPPED) ** survivors), self._last)
            survivors = min(float(search.width), candidates)
            level += part
        return self._course(level + 1, search.queries_per_level * evaluated, rewritten)

    def most(self) -> Course:
        """Full beams, every rewrite admitted, and no skip but those that make it this long."""
        search = self._search
        survivors, evaluated, rewritten = 1, 1, 0
        for _ in range(self._last - 1):
            rewritten += survivors
            evaluated += survivors * search.rewrites
            survivors = min(search.width, survivors * search.rewrites)
        skips = self._last - self._first
        evaluated -= skips * (search.rewrites - 1)
        return self._course(self._last, search.queries_per_level * evaluated, rewritten - skips)

    def _course(self, levels: float, answers: float, rewritten: float) -> Course:
        return Course(
            levels,
            {
                "target": round(answers),
                "rewarder": round(self._distinct(levels)) if self._dynamic else 0,
                "judge": round(answers * self._verdicts),
                "rewriter": round(rewritten * self._asks),
            },
        )

    def _distinct(self, levels: float) -> float:
        """How many different queries so many levels see."""
        return min(levels * self._search.queries_per_level, self._queries)


class StageCourses:
    """The courses of what an alignment does beside its search for a prompt.

    Levels are steps that wait for one another.
    """

    def __init__(self, settings: Settings, queries: Sequence[Query]) -> None:
        self._settings = settings
        self._count = Counter(query.part for query in queries)
        self._unanswered = sum(q.part == "seed" and q.answer is None for q in queries)
        self._dynamic = settings.rewards.kind == "dynamic"
        several = settings.models.judge.multiple
        self._verdicts = 1 if several else settings.judge.samples
        self._shown = settings.retrieval.k > 0 and (
            self._count["seed"] > 0 or settings.retrieval.path is not None
        )

    def least(self) -> Course:
        """No answer can be made better, and no other prompt was found."""
        confirmed = self._compared("confirm", 2) if self._shown else _NOTHING
        return self._examples(0) + confirmed

    def most(self) -> Course:
        """Every example is rewritten to the last, and every challenger is compared."""
        challengers = self._settings.validation.challengers
        arms = 2 * challengers + 1 if self._shown else challengers
        chosen = self._compared("select", arms) if arms > 1 else _NOTHING
        rounds = self._settings.examples.rounds
        return self._examples(rounds) + chosen + self._compared("confirm", 4 if self._shown else 2)

    def _examples(self, rounds: int) -> Course:
        seeds = self._count["seed"]
        return Course(
            1 + 2 * rounds if seeds else 0,
            {
                "target": self._unanswered,
                "rewarder": seeds if self._dynamic else 0,
                "judge": seeds * (1 + rounds) * self._verdicts,
                "rewriter": seeds * rounds,
            },
        )

    def _compared(self, part: Literal["select", "confirm"], arms: int) -> Course:
        answers = self._count[part] * arms * self._settings.validation.samples
        return Course(
            2 if answers else 0,
            {
                "target": answers,
                "rewarder": self._count[part] if self._dynamic else 0,
                "judge": answers * self._verdicts,
                "rewriter": 0,
            },
        )
