"""What is given up in one event loop is put away in the other."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, closing, suppress

import pytest

from drpo.models.portal import Portal

PATIENCE_S = 20.0


@pytest.fixture
def portal() -> Iterator[Portal]:
    with closing(Portal()) as portal:
        yield portal


class Source:
    """Items without an end, the second of which takes long; takes a moment to close."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    async def items(self) -> AsyncGenerator[str]:
        """To be pulled one by one."""
        try:
            yield "first"
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.01)
            self.closed.set()


async def test_a_source_is_closed_whose_next_item_is_under_way(portal: Portal) -> None:
    """Who was waiting for it is cancelled at once, without another error."""
    source, listening = Source(), asyncio.Event()

    async def listen() -> None:
        async with aclosing(portal.aiterate(source.items())) as items:
            async for _ in items:
                listening.set()

    task = asyncio.create_task(listen())
    await listening.wait()
    await asyncio.sleep(0.01)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert await asyncio.to_thread(source.closed.wait, PATIENCE_S)


def test_an_event_loop_that_ends_in_the_middle_says_nothing(
    portal: Portal, caplog: pytest.LogCaptureFixture
) -> None:
    """It closes all generators at once, those around it too."""
    source = Source()

    async def around(inner: AsyncGenerator[str]) -> AsyncGenerator[str]:
        async with aclosing(inner) as items:
            async for item in items:
                yield item

    held = portal.aiterate(source.items())
    for _ in range(8):
        held = around(held)

    async def leave_early() -> None:
        async for _ in held:
            break

    asyncio.run(leave_early())
    assert source.closed.wait(PATIENCE_S)
    assert caplog.messages == []


def test_a_source_is_closed_where_its_reader_stops_early(portal: Portal) -> None:
    """Without an event loop."""
    source = Source()
    with closing(portal.iterate(source.items())) as items:
        assert next(items) == "first"
    assert source.closed.is_set()
