"""What a node asks of a model, and what it gets back: typed, and identified beside the text.

A request carries (role, level, candidate, query, sample index), so a scripted caller can answer by
identity instead of by text. It does not know who will answer it, nor what that costs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from drpo.graph.values import Message, Role

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model said, as raw as it came."""

    texts: tuple[str, ...]
    """One text per asked completion, in the provider's order."""
    finish_reasons: tuple[str, ...] = ()
    """Per text, in the provider's words (`stop`, `length`, `content_filter`); may be empty."""

    def finish_reason(self, index: int) -> str:
        """Why text `index` ended, or an empty string where the provider did not say."""
        return self.finish_reasons[index] if index < len(self.finish_reasons) else ""


@dataclass(frozen=True, kw_only=True)
class Request(Generic[T]):
    """One question to one role."""

    role: Role
    level: int
    candidate: int | None
    """None for the rewarder, who sees only the query."""
    query: int | None
    """Ordinal of the query; None for the rewriter, who sees every query of the level."""
    messages: tuple[Message, ...]
    parse: Callable[[Reply], T]
    """Pure; turns the raw reply into a value and never raises on what a model may say."""
    sample: int = 0
    """Index of the answer where the same request is asked several times on purpose."""
    n: int = 1
    """How many completions are wanted."""
    schema: Mapping[str, Any] | None = None
    """JSON schema of the answer, for providers that can enforce one."""
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """A reply that was parsed, with the ledger keys of the calls that gave it."""

    value: T
    calls: tuple[str, ...] = field(default=())
