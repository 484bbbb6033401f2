"""The values a search is about: queries, aspects, candidates, samples, verdicts, rewards.

Small frozen types without behaviour beyond arithmetic; they know nothing of models, storage or
LangGraph. The words are those of docs/concepts.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

Role = Literal["target", "rewarder", "judge", "rewriter"]
"""Who a model call is for."""

ROLES: tuple[Role, ...] = ("target", "rewarder", "judge", "rewriter")

Origin = Literal["root", "rewrite", "skip", "carried", "arm"]
"""How a candidate came to be: `skip`, `carried` and `arm` repeat their parent's prompts."""

Kind = Literal["search", "examples", "align"]
"""What a run is: a search for a prompt, one for each example, or an alignment, which is both and a
validation."""

Part = Literal["train", "select", "confirm", "seed"]
"""Of a run's queries: for the prompt search, for choosing a challenger, for confirming its gain,
for optimizing an example. Disjoint."""

Prompts = Mapping[str, str]
"""The texts being optimized, by name; a chat model has one entry, `system`."""

ROOT = 0
"""Id of the candidate a run's prompt search starts from; a root counts in no path value."""
CANDIDATES_PER_SEARCH = 1_000_000
"""A run may hold several searches: number n has the candidates from n times this on, the first of
which is its root."""
PROMPT_SEARCH = 0
"""Number of the search for the prompt."""
ARMS = 1
"""In place of a search, what validation compares."""
FIRST_EXAMPLE_SEARCH = 2
"""Number of the first example's search; the others follow."""

LOWEST_SCORE = 1.0
HIGHEST_SCORE = 5.0


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation with a model."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class Query:
    """One training input."""

    ordinal: int
    """Position in the run's data, from 0: the query's id in state and tables."""
    id: str
    """The id the data file gives it."""
    messages: tuple[Message, ...]
    """The turns, the last one the user's; a plain text query has one."""
    tags: tuple[str, ...] = ()
    reference: str | None = None
    """An answer for the judge alone to compare with, not the only right one."""
    answer: str | None = None
    """A base answer, where the query is the seed of an example."""
    part: Part = "train"
    """What the run uses it for."""

    @property
    def text(self) -> str:
        """The query as one text: the turn itself, or every turn after the name of its speaker."""
        if len(self.messages) == 1:
            return self.messages[0].content
        return "\n\n".join(f"{turn.role}: {turn.content}" for turn in self.messages)


@dataclass(frozen=True, slots=True)
class Example:
    """A query with a good answer, shown to the target before the query it is asked."""

    query: str
    answer: str


@dataclass(frozen=True, slots=True)
class Aspect:
    """One quality of an answer."""

    name: str
    definition: str


@dataclass(frozen=True, slots=True)
class Selection:
    """The dynamic reward of one query: the aspects chosen for it, with the reason."""

    aspects: tuple[Aspect, ...]
    """Empty when no selection could be read; `reason` then says why."""
    reason: str
    notes: tuple[str, ...] = ()
    """What had to be corrected while reading it, e.g. an aspect without a definition."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """The texts being optimized, at one level of the search."""

    id: int
    """Ordinal in the run, from 0, in creation order."""
    level: int
    parent: int | None
    """Id of the candidate one level up; None for the root."""
    prompts: Prompts
    origin: Origin
    item: int | None = None
    """Which of its parent's rewrites it is; None where it is none."""

    def first_item(self, level: int, rewrites: int) -> int:
        """Number of its first rewrite at `level`: they are numbered on where it has several."""
        return (level - self.level - 1) * rewrites


@dataclass(frozen=True, slots=True)
class Sample:
    """The target's answer to one query under one candidate."""

    text: str
    failure: str | None = None
    """Why there is no answer; `text` is then empty."""


@dataclass(frozen=True, slots=True)
class Score:
    """The judge's word on one aspect of one sample."""

    aspect: str
    value: float | None
    """1-5, higher is better; None when unscored."""
    rationale: str = ""
    unscored: str | None = None
    """Why there is no value."""
    spread: float | None = None
    """Highest minus lowest, where the judge was asked several times; `value` is then the mean."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judge's scores and rationales for one sample."""

    scores: tuple[Score, ...]
    unscored: str | None = None
    """Why the whole verdict could not be read; `scores` is then empty."""
    notes: tuple[str, ...] = ()
    """What was ignored while reading it, e.g. an aspect nobody asked for."""

    @property
    def values(self) -> tuple[float, ...]:
        """The valid scores, in the verdict's order."""
        return tuple(score.value for score in self.scores if score.value is not None)

    @property
    def reward(self) -> float | None:
        """Mean of the valid scores, 1-5; None when nothing is valid."""
        return mean(self.values)


@dataclass(frozen=True, slots=True)
class Rewrite:
    """New prompts in place of a candidate's, or the reason why there are none."""

    prompts: Prompts | None
    failure: str | None = None
    author: str | None = None
    """The person who wrote it in the rewriter's place; no guard stands in their way."""
    item: int = field(default=-1, compare=False)
    """Its number among its parent's rewrites, once it is stored."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one candidate answered to one query, and what the judge said."""

    candidate: int
    query: int
    sample: Sample
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to answer that validation compares with others."""

    candidate: int
    """Its own id, under which its samples and verdicts are stored."""
    name: str
    prompt: int
    """The candidate of the prompt search whose prompts it has."""
    with_examples: bool
    """Whether the target is shown examples."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What an arm's sample was worth."""

    arm: int
    query: int
    repeat: int
    reward: float | None
    """1-5; None where it is unscored."""
    unscored: str | None
    """Why the whole verdict could not be read."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one candidate stands at its level."""

    candidate: int
    reward: float | None
    """Of the candidate at its level, 1-5; None when no query of the level gave one."""
    scores: tuple[float, ...]
    """Every valid score it got at the level, over all queries."""
    path_sum: float
    """Rewards of the path after the root, added from left to right."""
    path_count: int
    """How many rewards `path_sum` adds."""

    @property
    def path_value(self) -> float:
        """Mean reward over the path after the root, 1-5; 0.0 where the path has none yet."""
        return self.path_sum / self.path_count if self.path_count else 0.0


@dataclass(frozen=True, slots=True)
class Decision:
    """Why something was kept, dropped or carried on."""

    node: str
    level: int
    candidate: int
    """The candidate decided on; for a rewrite that was refused, its parent."""
    item: int
    """Index of the rewrite among its parent's; -1 where the decision is about the candidate."""
    action: str
    reason: str


@lru_cache(maxsize=4096)
def folded(aspect: str) -> str:
    """An aspect's name as its identity: `critical thinking` and `Critical-Thinking` are one."""
    return re.sub(r"[\W_]+", "", aspect).casefold()


def is_root(candidate: int) -> bool:
    """Whether the candidate is the one its search starts from."""
    return candidate % CANDIDATES_PER_SEARCH == 0


def mean(values: Iterable[float]) -> float | None:
    """Left-to-right addition and one division; None for no values.

    Never the built-in `sum`: from Python 3.12 on it compensates, which changed path values and
    even a beam of the paper's recorded runs.
    """
    total, count = 0.0, 0
    for value in values:
        total += value
        count += 1
    return total / count if count else None
