"""Answers from a recorded run instead of from models: schema `drpo-replay/1`.

Stands in for the caller and its ledger, and answers by identity (level, candidate, query), not by
text: one recorded run judged the same answer twice with different scores.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from drpo.graph.errors import BadInput, problem_of
from drpo.graph.requests import Answer, Reply, Request
from drpo.graph.values import (
    CANDIDATES_PER_SEARCH,
    Aspect,
    Message,
    Query,
    Selection,
)

T = TypeVar("T")

LARGEST = 1e9
"""Of numbers in the place of a score."""


def _score(said: object) -> object:
    """As it is: a judge may have said anything, and its parser finds out."""
    number = isinstance(said, int | float) and not isinstance(said, bool) and abs(said) <= LARGEST
    if not number and not isinstance(said, str):
        raise ValueError("a score is a number, or a text")
    return said


Id = Annotated[int, Field(ge=0, lt=CANDIDATES_PER_SEARCH)]
Score = Annotated[Any, AfterValidator(_score)]


class _Part(BaseModel):
    """What else is in the file is not looked at."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Said(_Part):
    rationale: str
    score: Score


class RecordedNode(_Part):
    """A candidate, with the one answer and the one verdict that it has."""

    id: Id
    parent: Id | None
    depth: Id
    prompt: Id
    output: str
    eval_dict: dict[str, _Said]
    reward: float
    eval_mean: float
    children: list[Id]


class RecordedLevel(_Part):
    """A level, as it was left."""

    depth: Id
    nodes: list[Id]
    beam: list[Id]
    beam_mean_reward: list[float]
    depth_limit_at_entry: Id
    skipped: list[Id]


class _File(_Part):
    """A whole file, in which everything that is named is there."""

    schema_: Literal["drpo-replay/1"] = Field(alias="schema")
    model: str = Field(default="unknown", min_length=1)
    prompts: list[str]
    queries: list[str]
    nodes: list[RecordedNode] = Field(min_length=1)
    levels: list[RecordedLevel] = Field(min_length=1)
    terminal_node: Id
    path: list[Id]
    cum_reward: float

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for problem in self._problems():
            raise ValueError(problem)
        return self

    def _problems(self) -> Iterator[str]:
        for at, node in enumerate(self.nodes):
            yield from self._of_node(at, node)
        for at, level in enumerate(self.levels):
            yield from self._of_level(at, level)
        named = {"terminal_node": [self.terminal_node], "path": self.path}
        for where, ids in named.items():
            yield from self._unknown(where, ids)
        if len(self.queries) < len(self.levels):
            yield f"queries: there are {len(self.queries)} for {len(self.levels)} levels"

    def _of_node(self, at: int, node: RecordedNode) -> Iterator[str]:
        where = f"nodes.{at}"
        if node.id != at:
            yield f"{where}.id: it is {node.id}; nodes are numbered in order, from 0"
        if node.parent not in (range(at) if at else (None,)):
            allowed = "an earlier node" if at else "null alone"
            yield f"{where}.parent: it is {node.parent}; allowed is {allowed}"
        for name, count in (("prompt", len(self.prompts)), ("depth", len(self.levels))):
            number = getattr(node, name)
            if number >= count:
                yield f"{where}.{name}: it is {number}; allowed are numbers below {count}"
        yield from self._unknown(f"{where}.children", node.children)

    def _of_level(self, at: int, level: RecordedLevel) -> Iterator[str]:
        where = f"levels.{at}"
        if level.depth != at:
            yield f"{where}.depth: it is {level.depth}; levels are in order, from 0"
        for name in ("nodes", "beam", "skipped"):
            yield from self._unknown(f"{where}.{name}", getattr(level, name))
        if len(level.beam_mean_reward) != len(level.beam):
            yield f"{where}.beam_mean_reward: there has to be one for each of the beam"

    def _unknown(self, where: str, ids: Iterable[int]) -> Iterator[str]:
        last = len(self.nodes) - 1
        for each in (each for each in ids if each > last):
            yield f"{where}: there is no node {each}, only 0 to {last}"


class RecordedRun:
    """The tree of a finished search, as its file holds it."""

    def __init__(self, file: _File) -> None:
        self._file = file
        self.model = file.model
        self.nodes: Sequence[RecordedNode] = file.nodes
        self.levels: Sequence[RecordedLevel] = file.levels
        self.terminal_node = file.terminal_node
        self.path = file.path
        self.cum_reward = file.cum_reward

    @classmethod
    def read(cls, path: Path) -> RecordedRun:
        """From a JSON file. Raises BadInput, beginning with its name, for anything else."""
        try:
            return cls(_File.model_validate_json(path.read_bytes().decode("utf-8-sig")))
        except ValidationError as error:
            said = problem_of(error)
        except UnicodeDecodeError as error:
            said = f"it is not UTF-8 (byte {error.start})"
        except OSError as error:
            said = error.strerror or str(error)
        except ValueError as error:
            # A name with a NUL.
            said = str(error)
        raise BadInput(f"{path}: not a recorded run: {said}")

    @property
    def queries(self) -> list[Query]:
        """One a level, in order."""
        return [
            Query(at, str(at), (Message("user", text),))
            for at, text in enumerate(self._file.queries)
        ]

    def prompt(self, node: int) -> str:
        """The system prompt of a node."""
        return self._file.prompts[self.nodes[node].prompt]

    def rewrites(self, node: int) -> list[str]:
        """The prompts of a node's children, in creation order."""
        return [self.prompt(child) for child in self.nodes[node].children]

    def aspects(self, query: int) -> tuple[str, ...]:
        """Every aspect that a verdict of the query's level names."""
        named = (node.eval_dict for node in self.nodes if node.depth == query)
        return tuple(dict.fromkeys(aspect for verdict in named for aspect in verdict))


class RecordedCaller:
    """Gives each role what the recorded run has at that place."""

    def __init__(self, run: RecordedRun) -> None:
        self._run = run

    async def ask(self, request: Request[T]) -> Answer[T]:
        """The recorded reply, read by the request's own parser.

        Raises BadInput where the search asks for what the recorded run never had.
        """
        if request.role == "rewarder" and request.query is not None:
            return Answer(cast("T", self._selection(request.query)))
        return Answer(request.parse(self.reply(request)))

    def reply(self, request: Request[Any]) -> Reply:
        """What the file has for any role but the rewarder, whose replies were not recorded.

        Raises BadInput as `ask`.
        """
        node = request.candidate
        if node is None or not 0 <= node < len(self._run.nodes):
            raise BadInput(f"there is no recorded candidate {node}")
        recorded = self._run.nodes[node]
        if request.role == "target":
            return Reply((recorded.output,))
        if request.role == "judge":
            return Reply((json.dumps(recorded.model_dump()["eval_dict"]),))
        texts = [json.dumps({"prompts": {"system": text}}) for text in self._run.rewrites(node)]
        return Reply(tuple(texts))

    def _selection(self, query: int) -> Selection:
        return Selection(tuple(Aspect(name, "") for name in self._run.aspects(query)), "recorded")
