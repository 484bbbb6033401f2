"""How much one server is asked at once and per minute, by a clock that only the tests turn."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass

import pytest

from drpo.models.limiter import BURST_S, Limiter, Rate, limiter_of
from drpo.models.provider import Limits


@dataclass
class Clock:
    """Seconds that pass when a test says so."""

    now: float = 100.0

    def __call__(self) -> float:
        """The time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limiter(clock: Clock) -> Limiter:
    return Limiter(clock)


class Turn:
    """One attempt that lasts until it is told to end."""

    def __init__(self, limiter: Limiter, tokens: int = 1) -> None:
        self.limiter = limiter
        self.tokens = tokens
        self.began: float | None = None
        self.end = asyncio.Event()
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async with self.limiter.turn(self.tokens) as began:
            self.began = began
            await self.end.wait()


async def settled() -> None:
    """Everything that can go on without a timer has."""
    for _ in range(20):
        await asyncio.sleep(0)


async def begun(limiter: Limiter, count: int) -> list[Turn]:
    """So many turns asked for; those for whom there is room have begun."""
    turns = [Turn(limiter) for _ in range(count)]
    await settled()
    return turns


async def over(*turns: Turn) -> None:
    """They end, the others do what that lets them do."""
    for turn in turns:
        turn.end.set()
    await settled()


def running(turns: list[Turn]) -> int:
    return sum(turn.began is not None and not turn.end.is_set() for turn in turns)


def rung(limiter: Limiter) -> None:
    """The timer goes off, whatever time is left of it."""
    assert limiter._timer is not None
    limiter._let_in()


# Rates


def test_a_rate_allows_a_burst_and_then_makes_wait() -> None:
    """Six seconds' worth at once; the next is due when its share of the minute is over."""
    rate = Rate(60, now=0.0)
    for _ in range(int(BURST_S)):
        assert rate.wait_s(1, now=0.0) == 0
        rate.take(1)
    assert rate.wait_s(1, now=0.0) == pytest.approx(1.0)
    assert rate.wait_s(1, now=0.75) == pytest.approx(0.25)
    assert rate.wait_s(1, now=1.0) == pytest.approx(0.0)


def test_a_rate_saves_up_no_more_than_a_burst() -> None:
    """However long nobody asked."""
    rate = Rate(60, now=0.0)
    assert rate.wait_s(1, now=1e6) == 0
    rate.take(BURST_S)
    assert rate.wait_s(1, now=1e6) == pytest.approx(1.0)


def test_a_slow_rate_still_allows_one() -> None:
    """One request every ten minutes is one now and the next in ten minutes."""
    rate = Rate(0.1, now=0.0)
    assert rate.wait_s(1, now=0.0) == 0
    rate.take(1)
    assert rate.wait_s(1, now=0.0) == pytest.approx(600)


def test_what_is_larger_than_a_burst_needs_a_whole_one_and_is_paid_off() -> None:
    """It is not refused for ever; the next one waits the longer."""
    rate = Rate(600, now=0.0)
    assert rate.wait_s(1_000, now=0.0) == 0
    rate.take(1_000)
    assert rate.wait_s(60, now=0.0) == pytest.approx(100)
    assert rate.wait_s(60, now=99.0) == pytest.approx(1)


def test_over_a_minute_a_rate_lets_through_what_it_says() -> None:
    """And the burst of its beginning."""
    rate, now, taken = Rate(120, now=0.0), 0.0, 0
    while True:
        now += rate.wait_s(1, now)
        if now > 60:
            break
        rate.take(1)
        taken += 1
    assert taken == pytest.approx(120 + 120 * BURST_S / 60, abs=1)


# In flight


async def test_nobody_waits_where_nothing_is_known(limiter: Limiter) -> None:
    """A hundred at once."""
    turns = await begun(limiter, 100)
    assert limiter.in_flight == running(turns) == 100
    await over(*turns)
    assert limiter.in_flight == 0


async def test_l1_a_busy_server_is_asked_half_as_much_at_once(
    limiter: Limiter, clock: Clock
) -> None:
    """Of what was in flight, and once for all that were in flight together."""
    turns = await begun(limiter, 8)
    clock.now += 1
    for turn in turns:
        assert turn.began is not None
        limiter.was_busy(turn.began, None)
    assert limiter.allowed == 4
    await over(*turns)
    again = await begun(limiter, 8)
    assert running(again) == 4
    clock.now += 1
    limiter.was_busy(clock.now - 0.5, None)
    assert limiter.allowed == 2
    await over(*again)


async def test_a_server_is_always_asked_at_least_once_at_a_time(
    limiter: Limiter, clock: Clock
) -> None:
    """However often it was busy."""
    for _ in range(5):
        [turn] = await begun(limiter, 1)
        clock.now += 1
        assert turn.began is not None
        limiter.was_busy(turn.began, None)
        clock.now += 1
        await over(turn)
    assert limiter.allowed == 1
    turns = await begun(limiter, 3)
    assert running(turns) == 1
    await over(*turns)


async def test_l1_calls_that_go_well_bring_concurrency_back(limiter: Limiter) -> None:
    """One more at once for each round of them."""
    limiter.allowed = 1.0
    before = limiter.allowed
    for round_ in range(1, 6):
        for _ in range(int(limiter.allowed)):
            limiter.went_well()
        assert before < limiter.allowed <= 1 + round_
        before = limiter.allowed
    assert limiter.allowed > 4


async def test_without_a_busy_server_nothing_is_counted(limiter: Limiter) -> None:
    """Going well leaves no limit where there is none."""
    limiter.went_well()
    assert limiter.allowed == math.inf


async def test_l1_a_server_that_names_a_time_is_left_alone_until_then(
    limiter: Limiter, clock: Clock
) -> None:
    """By everybody, and by the longest time that it named."""
    [turn] = await begun(limiter, 1)
    limiter.was_busy(clock.now, 30.0)
    limiter.was_busy(clock.now, 10.0)
    waiting = await begun(limiter, 1)
    await over(turn)
    assert running(waiting) == 0
    clock.now += 29
    rung(limiter)
    await settled()
    assert running(waiting) == 0
    clock.now += 1.001
    rung(limiter)
    await settled()
    assert running(waiting) == 1
    await over(*waiting)


# Order and endings


async def test_turns_come_in_order_of_arrival(limiter: Limiter) -> None:
    """One at a time, the first first."""
    limiter.allowed = 1.0
    turns = await begun(limiter, 5)
    for at, turn in enumerate(turns):
        assert [each.began is not None for each in turns] == [n <= at for n in range(5)]
        await over(turn)


async def test_who_leaves_while_waiting_makes_room(limiter: Limiter) -> None:
    """The next one takes the place, and nothing is in flight for ever."""
    limiter.allowed = 1.0
    turns = await begun(limiter, 3)
    turns[1].task.cancel()
    await settled()
    await over(turns[0])
    assert turns[2].began is not None
    await over(turns[2])
    assert limiter.in_flight == 0


async def test_who_leaves_as_the_turn_comes_gives_it_back(limiter: Limiter) -> None:
    """Cancelled between being let in and waking up."""
    limiter.allowed = 1.0
    first, second, third = await begun(limiter, 3)
    first.end.set()
    while len(limiter._waiting) == 2:
        await asyncio.sleep(0)
    second.task.cancel()
    await settled()
    assert second.began is None
    assert third.began is not None
    await over(third)
    assert limiter.in_flight == 0


async def test_an_attempt_that_fails_ends_its_turn(limiter: Limiter) -> None:
    """Like any other."""

    async def failing() -> None:
        async with limiter.turn(1):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await failing()
    assert limiter.in_flight == 0


# Rates of a server


async def test_requests_per_minute_hold(limiter: Limiter, clock: Clock) -> None:
    """A burst goes at once, the rest as the minute goes on."""
    limiter.hold_to(Limits(requests_per_minute=20))
    turns = await begun(limiter, 4)
    assert running(turns) == 2
    clock.now += 3.001
    rung(limiter)
    await settled()
    assert running(turns) == 3
    await over(*turns)
    clock.now += 3.001
    rung(limiter)
    await settled()
    assert turns[3].began is not None
    await over(turns[3])


async def test_tokens_per_minute_hold_and_are_corrected(limiter: Limiter, clock: Clock) -> None:
    """What was taken more than expected is missing afterwards, what was taken less is there."""
    limiter.hold_to(Limits(tokens_per_minute=600))
    first = Turn(limiter, tokens=30)
    await settled()
    limiter.correct(60)
    second = Turn(limiter, tokens=30)
    await settled()
    assert first.began is not None
    assert second.began is None
    limiter.correct(-60)
    rung(limiter)
    await settled()
    assert second.began is not None
    await over(first, second)


async def test_of_several_limits_on_one_server_the_least_holds() -> None:
    """Roles that share a server share its limiter; others have their own."""
    one = limiter_of(Limits(endpoint="here", requests_per_minute=600))
    same = limiter_of(Limits(endpoint="here", requests_per_minute=60))
    limiter_of(Limits(endpoint="here", requests_per_minute=6_000))
    limiter_of(Limits(endpoint="here"))
    assert one is same
    assert one._requests is not None
    assert one._requests.per_minute == 60
    assert limiter_of(Limits(endpoint="there")) is not one
    assert limiter_of(Limits()) is not limiter_of(Limits())


def test_each_event_loop_has_its_own() -> None:
    """A future of one loop cannot be awaited in another."""

    async def made() -> Limiter:
        return limiter_of(Limits(endpoint="here"))

    assert asyncio.run(made()) is not asyncio.run(made())
