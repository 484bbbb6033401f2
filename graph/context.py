"""What the nodes work with: settings, and protocols of everything that answers or remembers.

`models` and `checkpoints` implement these protocols and reach the nodes only through `Context`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from langgraph.runtime import RunControl

from drpo.conf.schema import (
    JudgeSettings,
    RewardsSettings,
    SearchSettings,
    TaskSettings,
    ValidationSettings,
)
from drpo.graph.requests import Answer, Request
from drpo.graph.strategies import Strategy
from drpo.graph.values import (
    Arm,
    Candidate,
    Decision,
    Evaluation,
    Example,
    Judged,
    Part,
    Prompts,
    Query,
    Rewrite,
    Sample,
    Selection,
    Standing,
    Verdict,
)

T = TypeVar("T")


class Caller(Protocol):
    """The one way to a model."""

    async def ask(self, request: Request[T]) -> Answer[T]:
        """The parsed answer.

        Raises only what must stop the run (`drpo.graph.errors`); what a model said wrong is part of
        the value.
        """
        ...


class Target(Protocol):
    """What runs under a candidate: a chat model, an agent, or nothing but the candidate itself."""

    async def run(self, prompts: Prompts, query: Query, place: Place) -> Answer[Sample]:
        """The answer to `query` under `prompts`; `place` tells the caller whose it is."""
        ...


class Retriever(Protocol):
    """Finds the in-context examples of a query."""

    async def examples(self, query: Query) -> Sequence[Example]:
        """In the order in which the target is shown them; empty where there are none."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the search a sample belongs."""

    level: int
    candidate: int
    query: int
    sample: int = 0


class Store(Protocol):
    """What a run remembers, as the nodes see it. Every write is committed when it returns."""

    async def selection(self, query: int) -> Selection | None:
        """Of the query with this ordinal, once there is one."""
        ...

    async def add_selection(self, query: int, answer: Answer[Selection]) -> None:
        """The selection of one query."""
        ...

    async def candidates(self, ids: Sequence[int]) -> list[Candidate]:
        """By id, in the order of ids."""
        ...

    async def path(self, candidate: int, length: int) -> list[Candidate]:
        """The candidate and its ancestors, oldest first, at most `length` of them."""
        ...

    async def add_rewrites(
        self, parent: int, first_item: int, answer: Answer[tuple[Rewrite, ...]]
    ) -> None:
        """What the rewriter made of one candidate, numbered from `first_item` on."""
        ...

    async def is_written(self, parent: int, item: int) -> bool:
        """Whether a person wrote this rewrite."""
        ...

    async def rewrites(self, parent: int, first_item: int) -> list[Rewrite]:
        """Of this candidate, from this number on, in the rewriter's order."""
        ...

    async def admit(self, candidates: Sequence[Candidate], decisions: Sequence[Decision]) -> None:
        """New candidates, and what was refused."""
        ...

    async def add_sample(self, place: Place, answer: Answer[Sample]) -> None:
        """What the target answered."""
        ...

    async def add_verdict(self, place: Place, answer: Answer[Verdict]) -> None:
        """What the judge said of it."""
        ...

    async def evaluations(self, candidates: Sequence[int]) -> list[Evaluation]:
        """Of these candidates, by candidate, then query."""
        ...

    async def path_sums(self, candidates: Sequence[int]) -> dict[int, tuple[float, int]]:
        """Sum and number of the rewards on the path up to each candidate's parent."""
        ...

    async def standings(self, candidates: Sequence[int]) -> list[Standing]:
        """Of candidates of earlier levels, by id, as `settle` left them: without their scores."""
        ...

    async def settle(
        self, standings: Sequence[Standing], beam: Sequence[int], decisions: Sequence[Decision]
    ) -> None:
        """The end of a level: where everybody stands, and who goes on, in beam order."""
        ...


class Templates(Protocol):
    """The prompts the roles are asked with."""

    def block(self, name: str, block: str, **values: Any) -> str:
        """One block of template `name`; `values` are data and never expanded as template."""
        ...

    def hashes(self) -> Mapping[str, str]:
        """sha256 of each template's source, by file name."""
        ...


class QueryOrder(Protocol):
    """Which queries a level sees."""

    queries: Sequence[Query]
    """All of them, by ordinal."""
    levels: int | None
    """How many levels they last; None when they come again."""

    def at(self, level: int) -> list[int]:
        """Ordinals of the level's queries; none beyond `levels`."""
        ...


class EvaluationGraph(Protocol):
    """The compiled graph `sample -> judge`, awaited by the `evaluate` node."""

    async def ainvoke(
        self,
        input: Any,  # noqa: A002 - LangGraph's name
        *,
        context: Context,
        durability: Any,
        control: RunControl,
    ) -> Any:
        """The final state of one evaluation."""
        ...


@dataclass(frozen=True, kw_only=True)
class Context:
    """Everything a node may reach; data travels in state instead."""

    root: Prompts
    task: TaskSettings
    search: SearchSettings
    rewards: RewardsSettings
    judge: JudgeSettings
    strategy: Strategy
    order: QueryOrder
    caller: Caller
    target: Target
    store: Store
    templates: Templates
    evaluation: EvaluationGraph
    most_failures: float | None = None
    """Share of a level's evaluations, or rewrites, that may fail; None for all."""
    subject: Literal["prompt", "answer"] = "prompt"
    """What a candidate is: the prompts of a target, or an answer to the one query of an example
    search, which has the entry `answer` alone."""


Watch = Callable[[str, int, int], None]
"""Told of a stage, of how much of it is done, and of how much there is."""


class Tally:
    """Counts what is done of a stage, and lets it be watched."""

    def __init__(self, watch: Watch, stage: str, of: int) -> None:
        self._watch, self._stage, self._of = watch, stage, of
        self._done = 0
        self.add(0)

    def add(self, done: int) -> None:
        """So many more."""
        self._done += done
        self._watch(self._stage, self._done, self._of)


class AlignmentStore(Protocol):
    """What an alignment remembers beside its searches. Every write is committed when it returns."""

    async def challengers(self, most: int) -> list[Candidate]:
        """Of the prompt search, not the root: the terminal beam, then the best path values.

        No two have the same prompts.
        """
        ...

    async def add_arms(self, part: Part, arms: Sequence[Arm]) -> None:
        """What is compared on the queries of `part`."""
        ...

    async def judged(self, arms: Sequence[Arm]) -> list[Judged]:
        """Every sample of these arms that has a verdict, by arm, query and repeat."""
        ...

    async def read_confirm(self, queries_sha256: str) -> int:
        """From now on the queries of `confirm` are no longer unseen; the how manieth time it is.

        The same number however often it is asked for in one run.
        """
        ...

    async def add_finding(self, name: str, body: Mapping[str, Any]) -> None:
        """What came of a stage."""
        ...


@dataclass(frozen=True, kw_only=True)
class AlignmentContext:
    """Everything a stage of an alignment may reach."""

    seed: int
    validation: ValidationSettings
    queries: Sequence[Query]
    """All of the run's, by ordinal."""
    confirm_sha256: str
    """Of the queries of `confirm`."""
    optimize_examples: Callable[[], Awaitable[int]]
    """Runs every example's search to its end; how many examples there are now."""
    search_prompt: Callable[[], Awaitable[int]]
    """Runs the prompt search to its end; the candidate it returns."""
    bare: Context
    """In which an arm without examples answers."""
    shown: Callable[[], Awaitable[Context]]
    """In which an arm with examples answers, once there are examples."""
    store: AlignmentStore
    watch: Watch
