"""The state of a search: ids and scalars only, because LangGraph writes it at every superstep.

Texts live once, content-addressed, in the run's tables, and so do rewrites, evaluations and
selections: what the nodes of one superstep leave for the next is found there by id.
"""

from __future__ import annotations

from typing import NotRequired, TypedDict

from drpo.graph.values import Sample


class SearchState(TypedDict):
    """One search between two supersteps."""

    level: int
    level_limit: int
    """Number of states on a finished path, extensions so far included."""
    beam: list[int]
    """Candidates that survived the previous level, in beam order."""
    skips: list[int]
    """Members of the beam that are carried on unchanged."""
    first_candidate: int
    """Where this level's candidates begin: their ids are consecutive."""
    next_candidate: int
    """Where they end, and the id the next new candidate gets."""
    answer: NotRequired[int]
    """The candidate the search returns; present once it is over."""


class SearchUpdate(TypedDict, total=False):
    """What a node changes of a search's state."""

    level: int
    level_limit: int
    beam: list[int]
    skips: list[int]
    first_candidate: int
    next_candidate: int
    answer: int


def level_candidates(state: SearchState) -> range:
    """Ids of this level's candidates, in creation order."""
    return range(state["first_candidate"], state["next_candidate"])


class QueryTask(TypedDict):
    """What `Send` carries to `select_rewards`."""

    level: int
    query: int


class RewriteTask(TypedDict):
    """What `Send` carries to `rewrite`."""

    level: int
    """The one its rewrites belong to."""
    candidate: int


class EvaluateTask(TypedDict):
    """What `Send` carries to `evaluate`."""

    candidate: int
    query: int
    repeat: NotRequired[int]
    """Which of several samples it is; 0 where there is one."""


class EvaluationState(TypedDict):
    """Of the evaluation graph; lives for one evaluation and is never written to a checkpoint."""

    candidate: int
    query: int
    repeat: NotRequired[int]
    level: int
    sample: Sample


class AlignmentState(TypedDict):
    """One alignment between two stages."""

    examples: NotRequired[int]
    """How many there are to show; present once they are optimized."""
    prompt: NotRequired[int]
    """The candidate that the prompt search returned."""
    challenger: NotRequired[int]
    """The candidate that is tested against the root; the root itself where there is no other."""
    with_examples: NotRequired[bool]
    """Whether it is tested with examples."""
    real: NotRequired[bool]
    """Whether its gain over the root was confirmed."""


class EvaluationUpdate(TypedDict, total=False):
    """What a node changes of an evaluation's state."""

    level: int
    sample: Sample
