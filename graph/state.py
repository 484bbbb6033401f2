"""The state of a search: ids and scalars only, because LangGraph writes it at every superstep.

Texts live once, content-addressed, in the run's tables. The per-level list `rewritten` clears
itself after one superstep and is absent when empty, so it is read with `.get`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, NotRequired, TypedDict

from langgraph.channels import Topic

from drpo.graph.values import Sample


class Rewritten(TypedDict):
    """A readable rewrite on its way from `rewrite` to `admit`."""

    parent: int
    index: int
    """Position among its parent's rewrites."""
    prompts: dict[str, str]
    """sha256 of each text, by name."""
    call: str
    """Ledger key of the rewriter's call; empty where a scripted caller answered."""


class SearchState(TypedDict):
    """One search between two supersteps."""

    level: int
    level_limit: int
    """Number of states on a finished path, extensions so far included."""
    beam: list[int]
    """Candidates that survived the previous level, in beam order."""
    skips: list[int]
    """Members of the beam that are carried on unchanged."""
    candidates: list[int]
    """Candidates of this level, in creation order."""
    next_candidate: int
    """The ordinal the next new candidate gets."""
    answer: NotRequired[int]
    """The candidate the search returns; present once it is over."""
    rewritten: NotRequired[Annotated[Sequence[Rewritten], Topic(Rewritten, accumulate=False)]]


class SearchUpdate(TypedDict, total=False):
    """What a node changes of a search's state."""

    level: int
    level_limit: int
    beam: list[int]
    skips: list[int]
    candidates: list[int]
    next_candidate: int
    answer: int
    rewritten: list[Rewritten]


class QueryTask(TypedDict):
    """What `Send` carries to `select_rewards`."""

    level: int
    query: int


class RewriteTask(TypedDict):
    """What `Send` carries to `rewrite`."""

    candidate: int


class EvaluateTask(TypedDict):
    """What `Send` carries to `evaluate`."""

    candidate: int
    query: int


class EvaluationState(TypedDict):
    """Of the evaluation graph; lives for one evaluation and is never written to a checkpoint."""

    candidate: int
    query: int
    level: int
    sample: Sample


class EvaluationUpdate(TypedDict, total=False):
    """What a node changes of an evaluation's state."""

    level: int
    sample: Sample
