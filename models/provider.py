"""The protocol between the ledgered caller and whatever answers: one call in, one completion out.

A provider knows its model and parameters. It does not know roles' meanings, budgets or ledgers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from drpo.graph.values import Message
from drpo.models.prices import Price


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request to a model."""

    messages: tuple[Message, ...]
    sample: int = 0
    """Index of the answer where the same messages are asked several times on purpose."""
    n: int = 1
    """How many completions; 1 for providers without `multiple`."""
    schema: Mapping[str, Any] | None = None
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What came back, and what it took."""

    texts: tuple[str, ...]
    finish_reasons: tuple[str, ...]
    prompt_tokens: int | None
    """None where the server does not count."""
    completion_tokens: int | None
    cost_usd: float | None = None
    """None where no price is known."""
    request_sha256: str | None = None
    """Of the HTTP body; None where there was none."""


class TransportError(Exception):
    """A call got no usable reply.

    `retry` says whether the same call may succeed later, `wait_s` how long the server asked to
    wait, `refused` that key or model are wrong. The text is one line without secrets.
    """

    def __init__(
        self, reason: str, *, retry: bool, wait_s: float | None = None, refused: bool = False
    ) -> None:
        super().__init__(reason)
        self.retry = retry
        self.wait_s = wait_s
        self.refused = refused


class Provider(Protocol):
    """A model that answers."""

    @property
    def name(self) -> str:
        """`sandbox`, `openai`, ..."""
        ...

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Model, temperature and whatever else shapes an answer: part of the ledger's key."""
        ...

    @property
    def multiple(self) -> bool:
        """Whether one call may ask for several completions."""
        ...

    @property
    def price(self) -> Price | None:
        """Of its tokens; None where it is unknown."""
        ...

    @property
    def attempts(self) -> int:
        """How often one call is tried."""
        ...

    async def complete(self, call: Call) -> Completion:
        """The model's answer.

        Raises TransportError when there is none.
        """
        ...
