"""What the caller writes down of every call, and where: a record type and the ledger's protocol.

The ledger itself is kept by `checkpoints`; nothing here knows SQLite.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from drpo.graph.requests import Outcome, Reply, Request
from drpo.graph.values import ROLES, Role
from drpo.models.provider import Completion, Provider


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to get a reply over the wire."""

    started_at: str
    """UTC, ISO-8601."""
    seconds: float
    problem: str | None
    """Why there was no reply; None for the one that got it."""


@dataclass(frozen=True, kw_only=True)
class CallRecord:
    """One paid call, as it is written to the ledger."""

    key: str
    request: Request[Any]
    provider: Provider
    completion: Completion
    prompt_tokens: int
    completion_tokens: int
    tokens_estimated: bool
    """Where the server counted none (FAULTS B2); the cost is then an estimate, too."""
    cost_usd: float | None
    """US dollars; None where no price is known."""
    attempts: Sequence[Attempt]
    outcome: Outcome
    """Of the worst of its completions, as far as the server tells."""

    @property
    def tokens(self) -> int:
        """Of prompt and completions."""
        return self.prompt_tokens + self.completion_tokens


@dataclass
class RoleUsage:
    """What one role took, over the whole run."""

    new: int = 0
    """Calls made to a model."""
    from_ledger: int = 0
    """Requests the ledger answered, which cost nothing."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    """Of the calls whose price is known."""
    unpriced: int = 0
    """Calls whose price is not known."""
    outcomes: dict[str, int] = field(default_factory=dict)
    """Calls that ended otherwise than well, by outcome."""

    def count(self, outcome: Outcome) -> None:
        """One more call that ended like this."""
        if outcome != "ok":
            self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1


@dataclass
class Usage:
    """What the run took, by role."""

    roles: dict[Role, RoleUsage] = field(default_factory=lambda: {r: RoleUsage() for r in ROLES})

    @property
    def calls(self) -> int:
        """Calls made to models, of all roles."""
        return sum(role.new for role in self.roles.values())

    @property
    def tokens(self) -> int:
        """Prompt and completion tokens of all roles."""
        return sum(role.prompt_tokens + role.completion_tokens for role in self.roles.values())

    @property
    def known_cost_usd(self) -> float:
        """US dollars of the calls whose price is known."""
        return sum(role.cost_usd for role in self.roles.values())

    @property
    def cost_usd(self) -> float | None:
        """US dollars; None where the price of any call is unknown."""
        unknown = any(role.unpriced for role in self.roles.values())
        return None if unknown else self.known_cost_usd


@dataclass
class Past:
    """What a run took and learned in the sessions before this one."""

    usage: Usage = field(default_factory=Usage)
    """Goes on counting."""
    seconds: float = 0.0
    left_out: Sequence[tuple[Role, str]] = ()
    """Parameters that a role's server was seen not to take."""


class Log(Protocol):
    """Told of what happens, as it happens."""

    def __call__(self, event: str, **facts: object) -> None:
        """An event by name, with short facts; must not raise."""
        ...


class Ledger(Protocol):
    """Every reply that was ever paid for in a run, by key."""

    def ensure_healthy(self) -> None:
        """Raises RunFailed when the run's file cannot be trusted to be written."""
        ...

    async def past(self) -> Past:
        """Of the run so far."""
        ...

    async def find(self, key: str) -> tuple[Reply, Outcome] | None:
        """The raw reply recorded under `key`, and how the call ended."""
        ...

    async def record(self, record: CallRecord) -> None:
        """Commit a reply, raw."""
        ...

    async def record_failure(self, key: str, attempts: Sequence[Attempt]) -> None:
        """Commit attempts that got no reply."""
        ...

    async def mark_invalid(self, key: str) -> bool:
        """The reply cannot be read; false where that was known."""
        ...

    async def record_left_out(self, role: Role, parameter: str, reason: str) -> None:
        """The server of a role does not take this parameter."""
        ...

    async def count_hit(self, key: str) -> None:
        """One more request was answered by this record."""
        ...


def outcome_of(reply: Reply) -> Outcome:
    """Of the first completion that did not end well."""
    ends: list[Outcome] = [reply.ended(index)[0] for index in range(max(1, len(reply.texts)))]
    bad: list[Outcome] = [each for each in ends if each != "ok"]
    return bad[0] if bad else "ok"


def ledger_key(request: Request[Any], provider: Provider, seed: int) -> str:
    """Hex sha256 over all that shapes the reply.

    The place in the search does not, so identical questions share one reply (DESIGN 4.2).
    """
    shape: dict[str, Any] = {
        "provider": provider.name,
        "parameters": dict(provider.parameters),
        "messages": [[turn.role, turn.content] for turn in request.messages],
        "schema": request.schema,
        "stop": request.stop,
        "role": request.role,
        "sample": request.sample,
        "n": request.n,
        "seed": seed,
    }
    # Absent where they say nothing, so that the keys of older runs still hold.
    shape |= {"room": request.room} if request.room else {}
    shape |= {"tries": request.tries} if request.tries else {}
    return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()
