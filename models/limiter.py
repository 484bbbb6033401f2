"""How much one server is asked at once and per minute, by all roles and runs of this process.

Fewer calls in flight where it is busy, and by and by more again. Does not know what is asked.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from weakref import WeakKeyDictionary

from drpo.models.provider import Limits

BURST_S = 6.0
"""So many seconds' worth of requests or tokens may be sent at once."""


class Rate:
    """So much per minute, and after a pause a small burst of it."""

    def __init__(self, per_minute: float, now: float) -> None:
        self.per_minute = per_minute
        self._left = self._most
        self._at = now

    @property
    def _most(self) -> float:
        return max(1.0, self.per_minute * BURST_S / 60)

    def wait_s(self, amount: float, now: float) -> float:
        """Seconds until there is room; what is larger than a burst needs a whole one."""
        self._left = min(self._most, self._left + (now - self._at) * self.per_minute / 60)
        self._at = now
        return max(0.0, min(amount, self._most) - self._left) * 60 / self.per_minute

    def take(self, amount: float) -> None:
        """Of what is left, which may become less than nothing."""
        self._left -= amount


class Limiter:
    """One server's."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.in_flight = 0
        self.allowed = math.inf
        """Calls in flight that the server was seen to bear."""
        self._clock = clock
        self._requests: Rate | None = None
        self._tokens: Rate | None = None
        self._closed_until = -math.inf
        self._shrunk_at = -math.inf
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def hold_to(self, limits: Limits) -> None:
        """Of several rates for one server the least holds."""
        self._requests = self._least(self._requests, limits.requests_per_minute)
        self._tokens = self._least(self._tokens, limits.tokens_per_minute)

    def _least(self, rate: Rate | None, per_minute: float | None) -> Rate | None:
        if per_minute is None or (rate is not None and rate.per_minute <= per_minute):
            return rate
        return Rate(per_minute, self._clock())

    @asynccontextmanager
    async def turn(self, tokens: int) -> AsyncIterator[float]:
        """One attempt that will take so many tokens, in order of arrival; gives when it began."""
        await self._enter(tokens)
        try:
            yield self._clock()
        finally:
            self.in_flight -= 1
            self._let_in()

    def went_well(self) -> None:
        """One more at once for each round of calls that does."""
        self.allowed += 1 / self.allowed

    def was_busy(self, began: float, wait_s: float | None) -> None:
        """The server turned away, or timed out, an attempt that `began` then.

        Half as many from now on, once for all that were in flight together.
        """
        if wait_s is not None:
            self._closed_until = max(self._closed_until, self._clock() + wait_s)
        if began >= self._shrunk_at:
            self.allowed = max(1.0, min(self.allowed, self.in_flight) / 2)
            self._shrunk_at = self._clock()

    def correct(self, tokens: int) -> None:
        """So many more were taken than expected, or, below 0, fewer."""
        if self._tokens is not None:
            self._tokens.take(tokens)

    async def _enter(self, tokens: int) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((turn, tokens))
        self._let_in()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._waiting = deque(each for each in self._waiting if each[0] is not turn)
            else:
                self.in_flight -= 1
            self._let_in()
            raise

    def _let_in(self) -> None:
        """Everybody for whom there is room, in order; a timer where only time is missing."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting and self.in_flight < max(1, int(min(self.allowed, 1e9))):
            turn, tokens = self._waiting[0]
            wait_s = self._wait_s(tokens)
            if wait_s > 0:
                self._timer = asyncio.get_running_loop().call_later(wait_s, self._let_in)
                return
            self._waiting.popleft()
            if turn.cancelled():
                continue
            for rate, amount in ((self._requests, 1), (self._tokens, tokens)):
                if rate is not None:
                    rate.take(amount)
            self.in_flight += 1
            turn.set_result(None)

    def _wait_s(self, tokens: int) -> float:
        now = self._clock()
        waits = [self._closed_until - now]
        waits += [self._requests.wait_s(1, now)] if self._requests else []
        waits += [self._tokens.wait_s(tokens, now)] if self._tokens else []
        return max(waits)


_limiters: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Limiter]] = WeakKeyDictionary()
"""By event loop, because nobody may wait for a future of another one."""


def limiter_of(limits: Limits) -> Limiter:
    """That of the endpoint, shared; a model without one has its own."""
    loop = asyncio.get_running_loop()
    if limits.endpoint is None:
        return Limiter(loop.time)
    limiters = _limiters.setdefault(loop, {})
    limiter = limiters.setdefault(limits.endpoint, Limiter(loop.time))
    limiter.hold_to(limits)
    return limiter
