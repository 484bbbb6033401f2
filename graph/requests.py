"""What a node asks of a model, and what it gets back: typed, and identified beside the text.

A request carries (role, level, candidate, query, sample index), so a scripted caller can answer by
identity instead of by text. It does not know who will answer it, nor what that costs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from drpo.graph.values import Message, Role

T = TypeVar("T")

Outcome = Literal[
    "ok", "refusal", "content_filter", "truncated", "invalid", "context_overflow", "failed"
]
"""How one completion ended; `invalid` could not be read, `failed` was empty."""

TOO_LONG = "the question is longer than the model's context"
_ENDED: Mapping[str, tuple[Outcome, str]] = {
    "length": ("truncated", "it was cut off at the token limit"),
    "content_filter": ("content_filter", "the server's content filter withheld it"),
    "refusal": ("refusal", "the model refused"),
    "context_overflow": ("context_overflow", TOO_LONG),
}
"""What a finish reason means where it is no good one."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model said, its thinking apart."""

    texts: tuple[str, ...]
    """One text per asked completion, in the provider's order."""
    finish_reasons: tuple[str, ...] = ()
    """Per text: `stop`, `length`, `content_filter`, `refusal`, `context_overflow`, or the
    provider's own word; may be empty."""
    tokens: int = 0
    """Of all texts and of what was thought before them; 0 where nobody counts."""

    def one(self, index: int) -> Reply:
        """Completion `index` by itself."""
        share = -(-self.tokens // max(1, len(self.texts)))
        return Reply(self.texts[index : index + 1], self.finish_reasons[index : index + 1], share)

    def ended(self, index: int = 0) -> tuple[Outcome, str]:
        """How completion `index` ended, and in words what was wrong with it."""
        reason = self.finish_reasons[index] if index < len(self.finish_reasons) else ""
        if reason in _ENDED:
            return _ENDED[reason]
        if index >= len(self.texts) or not self.texts[index].strip():
            return "failed", f"it is empty ({reason})" if reason else "it is empty"
        return "ok", ""


@dataclass(frozen=True, slots=True)
class Flaw:
    """Why a reply is not what was asked for, in words that the model is told."""

    reason: str
    usable: bool = False
    """Whether a part of it can be used."""


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
    flaw: Callable[[Reply], Flaw | None] = lambda _: None
    """Pure; what is wrong with one completion that ended well."""
    again: Callable[[str, str], tuple[Message, ...]] | None = None
    """The turns that follow when a completion has a flaw: from its text and the flaw's reason.
    None asks the same once more."""
    fine: frozenset[Outcome] = frozenset({"ok"})
    """Which ends of a completion are as good as any."""
    room: int | None = None
    """Most tokens of the answer, in place of what the model's settings say."""
    tries: int = 0
    """How often the very same was asked before."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """A reply that was parsed, with the ledger keys of the calls that gave it."""

    value: T
    calls: tuple[str, ...] = field(default=())
