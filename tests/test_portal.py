"""What is given up in one event loop is put away in the other."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, closing, suppress

import pytest

from drpo.models.portal import Portal


@pytest.fixture
def portal() -> Iterator[Portal]:
    with closing(Portal()) as portal:
        yield portal


async def test_who_stops_listening_waits_until_the_source_is_closed(portal: Portal) -> None:
    """Also where the next item was under way, and takes a moment to be given up."""
    told: list[str] = []
    listening = asyncio.Event()

    async def source() -> AsyncGenerator[str]:
        try:
            yield "first"
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            told.append("closed")

    async def listen() -> None:
        async with aclosing(portal.aiterate(source())) as items:
            async for _ in items:
                listening.set()

    task = asyncio.create_task(listen())
    await listening.wait()
    await asyncio.sleep(0.01)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert told == ["closed"]


def test_a_source_is_closed_where_its_reader_stops_early(portal: Portal) -> None:
    """Without an event loop."""
    told: list[str] = []

    async def source() -> AsyncGenerator[int]:
        try:
            for number in range(9):
                yield number
        finally:
            told.append("closed")

    with closing(portal.iterate(source())) as items:
        assert next(items) == 0
    assert told == ["closed"]
