"""Answers from a recorded run instead of from models: schema `drpo-replay/1`.

Stands in for the caller and its ledger, and answers by identity (level, candidate, query), not by
text: one recorded run judged the same answer twice with different scores.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

from drpo.graph.errors import BadInput
from drpo.graph.requests import Answer, Reply, Request
from drpo.graph.values import Aspect, Message, Query, Selection

T = TypeVar("T")

SCHEMA = "drpo-replay/1"


class RecordedRun:
    """The tree of a finished search, as its file holds it."""

    def __init__(self, recorded: Mapping[str, Any]) -> None:
        """Raises BadInput for anything but the schema."""
        if recorded.get("schema") != SCHEMA:
            raise BadInput(f"the schema is {recorded.get('schema')!r}, not {SCHEMA!r}")
        self.model = str(recorded.get("model", "unknown"))
        self.nodes: list[dict[str, Any]] = recorded["nodes"]
        self.levels: list[dict[str, Any]] = recorded["levels"]
        self.terminal_node: int = recorded["terminal_node"]
        self.path: list[int] = recorded["path"]
        self.cum_reward: float = recorded["cum_reward"]
        self._prompts: list[object] = recorded["prompts"]
        self._queries: list[object] = recorded["queries"]

    @classmethod
    def read(cls, path: Path) -> RecordedRun:
        """From a JSON file. Raises BadInput."""
        try:
            return cls(json.loads(path.read_text("utf-8")))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadInput(f"{path}: not a recorded run: {error!r}") from None

    @property
    def queries(self) -> list[Query]:
        """One a level, in order."""
        return [
            Query(at, str(at), (Message("user", str(text)),))
            for at, text in enumerate(self._queries)
        ]

    def prompt(self, node: int) -> str:
        """The system prompt of a node."""
        return str(self._prompts[self.nodes[node]["prompt"]])

    def rewrites(self, node: int) -> list[str]:
        """The prompts of a node's children, in creation order."""
        return [self.prompt(child) for child in self.nodes[node]["children"]]

    def aspects(self, query: int) -> tuple[str, ...]:
        """Every aspect that a verdict of the query's level names."""
        named = (node["eval_dict"] for node in self.nodes if node["depth"] == query)
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
            return Reply((str(recorded["output"]),))
        if request.role == "judge":
            return Reply((json.dumps(recorded["eval_dict"]),))
        texts = [json.dumps({"prompts": {"system": text}}) for text in self._run.rewrites(node)]
        return Reply(tuple(texts))

    def _selection(self, query: int) -> Selection:
        return Selection(tuple(Aspect(name, "") for name in self._run.aspects(query)), "recorded")
