"""What a call costs on this side of the wire: ledgered caller, provider alone, bare ChatOpenAI.

    python -m benchmarks.calls [--in-flight 64 256 1000] [--latency-ms 100] [--rounds 5]

A server in a process of its own; the same questions, as many in flight, the same HTTP client.
Rounds are interleaved, and figures are medians; only their ratio means something elsewhere.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI

from benchmarks.serving import served
from drpo.checkpoints.ledger import SqliteLedger
from drpo.checkpoints.runs import create_run
from drpo.checkpoints.store import open_store
from drpo.conf.schema import OpenAISettings
from drpo.graph.requests import Request
from drpo.graph.values import ROLES, Message
from drpo.models.caller import LedgeredCaller
from drpo.models.openai import OpenAIProvider, http_client
from drpo.models.provider import Call

SYSTEM = "You are a helpful assistant. Remember that somebody is waiting for your reply."
LEAST_CALLS = 512
"""Of a round: several calls for each that is in flight."""

Ask = Callable[[str], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Pace:
    """Of one round."""

    calls_a_second: float
    cpu_ms: float
    """Of this process, a call."""


@asynccontextmanager
async def ledgered(base_url: str, in_flight: int) -> AsyncIterator[Ask]:
    """As a search asks: ledger, budget, limits, and every reply committed to a run's file."""
    with tempfile.TemporaryDirectory() as folder:
        run = create_run(Path(folder), settings="{}", fingerprint={}, queries=[], version="bench")
        async with http_client() as client, open_store(run.path) as store:
            provider = OpenAIProvider(settings(base_url), client)
            providers = dict.fromkeys(ROLES, provider)
            caller = LedgeredCaller(providers, SqliteLedger(store), seed=0, concurrency=in_flight)
            yield lambda text: caller.ask(
                Request(
                    role="target",
                    level=0,
                    candidate=0,
                    query=0,
                    messages=turns(text),
                    parse=lambda reply: reply.texts[0],
                )
            )


@asynccontextmanager
async def provided(base_url: str, _in_flight: int) -> AsyncIterator[Ask]:
    """The provider without what stands around it."""
    async with http_client() as client:
        provider = OpenAIProvider(settings(base_url), client)
        yield lambda text: provider.complete(Call(messages=turns(text)))


@asynccontextmanager
async def bare(base_url: str, _in_flight: int) -> AsyncIterator[Ask]:
    """What langchain-openai takes by itself."""
    async with openai.DefaultAioHttpClient() as client:
        model = ChatOpenAI(
            model="target",
            base_url=base_url,
            temperature=0.0,
            max_retries=0,
            http_async_client=client,
        )

        async def ask(text: str) -> Any:
            asked: list[BaseMessage] = [SystemMessage(SYSTEM), HumanMessage(text)]
            return await model.agenerate([asked])

        yield ask


WAYS: Mapping[str, Any] = {"bare": bare, "provider": provided, "ledgered": ledgered}


def settings(base_url: str) -> OpenAISettings:
    """Of a model on that server."""
    return OpenAISettings(provider="openai", model="target", base_url=base_url)


def turns(text: str) -> tuple[Message, ...]:
    """A question as a search has it."""
    return (Message("system", SYSTEM), Message("user", text))


async def paced(ask: Ask, calls: int, in_flight: int, mark: str) -> Pace:
    """So many calls, always so many of them in flight."""
    left = iter(range(calls))

    async def work() -> None:
        for number in left:
            await ask(f"Question {mark} {number}: what comes first?")

    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(work() for _ in range(in_flight)))
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    return Pace(calls / seconds, 1000 * cpu / calls)


async def compare(base_url: str, in_flight: int, rounds: int) -> dict[str, Pace]:
    """The medians of each way."""
    calls, paces = max(LEAST_CALLS, 2 * in_flight), {name: list[Pace]() for name in WAYS}
    for number in range(rounds + 1):
        for name, way in WAYS.items():
            async with way(base_url, in_flight) as ask:
                # Connections are made first: a search has them, too.
                await paced(ask, in_flight, in_flight, f"before {number}")
                pace = await paced(ask, calls, in_flight, str(number))
            # The first round imports and is not counted.
            paces[name] += [pace] if number else []
    return {
        name: Pace(
            statistics.median(each.calls_a_second for each in found),
            statistics.median(each.cpu_ms for each in found),
        )
        for name, found in paces.items()
    }


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[64, 256, 1000])
    parser.add_argument("--latency-ms", type=float, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    os.environ.setdefault("OPENAI_API_KEY", "local")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print("| in flight | " + " | ".join(f"{name}: calls/s, CPU ms" for name in WAYS), end=" |")
    print(" provider / bare | ledgered / bare |")
    print(f"|{'---|' * (len(WAYS) + 3)}")
    for in_flight in given.in_flight:
        with served(given.latency_ms) as base_url:
            found = asyncio.run(compare(base_url, in_flight, given.rounds))
        cells = [f"{each.calls_a_second:.0f}, {each.cpu_ms:.2f}" for each in found.values()]
        base = found["bare"].calls_a_second
        ratios = [f"{found[name].calls_a_second / base:.2f}" for name in ("provider", "ledgered")]
        print(f"| {in_flight} | {' | '.join([*cells, *ratios])} |", flush=True)


if __name__ == "__main__":
    main()
