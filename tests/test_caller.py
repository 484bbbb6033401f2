"""The one way to a model: ledger, budget, concurrency, retries, closing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from drpo.checkpoints.ledger import SqliteLedger
from drpo.checkpoints.store import RunStore
from drpo.conf.schema import BudgetSettings
from drpo.graph.errors import BudgetReached, ProviderStopped, RunFailed, RunPaused
from drpo.graph.requests import Reply, Request
from drpo.graph.values import ROLES, Message
from drpo.models.caller import LedgeredCaller
from drpo.models.ledger import ledger_key
from drpo.models.prices import Price
from drpo.models.provider import Call, Completion, Limits, TransportError

pytestmark = pytest.mark.usefixtures("no_backoff")


@dataclass
class Scripted:
    """A provider that counts, waits and fails as it is told."""

    name: str = "scripted"
    parameters: dict[str, Any] = field(default_factory=lambda: {"model": "m"})
    multiple: bool = True
    limits: Limits = field(default_factory=lambda: Limits(attempts=3))
    price: Price | None = field(default_factory=lambda: Price(50_000.0, 0.0, 0.0))
    problems: list[TransportError] = field(default_factory=list)
    gate: asyncio.Event | None = None
    calls: list[Call] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0

    async def complete(self, call: Call) -> Completion:
        """The text of the first message and the sample's index."""
        self.calls.append(call)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await (self.gate.wait() if self.gate else asyncio.sleep(0))
        finally:
            self.in_flight -= 1
        if self.problems:
            raise self.problems.pop(0)
        texts = tuple(f"{call.messages[0].content}/{call.sample + n}" for n in range(call.n))
        return Completion(
            texts=texts,
            finish_reasons=("stop",) * call.n,
            prompt_tokens=10,
            completion_tokens=None,
        )

    def leave_out(self, parameter: str) -> None:
        """Nothing to do without."""


def texts(reply: Reply) -> tuple[str, ...]:
    return reply.texts


def asking(text: str = "hello", **changes: Any) -> Request[tuple[str, ...]]:
    request = Request(
        role="target",
        level=1,
        candidate=2,
        query=3,
        messages=(Message("user", text),),
        parse=texts,
    )
    return replace(request, **changes)


Make = Callable[..., LedgeredCaller]


@pytest.fixture
def make(store: RunStore) -> Make:
    """A caller whose four roles are one provider."""

    def made(provider: Scripted, concurrency: int = 99, **options: Any) -> LedgeredCaller:
        options = {"seed": 0, "concurrency": concurrency} | options
        return LedgeredCaller(dict.fromkeys(ROLES, provider), SqliteLedger(store), **options)

    return made


async def rows(store: RunStore, table: str) -> int:
    [[count]] = await store.read(f"select count(*) from {table}")
    return int(count)


async def test_a_reply_is_committed_before_it_is_parsed(make: Make, store: RunStore) -> None:
    """A parser that fails loses nothing that was paid for."""

    def broken(reply: Reply) -> tuple[str, ...]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await make(Scripted()).ask(asking(parse=broken))
    assert await rows(store, "call") == 1


async def test_an_equal_question_is_answered_by_the_ledger(make: Make, store: RunStore) -> None:
    """Also by another caller, as after a restart."""
    provider = Scripted()
    first = await make(provider).ask(asking())
    caller = make(provider, past=await SqliteLedger(store).past())
    again = await caller.ask(asking(level=9, candidate=9, query=9))
    assert first.value == again.value == ("hello/0",)
    assert len(provider.calls) == 1
    assert (caller.usage.roles["target"].new, caller.usage.roles["target"].from_ledger) == (1, 1)


async def test_equal_questions_in_flight_share_one_call(make: Make) -> None:
    """Ten at once are one call and nine answers of the ledger."""
    provider = Scripted()
    caller = make(provider)
    answers = await asyncio.gather(*(caller.ask(asking()) for _ in range(10)))
    assert {answer.value for answer in answers} == {("hello/0",)}
    assert len(provider.calls) == 1
    assert caller.usage.roles["target"].from_ledger == 9


async def test_the_budget_is_never_exceeded(make: Make, store: RunStore) -> None:
    """Reserved before each call, so fifty at once cannot overrun it."""
    provider = Scripted()
    caller = make(provider, budget=BudgetSettings(calls=7))
    asked = (caller.ask(asking(str(n))) for n in range(50))
    results = await asyncio.gather(*asked, return_exceptions=True)
    assert len(provider.calls) == await rows(store, "call") == 7
    assert sum(isinstance(result, BudgetReached) for result in results) == 43


async def test_a_call_without_a_reply_is_given_back_to_the_budget(make: Make) -> None:
    """It was not counted, so it may be asked in another way."""
    provider = Scripted(problems=[TransportError("one only", retry=False, parameter="n")])
    caller = make(provider, budget=BudgetSettings(calls=3))
    assert (await caller.ask(asking(n=3))).value == ("hello/0", "hello/1", "hello/2")
    assert [call.n for call in provider.calls] == [3, 1, 1, 1]


@pytest.mark.parametrize("limit", [1, 4])
async def test_calls_in_flight_are_limited(limit: int, make: Make) -> None:
    """Never more than `concurrency`, and as many as that."""
    provider = Scripted(gate=asyncio.Event())
    caller = make(provider, limit)
    askers = [asyncio.create_task(caller.ask(asking(str(n)))) for n in range(12)]
    while provider.in_flight < limit:
        await asyncio.sleep(0)
    assert provider.gate is not None
    provider.gate.set()
    await asyncio.gather(*askers)
    assert provider.most_in_flight == limit


async def test_several_completions_are_one_call_where_the_provider_can(make: Make) -> None:
    """And single calls with sample indices where it cannot, with the same texts."""
    can, cannot = Scripted(), Scripted(multiple=False, parameters={"model": "other"})
    together = await make(can).ask(asking(n=3))
    apart = await make(cannot).ask(asking(n=3))
    assert together.value == apart.value == ("hello/0", "hello/1", "hello/2")
    assert (len(can.calls), len(together.calls)) == (1, 1)
    assert [call.sample for call in cannot.calls] == [0, 1, 2]
    assert len(set(apart.calls)) == 3


@pytest.mark.parametrize(
    ("change", "other_provider", "seed"),
    [
        ({"messages": (Message("system", "hello"),)}, {}, 0),
        ({"schema": {"type": "object"}}, {}, 0),
        ({"stop": ("x",)}, {}, 0),
        ({"role": "judge"}, {}, 0),
        ({"sample": 1}, {}, 0),
        ({"n": 2}, {}, 0),
        ({}, {"name": "other"}, 0),
        ({}, {"parameters": {"model": "m", "temperature": 1}}, 0),
        ({}, {}, 1),
    ],
)
def test_all_that_shapes_a_reply_is_in_the_key(
    change: dict[str, Any], other_provider: dict[str, Any], seed: int
) -> None:
    """Change any of it, and it is another call."""
    before = ledger_key(asking(), Scripted(), 0)
    assert ledger_key(asking(**change), Scripted(**other_provider), seed) != before


def test_the_place_in_the_search_is_not_in_the_key() -> None:
    """Identical questions share one reply."""
    before = ledger_key(asking(), Scripted(), 0)
    assert ledger_key(asking(level=7, candidate=None, query=None), Scripted(), 0) == before


async def test_a_call_goes_on_when_its_asker_is_cancelled(make: Make, store: RunStore) -> None:
    """It is paid for, so closing waits for it and commits it."""
    provider = Scripted(gate=asyncio.Event())
    caller = make(provider)
    asker = asyncio.create_task(caller.ask(asking()))
    while not provider.calls:
        await asyncio.sleep(0)
    asker.cancel()
    assert provider.gate is not None
    provider.gate.set()
    await caller.aclose()
    assert await rows(store, "call") == 1


async def test_closing_waits_no_longer_than_it_may(make: Make, store: RunStore) -> None:
    """What has not landed by then is cancelled."""
    provider = Scripted(gate=asyncio.Event())
    caller = make(provider)
    asker = asyncio.create_task(caller.ask(asking()))
    while not provider.calls:
        await asyncio.sleep(0)
    await caller.aclose(grace_s=0.01)
    with pytest.raises(asyncio.CancelledError):
        await asker
    assert await rows(store, "call") == 0


async def test_nothing_new_starts_while_closing(make: Make) -> None:
    """A call that waits for its turn is not made."""
    provider = Scripted(gate=asyncio.Event())
    caller = make(provider, 1)
    askers = [asyncio.create_task(caller.ask(asking(str(n)))) for n in range(3)]
    while not provider.calls:
        await asyncio.sleep(0)
    closing = asyncio.create_task(caller.aclose())
    await asyncio.sleep(0)
    assert provider.gate is not None
    provider.gate.set()
    await closing
    results = await asyncio.gather(*askers, return_exceptions=True)
    assert len(provider.calls) == 1
    assert sum(isinstance(result, RunPaused) for result in results) == 2


async def test_a_broken_checkpoint_stops_before_the_next_call(make: Make, store: RunStore) -> None:
    """Nothing is paid for that could not be remembered."""
    provider = Scripted()
    store.saver.failures.append(OSError("disk full"))
    with pytest.raises(RunFailed, match="disk full"):
        await make(provider).ask(asking())
    assert not provider.calls


async def test_a_busy_server_is_asked_again(make: Make, store: RunStore) -> None:
    """Every attempt is written down with its problem."""
    provider = Scripted(problems=[TransportError("busy", retry=True, wait_s=0.001)] * 2)
    assert (await make(provider).ask(asking())).value == ("hello/0",)
    found = await store.read("select number, problem from attempt order by number")
    assert [tuple(row) for row in found] == [(0, "busy"), (1, "busy"), (2, None)]


@pytest.mark.parametrize(
    ("problems", "calls"),
    [
        ([TransportError("busy", retry=True)] * 9, 3),
        ([TransportError("wrong key", retry=False)], 1),
        ([TransportError("later", retry=True, wait_s=3600)], 1),
    ],
    ids=["too often", "for good", "too long"],
)
async def test_a_server_that_refuses_pauses_the_run(
    problems: list[TransportError], calls: int, make: Make, store: RunStore
) -> None:
    """After as many attempts as are of use, all of them written down."""
    provider = Scripted(problems=problems)
    with pytest.raises(ProviderStopped, match="target"):
        await make(provider).ask(asking())
    assert len(provider.calls) == await rows(store, "attempt") == calls


async def test_what_a_call_took_is_counted(make: Make, store: RunStore) -> None:
    """Tokens that the server does not count are estimated, and marked."""
    caller = make(Scripted())
    await caller.ask(asking())
    used = caller.usage.roles["target"]
    assert (used.new, used.prompt_tokens, used.completion_tokens, used.cost_usd) == (1, 10, 2, 0.5)
    assert (await SqliteLedger(store).past()).usage == caller.usage
    [[estimated]] = await store.read("select tokens_estimated from call")
    assert estimated == 1


async def test_closing_that_is_cancelled_leaves_nothing_in_flight(make: Make) -> None:
    """A third Ctrl-C comes while the calls in flight are waited for."""
    provider = Scripted(gate=asyncio.Event())
    caller = make(provider)
    asker = asyncio.create_task(caller.ask(asking()))
    while not provider.calls:
        await asyncio.sleep(0)
    closing = asyncio.create_task(caller.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    with pytest.raises((asyncio.CancelledError, RunPaused)):
        await asker
    assert provider.in_flight == 0
