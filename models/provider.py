"""The protocol between the ledgered caller and whatever answers: one call in, one completion out.

A provider knows its model and parameters. It does not know roles' meanings, budgets or ledgers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from drpo.conf.schema import RemoteSettings
from drpo.graph.errors import ProviderRefused, ProviderStopped
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
    room: int | None = None
    """Most tokens of an answer, in place of what the settings say."""


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What came back, and what it took."""

    texts: tuple[str, ...]
    finish_reasons: tuple[str, ...]
    prompt_tokens: int | None
    """None where the server does not count."""
    completion_tokens: int | None
    cached_tokens: int = 0
    """Prompt tokens that the server had cached."""
    request_sha256: str | None = None
    """Of the HTTP body; None where there was none."""
    thinking: tuple[str, ...] = ()
    """What the model thought before each text; empty where it did not."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How a model may be asked."""

    endpoint: str | None = None
    """What its limits are shared by; None for a model that nobody shares."""
    concurrency: int | None = None
    """Calls in flight; None for as many as the run allows."""
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    attempts: int = 1
    """Tries of one call while the server is busy, broken or away."""
    patience_s: float = 60.0
    """The longest that a server may ask to wait; beyond it the run pauses."""
    deadline_s: float = math.inf
    """For all attempts of one call together."""
    asks: int = 2
    """How often a question is asked until its answer can be used."""


def limits_of(settings: RemoteSettings, endpoint: str) -> Limits:
    """Of a model on a server."""
    return Limits(
        endpoint=endpoint,
        concurrency=settings.concurrency,
        requests_per_minute=settings.requests_per_minute,
        tokens_per_minute=settings.tokens_per_minute,
        attempts=settings.attempts,
        patience_s=settings.patience_s,
        deadline_s=settings.deadline_s,
        asks=settings.asks,
    )


def merged(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Without system turns: their text goes before the first turn of the user (FAULTS M12)."""
    system = [turn.content for turn in messages if turn.role == "system" and turn.content.strip()]
    turns = [turn for turn in messages if turn.role != "system"]
    for at, turn in enumerate(turns):
        if turn.role == "user" and system:
            turns[at] = Message("user", "\n\n".join((*system, turn.content)))
            break
    else:
        turns = [*(Message("user", text) for text in system), *turns]
    return tuple(turns)


class TransportError(Exception):
    """A call got no usable reply. The text is one line without secrets."""

    def __init__(  # noqa: PLR0913 - each says one thing of what went wrong
        self,
        reason: str,
        *,
        retry: bool,
        wait_s: float | None = None,
        refused: bool = False,
        busy: bool = False,
        ended: str | None = None,
        parameter: str | None = None,
        reached: bool = True,
        status: int | None = None,
    ) -> None:
        super().__init__(reason)
        self.retry = retry
        """Whether the same call may succeed later."""
        self.wait_s = wait_s
        """How long the server asked to wait."""
        self.refused = refused
        """Key or model are wrong."""
        self.busy = busy
        """The server has more to do than it can."""
        self.ended = ended
        """The finish reason, where this is the answer and asking again gives no other."""
        self.parameter = parameter
        """What of the request the server does not take; without it, it may."""
        self.reached = reached
        """Whether the server said anything at all."""
        self.status = status
        """Of HTTP, where the server answered with an error."""


FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 60.0


def wait_s(
    problem: TransportError,
    tries: int,
    limits: Limits,
    uniform: Callable[[float, float], float],
    longest_s: float = math.inf,
) -> float | None:
    """Seconds until the next attempt, after so many; None when there is no use in one.

    As long as the server asks for, or else twice as long each time, with jitter by `uniform`.
    """
    if not problem.retry or tries >= limits.attempts:
        return None
    if problem.wait_s is not None:
        return bearable_s(problem, limits)
    doubled = FIRST_BACKOFF_S * 2.0 ** (tries - 1)
    return min(doubled, longest_s, LONGEST_BACKOFF_S) * uniform(0.5, 1.0)


def bearable_s(problem: TransportError, limits: Limits) -> float | None:
    """What the server asks to wait, unless nobody would."""
    asked = problem.wait_s
    return asked if asked is not None and asked <= limits.patience_s else None


def stopped(who: str, problem: TransportError, limits: Limits) -> ProviderStopped:
    """What whoever asked is told once there is no use in another attempt."""
    said = f"{who}: {problem}"
    if problem.wait_s is not None and bearable_s(problem, limits) is None:
        said += f"; it asks to wait {problem.wait_s:g} s, beyond patience_s={limits.patience_s:g}"
    return (ProviderRefused if problem.refused else ProviderStopped)(said)


def too_late(timeout_s: float) -> TransportError:
    """A server that says nothing in time has more to do than it can."""
    return TransportError(f"no reply within {timeout_s:g} s", retry=True, busy=True, reached=False)


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
    def limits(self) -> Limits:
        """How it may be asked."""
        ...

    @property
    def multiple(self) -> bool:
        """Whether one call may ask for several completions."""
        ...

    @property
    def price(self) -> Price | None:
        """Of its tokens; None where it is unknown."""
        ...

    def leave_out(self, parameter: str) -> None:
        """From now on, do without what the server does not take (FAULTS L12, M12)."""
        ...

    async def complete(self, call: Call) -> Completion:
        """The model's answer.

        Raises TransportError when there is none.
        """
        ...
