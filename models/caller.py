"""The one way to a model: ledger, budget, concurrency limit, call, raw reply committed, parsed.

Equal requests in flight share one call. A call once begun is finished and committed even when its
asker is cancelled, because it is paid for. What the reply means is the request's own business.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from drpo.conf.schema import BudgetSettings
from drpo.graph.errors import ProviderRefused, ProviderStopped, RunPaused
from drpo.graph.requests import Answer, Reply, Request
from drpo.graph.values import Role
from drpo.models.budget import Budget, Expected
from drpo.models.ledger import Attempt, CallRecord, Ledger, Usage, ledger_key
from drpo.models.provider import Call, Completion, Provider, TransportError

T = TypeVar("T")

CHARACTERS_PER_TOKEN = 4
LONGEST_WAIT_S = 60.0
"""Of a server that says when to come back; beyond it the run pauses."""
FIRST_BACKOFF_S = 0.5
FIRST_COMPLETION = 500
"""Tokens held for a completion of a role that has not answered yet."""


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
        usage: Usage | None = None,
        seconds: float = 0.0,
    ) -> None:
        """`usage` and `seconds` are what the run took before this session of it."""
        self.usage = usage or Usage()
        self._providers = providers
        self._ledger = ledger
        self._seed = seed
        self._budget = Budget(budget or BudgetSettings(), self.usage, seconds=seconds)
        self._limit = asyncio.Semaphore(concurrency)
        self._in_flight: dict[str, asyncio.Task[Reply]] = {}
        self._closing = False

    async def ask(self, request: Request[T]) -> Answer[T]:
        """The parsed answer.

        Raises BudgetReached, ProviderStopped or RunFailed.
        """
        if request.n == 1 or self._providers[request.role].multiple:
            key, reply = await self._reply(request)
            return Answer(request.parse(reply), (key,))
        singles = [
            self._reply(replace(request, n=1, sample=request.sample + index))
            for index in range(request.n)
        ]
        replies = await asyncio.gather(*singles)
        joined = Reply(
            tuple(text for _, reply in replies for text in reply.texts[:1] or ("",)),
            tuple(reply.finish_reason(0) for _, reply in replies),
        )
        return Answer(request.parse(joined), tuple(key for key, _ in replies))

    async def aclose(self, grace_s: float | None = None) -> None:
        """Start nothing more; wait for what is in flight, at most `grace_s`, then cancel it."""
        self._closing = True
        if self._in_flight:
            _, late = await asyncio.wait(self._in_flight.values(), timeout=grace_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _reply(self, request: Request[Any]) -> tuple[str, Reply]:
        key = ledger_key(request, self._providers[request.role], self._seed)
        task = self._in_flight.get(key)
        shared = task is not None
        if task is None:
            task = asyncio.create_task(self._obtain(key, request))
            self._in_flight[key] = task
            task.add_done_callback(lambda done: self._landed(key, done))
        reply = await asyncio.shield(task)
        if shared:
            await self._count_hit(key, request.role)
        return key, reply

    def _landed(self, key: str, task: asyncio.Task[Reply]) -> None:
        del self._in_flight[key]
        if not task.cancelled():
            # Its asker may be gone; asyncio would complain of an exception nobody looked at.
            task.exception()

    async def _obtain(self, key: str, request: Request[Any]) -> Reply:
        known = await self._ledger.find(key)
        if known is not None:
            await self._count_hit(key, request.role)
            return known
        self._ledger.ensure_healthy()
        async with self._budget.holding(self._expected(request)), self._limit:
            if self._closing:
                raise RunPaused("the run is stopping")
            self._ledger.ensure_healthy()
            record = await self._call(key, request)
            await self._ledger.record(record)
            self._count_call(request.role, record)
        return _reply_of(record.completion)

    def _expected(self, request: Request[Any]) -> Expected:
        """Its prompt, and completions of the length that is usual for the role."""
        provider, usage = self._providers[request.role], self.usage.roles[request.role]
        prompt = _estimate(*(turn.content for turn in request.messages))
        usual = usage.completion_tokens / usage.new if usage.new else FIRST_COMPLETION * request.n
        completion = round(usual)
        cost = provider.price.cost_usd(prompt, completion) if provider.price else 0.0
        return Expected(tokens=prompt + completion, cost_usd=cost)

    async def _call(self, key: str, request: Request[Any]) -> CallRecord:
        provider = self._providers[request.role]
        call = Call(
            messages=request.messages,
            sample=request.sample,
            n=request.n,
            schema=request.schema,
            stop=request.stop,
        )
        backoff = random.Random(f"{self._seed}:backoff:{key}")
        attempts: list[Attempt] = []
        while True:
            started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
            clock = time.monotonic()
            try:
                completion = await provider.complete(call)
            except TransportError as problem:
                attempts.append(Attempt(started_at, time.monotonic() - clock, str(problem)))
                wait_s = self._wait(problem, len(attempts), provider.attempts, backoff)
                if wait_s is None:
                    await self._ledger.record_failure(key, attempts)
                    stopped = ProviderRefused if problem.refused else ProviderStopped
                    raise stopped(f"{request.role}: {problem}") from None
                await asyncio.sleep(wait_s)
            else:
                attempts.append(Attempt(started_at, time.monotonic() - clock, None))
                return _record(key, request, provider, completion, attempts)

    def _wait(
        self, problem: TransportError, tries: int, most: int, backoff: random.Random
    ) -> float | None:
        """Seconds until the next attempt; None when there is no use in one."""
        if not problem.retry or tries >= most or self._closing:
            return None
        if problem.wait_s is not None:
            return problem.wait_s if problem.wait_s <= LONGEST_WAIT_S else None
        longest: float = min(FIRST_BACKOFF_S * 2.0 ** (tries - 1), LONGEST_WAIT_S)
        return longest * backoff.uniform(0.5, 1.0)

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


def _record(
    key: str,
    request: Request[Any],
    provider: Provider,
    completion: Completion,
    attempts: list[Attempt],
) -> CallRecord:
    asked, said = completion.prompt_tokens, completion.completion_tokens
    estimated = asked is None or said is None
    asked = _estimate(*(m.content for m in request.messages)) if asked is None else asked
    said = _estimate(*completion.texts) if said is None else said
    cost_usd = completion.cost_usd
    if cost_usd is None and estimated and provider.price is not None:
        cost_usd = provider.price.cost_usd(asked, said)
    return CallRecord(
        key=key,
        request=request,
        provider=provider,
        completion=completion,
        prompt_tokens=asked,
        completion_tokens=said,
        tokens_estimated=estimated,
        cost_usd=cost_usd,
        attempts=attempts,
    )


def _estimate(*texts: str) -> int:
    return -(-sum(len(text) for text in texts) // CHARACTERS_PER_TOKEN)


def _reply_of(completion: Completion) -> Reply:
    return Reply(completion.texts, completion.finish_reasons)
