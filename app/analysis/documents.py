"""What `drpo.insights` tells, as types: the meaning, unit and scale of every figure. JSON-able."""

from __future__ import annotations

from typing import TypedDict

from drpo.analysis.instructions import Answered


class Figures(TypedDict):
    """Scores of an aspect, averaged per query first; intervals are of 95 %, over queries."""

    queries: int
    scores: int
    unscored: int
    mean: float | None
    """1-5; None without a score."""
    mean_interval: list[float] | None
    """Both ends; None where there are too few queries, or where all are equal."""
    low: int
    """Scores below 4."""
    low_share: float | None
    """0-1."""
    low_share_interval: list[float] | None


class Group(TypedDict):
    """Rationales of low scores that say much the same."""

    text: str
    """The one that is most like the others."""
    query: str
    """Id of the query that it is about."""
    scores: int
    queries: int


class Rationales(TypedDict):
    """What was said of an aspect's low scores."""

    grouped: int
    """Low scores whose rationales were grouped."""
    groups: list[Group]
    """Of most queries first."""


class AspectFigures(TypedDict):
    """One aspect under all candidates, under the root, and on the best path without it."""

    aspect: str
    """As most verdicts write it."""
    key: str
    """Its identity."""
    all: Figures
    root: Figures
    path: Figures
    rationales: Rationales
    answered: Answered | None
    """None where no parent was low in it."""


class Weakest(TypedDict):
    """The aspect that scored least."""

    aspect: str
    mean: float
    """1-5."""


class HardQuery(TypedDict):
    """A query whose answers stay low, whatever the prompt was."""

    query: str
    """Its id."""
    text: str
    tags: list[str]
    candidates: int
    mean: float
    """Mean reward of all answers, 1-5."""
    best: float
    unscored: int
    """Answers without a reward."""
    weakest: Weakest


class Unscored(TypedDict):
    """Verdicts without a valid score, by their reason."""

    reason: str
    verdicts: int


class RunInsights(TypedDict):
    """Of one run."""

    run_id: str
    status: str
    kind: str
    simulated: bool
    models: dict[str, str]
    """By role."""
    best: int | None
    """Its best candidate."""
    candidates: int
    queries: int
    verdicts: int
    left_out: int
    """Verdicts of other searches and of validation, which count nowhere."""
    unscored: list[Unscored]
    aspects: list[AspectFigures]
    """The weakest first; those of few queries behind them."""
    hard: list[HardQuery]
    """The hardest first."""


class Difference(TypedDict):
    """Mean of a run less that of the first one."""

    mean: float
    interval: list[float] | None


class SharedAspect(TypedDict):
    """One that more than one run has."""

    aspect: str
    key: str
    runs: list[Figures | None]
    """In the order of the runs; None for one that does not have it."""
    differences: list[Difference | None]
    """Of each run but the first."""


class Insights(TypedDict):
    """What `insights` tells; JSON-able."""

    low_below: float
    runs: list[RunInsights]
    shared: list[SharedAspect]
    """The one first that is weakest in any run."""
    cautions: list[str]
    """What the figures do not say."""
