"""What a run may take: calls, tokens, dollars and seconds, of all roles together.

What a call is expected to take is held before it is made, so that calls side by side cannot take
together what each of them alone may take. Where there is room only if those in flight turn out
smaller than held, the next one waits for them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from drpo.conf.schema import BudgetSettings
from drpo.graph.errors import BudgetReached
from drpo.models.ledger import Usage


@dataclass(frozen=True, slots=True)
class Expected:
    """What one call will probably take, of each limit by name."""

    calls: int = 1
    tokens: int = 0
    cost_usd: float = 0.0


class Budget:
    """The limits of one run, over all its sessions."""

    def __init__(
        self,
        limits: BudgetSettings,
        usage: Usage,
        *,
        seconds: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`usage` counts on while the run goes on; `seconds` is what earlier sessions took."""
        self._limits = limits
        self._usage = usage
        self._clock = clock
        self._began = clock() - seconds
        self._held: list[Expected] = []
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def holding(self, expected: Expected) -> AsyncIterator[None]:
        """Room for one call, until its usage is counted or it failed.

        Raises BudgetReached where there is none and none can come free.
        """
        async with self._changed:
            await self._changed.wait_for(lambda: self._has_room(expected))
            self._held.append(expected)
        try:
            yield
        finally:
            self._held.remove(expected)
            async with self._changed:
                self._changed.notify_all()

    def _has_room(self, expected: Expected) -> bool:
        seconds = self._limits.seconds
        if seconds is not None and self._clock() - self._began >= seconds:
            raise BudgetReached(f"budget.seconds={seconds:g} is used up")
        for name, limit, taken in (
            ("calls", self._limits.calls, self._usage.calls),
            ("tokens", self._limits.tokens, self._usage.tokens),
            ("cost_usd", self._limits.cost_usd, self._usage.known_cost_usd),
        ):
            if limit is None:
                continue
            held = sum(getattr(each, name) for each in self._held)
            if taken + held + getattr(expected, name) > limit:
                if not self._held:
                    raise BudgetReached(_reached(name, limit, taken, getattr(expected, name)))
                return False
        return True


def _reached(name: str, limit: float, taken: float, wanted: float) -> str:
    if name == "calls":
        return f"budget.calls={limit:g} is used up"
    return (
        f"budget.{name}={limit:g} has no room for another call: {taken:.6g} are used, "
        f"and it may take {wanted:.6g}"
    )
