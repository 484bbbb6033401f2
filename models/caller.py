"""The one way to a model: ledger, budget, limits, call, raw reply committed, parsed.

Equal requests in flight share one call. A call once begun is finished and committed even when its
asker is cancelled, because it is paid for. A reply that cannot be used is asked for again, as often
as the role's settings say. What a reply means is the request's own business.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from drpo.conf.schema import BudgetSettings
from drpo.graph.errors import ProviderStopped, RunPaused
from drpo.graph.requests import Answer, Outcome, Reply, Request
from drpo.graph.values import Role
from drpo.models.budget import Budget, Expected
from drpo.models.completions import (
    ended,
    estimate,
    record_of,
    reply_of,
    tidied,
    without_thinking,
)
from drpo.models.ledger import Attempt, CallRecord, Ledger, Log, Past, ledger_key
from drpo.models.limiter import Limiter, limiter_of
from drpo.models.provider import (
    Call,
    Completion,
    Provider,
    TransportError,
    bearable_s,
    stopped,
    wait_s,
)

T = TypeVar("T")

FIRST_COMPLETION = 500
"""Tokens held for a completion of a role that has not answered yet."""
LEAST_ROOM = 256
"""Tokens; twice as many at least have room where an answer was cut off."""
NEXT_TRY = 1_000_003
"""Between the seeds of two tries of one sample: no search takes so many samples."""
WORTH_A_LINE_S = 1.0
"""For so long a call has waited for its turn when the log tells of it."""
STOPPING = "the run is stopping"
FINAL: frozenset[Outcome] = frozenset({"refusal", "content_filter", "context_overflow"})
"""The same question would end like this again."""


class _OneByOne(Exception):
    """The server gives one completion a request."""


def _nobody(event: str, **facts: object) -> None:
    """Of a caller whose log nobody keeps."""


class LedgeredCaller:
    """Asks the model of a role, unless the ledger has the answer."""

    def __init__(
        self,
        providers: Mapping[Role, Provider],
        ledger: Ledger,
        *,
        seed: int,
        concurrency: int,
        budget: BudgetSettings | None = None,
        past: Past | None = None,
        say: Callable[[str], None] | None = None,
        log: Log = _nobody,
    ) -> None:
        """`past` are the sessions of the run before this one; `say` tells of what changes."""
        self._log = log
        past = past or Past()
        self.usage = past.usage
        self._providers = providers
        self._ledger = ledger
        self._seed = seed
        self._budget = Budget(budget or BudgetSettings(), self.usage, seconds=past.seconds)
        self._limit = asyncio.Semaphore(concurrency)
        self._of_role = {
            role: asyncio.Semaphore(provider.limits.concurrency or concurrency)
            for role, provider in providers.items()
        }
        self._limiters: dict[Role, Limiter] = {}
        self._in_flight: dict[str, asyncio.Task[tuple[Reply, Outcome]]] = {}
        self._left_out = set(past.left_out)
        for role, parameter in past.left_out:
            providers[role].leave_out(parameter)
        self._say = say
        self._marked: set[str] = set()
        """Calls whose reply was found to be unreadable."""
        self._on_the_wire: set[str] = set()
        """Calls that may be paid for already."""
        self._stopped: ProviderStopped | None = None
        self._closing = False

    async def ask(self, request: Request[T]) -> Answer[T]:
        """The parsed answer.

        Raises BudgetReached, ProviderStopped or RunFailed.
        """
        completions = await self._completions(request)
        usable = await asyncio.gather(
            *(
                self._usable(replace(request, n=1, sample=request.sample + index), *completion)
                for index, completion in enumerate(completions)
            )
        )
        joined = Reply(
            tuple(text for _, reply in usable for text in reply.texts or ("",)),
            tuple(reason for _, reply in usable for reason in reply.finish_reasons or ("",)),
        )
        return Answer(request.parse(joined), tuple(dict.fromkeys(key for key, _ in usable)))

    async def aclose(self, grace_s: float | None = None) -> None:
        """Start nothing more; wait for what is in flight, at most `grace_s`, then cancel it.

        What only waits for its turn is cancelled at once: a server may have named an hour.
        """
        self._closing = True
        late = set(self._in_flight.values())
        for key, task in self._in_flight.items():
            if key not in self._on_the_wire:
                task.cancel()
        if not late:
            return
        try:
            _, late = await asyncio.wait(late, timeout=grace_s)
        finally:
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _completions(self, request: Request[Any]) -> list[tuple[str, Reply, Outcome]]:
        """Each asked completion by itself, with its key and what the ledger says of its call."""
        if request.n == 1 or self._providers[request.role].multiple:
            try:
                key, reply, outcome = await self._reply(request)
            except _OneByOne:
                pass
            else:
                if request.n in (1, len(reply.texts)):
                    return [(key, reply.one(index), outcome) for index in range(request.n)]
                said = f"asked for {request.n} completions, the server sent {len(reply.texts)}"
                await self._leave_out(request.role, "n", said)
        singles = [
            self._reply(replace(request, n=1, sample=request.sample + index))
            for index in range(request.n)
        ]
        return list(await asyncio.gather(*singles))

    async def _usable(
        self, request: Request[Any], key: str, reply: Reply, known: Outcome
    ) -> tuple[str, Reply]:
        """The completion, or of those that are asked for in its place the last that is of use."""
        kept: tuple[str, Reply] | None = None
        last, most = request, self._providers[request.role].limits.asks
        for asked in range(1, most + 1):
            outcome, reason = reply.ended()
            flaw = request.flaw(reply) if outcome == "ok" else None
            if flaw is not None:
                outcome, reason = "invalid", flaw.reason
                if known == "ok":
                    await self._mark(key, request.role)
            if outcome in request.fine:
                return key, reply
            if flaw is not None and flaw.usable:
                kept = (key, reply)
            place = _place(request)
            self._log("reply_unusable", **place, outcome=outcome, why=reason, asked=asked, of=most)
            if outcome in FINAL or asked == most:
                break
            if outcome == "truncated":
                last = replace(last, room=2 * self._room(last, reply))
            elif outcome == "invalid" and request.again is not None:
                # Instead of what was said of an earlier reply; the same again is another try.
                turns = request.again(reply.texts[0], reason)
                last = replace(last, messages=(*request.messages, *turns), tries=asked - 1)
            else:
                last = replace(last, tries=asked)
            key, reply, known = await self._reply(last)
        return kept or (key, reply)

    def _room(self, request: Request[Any], reply: Reply) -> int:
        """Tokens that were too few: as set, or as many as the answer and its thinking took."""
        set_to = request.room or self._providers[request.role].parameters.get("max_tokens")
        text = reply.texts[0] if reply.texts else ""
        return int(set_to or max(LEAST_ROOM, reply.tokens, estimate(text)))

    async def _mark(self, key: str, role: Role) -> None:
        """The reply turned out to be unreadable."""
        if key in self._marked:
            return
        self._marked.add(key)
        if await self._ledger.mark_invalid(key):
            self.usage.roles[role].count("invalid")

    async def _reply(self, request: Request[Any]) -> tuple[str, Reply, Outcome]:
        key = ledger_key(request, self._providers[request.role], self._seed)
        task = self._in_flight.get(key)
        shared = task is not None
        if task is None:
            task = asyncio.create_task(self._obtain(key, request))
            self._in_flight[key] = task
            task.add_done_callback(lambda done: self._landed(key, done))
        reply, outcome = await asyncio.shield(task)
        if shared:
            await self._count_hit(key, request.role)
        return key, reply, outcome

    def _landed(self, key: str, task: asyncio.Task[tuple[Reply, Outcome]]) -> None:
        del self._in_flight[key]
        if not task.cancelled():
            # Its asker may be gone; asyncio would complain of an exception nobody looked at.
            task.exception()

    async def _obtain(self, key: str, request: Request[Any]) -> tuple[Reply, Outcome]:
        try:
            known = await self._ledger.find(key)
            if known is not None:
                await self._count_hit(key, request.role)
                reply, outcome = known
                return without_thinking(reply), outcome
            record = await self._paid(key, request)
        except asyncio.CancelledError:
            if key in self._on_the_wire:
                raise
            raise RunPaused(STOPPING) from None
        finally:
            self._on_the_wire.discard(key)
        return without_thinking(reply_of(record)), record.outcome

    async def _paid(self, key: str, request: Request[Any]) -> CallRecord:
        self._ledger.ensure_healthy()
        # The budget last: what waits for its turn would pass limits that are used up by then.
        async with self._of_role[request.role], self._limit:
            expected = self._expected(request)
            async with self._budget.holding(expected):
                self._ensure_open()
                self._ledger.ensure_healthy()
                attempts: list[Attempt] = []
                try:
                    record = await self._call(key, request, expected, attempts)
                except RunPaused:
                    await self._ledger.record_failure(key, attempts)
                    raise
                await self._ledger.record(record)
                self._count_call(request.role, record)
                self._log(
                    "call",
                    **_place(request),
                    outcome=record.outcome,
                    tokens=record.tokens,
                    seconds=attempts[-1].seconds,
                )
        return record

    def _ensure_open(self) -> None:
        """Nobody is asked any more once one call has stopped the run."""
        if self._stopped is not None:
            raise type(self._stopped)(str(self._stopped))
        if self._closing:
            raise RunPaused(STOPPING)

    def _expected(self, request: Request[Any]) -> Expected:
        """Its prompt, and completions of the length that is usual for the role."""
        provider, usage = self._providers[request.role], self.usage.roles[request.role]
        prompt = estimate(*(turn.content for turn in request.messages))
        usual = usage.completion_tokens / usage.new if usage.new else FIRST_COMPLETION * request.n
        completion = round(usual)
        cost = provider.price.cost_usd(prompt, completion) if provider.price else 0.0
        return Expected(tokens=prompt + completion, cost_usd=cost)

    def _limiter(self, role: Role) -> Limiter:
        if role not in self._limiters:
            self._limiters[role] = limiter_of(self._providers[role].limits)
        return self._limiters[role]

    async def _call(
        self, key: str, request: Request[Any], expected: Expected, attempts: list[Attempt]
    ) -> CallRecord:
        provider, limiter = self._providers[request.role], self._limiter(request.role)
        call = _call_of(request)
        backoff = random.Random(f"{self._seed}:backoff:{key}")
        until: float | None = None
        while True:
            waited = time.monotonic()
            async with limiter.turn(expected.tokens) as began:
                waited = time.monotonic() - waited
                if waited > WORTH_A_LINE_S:
                    self._log("call_waited", **_place(request), seconds=waited)
                self._ensure_open()
                if request.n > 1 and not provider.multiple:
                    raise _OneByOne
                known = frozenset(self._left_out)
                until = until or time.monotonic() + provider.limits.deadline_s
                self._on_the_wire.add(key)
                answered = await _attempt(provider, call, until, attempts)
                if isinstance(answered, Completion):
                    record = record_of(key, request, provider, answered, attempts)
                    limiter.went_well()
                    limiter.correct(record.tokens - expected.tokens)
                    return record
                self._on_the_wire.discard(key)
                problem = answered
                if problem.busy:
                    limiter.was_busy(began, bearable_s(problem, provider.limits))
            if problem.ended is not None:
                return record_of(key, request, provider, ended(problem.ended, call), attempts)
            if problem.parameter is not None and (request.role, problem.parameter) not in known:
                await self._leave_out(request.role, problem.parameter, str(problem))
                if problem.parameter == "n":
                    raise _OneByOne
                continue
            pause_s = wait_s(problem, len(attempts), provider.limits, backoff.uniform)
            final = pause_s is None or self._closing or time.monotonic() + pause_s > until
            self._log(
                "call_given_up" if final else "call_failed",
                **_place(request),
                attempt=len(attempts),
                why=problem,
                busy=problem.busy,
                again_in_s=None if final else pause_s,
            )
            if pause_s is None or final:
                self._stopped = self._stopped or stopped(request.role, problem, provider.limits)
                self._ensure_open()
            else:
                await asyncio.sleep(pause_s)

    async def _leave_out(self, role: Role, parameter: str, reason: str) -> None:
        """For the rest of the run, said once."""
        self._providers[role].leave_out(parameter)
        if (role, parameter) in self._left_out:
            return
        self._left_out.add((role, parameter))
        await self._ledger.record_left_out(role, parameter, reason)
        self._log("parameter_left_out", role=role, parameter=parameter, why=reason)
        if self._say is not None:
            self._say(f"{role}: from now on without {parameter} ({reason})")

    async def _count_hit(self, key: str, role: Role) -> None:
        self.usage.roles[role].from_ledger += 1
        await self._ledger.count_hit(key)

    def _count_call(self, role: Role, record: CallRecord) -> None:
        usage = self.usage.roles[role]
        usage.new += 1
        usage.prompt_tokens += record.prompt_tokens
        usage.completion_tokens += record.completion_tokens
        usage.cost_usd += record.cost_usd or 0.0
        usage.unpriced += record.cost_usd is None
        usage.count(record.outcome)


def _place(request: Request[Any]) -> dict[str, object]:
    """Whose call it is, for the log."""
    return {
        "role": request.role,
        "level": request.level,
        "candidate": request.candidate,
        "query": request.query,
        "sample": request.sample or None,
    }


def _call_of(request: Request[Any]) -> Call:
    return Call(
        messages=request.messages,
        sample=request.sample + NEXT_TRY * request.tries,
        n=request.n,
        schema=request.schema,
        stop=request.stop,
        room=request.room,
    )


async def _attempt(
    provider: Provider, call: Call, until: float, attempts: list[Attempt]
) -> Completion | TransportError:
    """One reply or why there is none, written down in `attempts`; nobody waits beyond `until`."""
    started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
    clock = time.monotonic()
    answered: Completion | TransportError
    try:
        async with asyncio.timeout(until - clock if until < math.inf else None):
            answered = tidied(await provider.complete(call))
    except TransportError as error:
        answered = error
    except TimeoutError:
        said = f"no reply within {provider.limits.deadline_s:g} s, all attempts together"
        answered = TransportError(said, retry=False, busy=True)
    problem = str(answered) if isinstance(answered, TransportError) else None
    attempts.append(Attempt(started_at, time.monotonic() - clock, problem))
    return answered
