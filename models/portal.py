"""An event loop in a thread of its own, for code that may be called with or without one.

What belongs to an event loop, such as an HTTP client, is opened in this one and closed with it; who
asks may come from any thread and any loop. Does not know what it runs.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Coroutine, Generator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, TypeVar

T = TypeVar("T")

CLOSING_S = 10.0
"""Longest wait for what is in flight when it is closed."""


class Portal:
    """Runs coroutines in its own loop; the thread begins with the first one."""

    def __init__(self) -> None:
        """Nothing is started before it is needed."""
        self._ending: asyncio.Event | None = None
        self._held: list[asyncio.Task[None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closed = False

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Its value; the caller's thread waits, and an event loop in it with it."""
        return self._submit(work).result()

    async def arun(self, work: Coroutine[Any, Any, T]) -> T:
        """Its value; cancelled with its asker."""
        return await asyncio.wrap_future(self._submit(work))

    def iterate(self, source: AsyncGenerator[T]) -> Generator[T]:
        """One by one, for code without an event loop."""
        pulled = _Pulled(source)
        try:
            while (item := self.run(pulled.next())) is not _END:
                yield item
        finally:
            if not self._closed:
                self.run(pulled.close())

    async def aiterate(self, source: AsyncGenerator[T]) -> AsyncGenerator[T]:
        """One by one."""
        pulled = _Pulled(source)
        try:
            while (item := await self.arun(pulled.next())) is not _END:
                yield item
        finally:
            # Not awaited: where an event loop ends, it closes all generators at once, and who waits
            # for another one is in its way.
            if not self._closed:
                self._submit(pulled.close())

    async def hold(self, manager: AbstractAsyncContextManager[T]) -> T:
        """Its value, open until the portal is closed; from inside the loop.

        Opened and closed by one task, as task groups want it.
        """
        opened: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        ending = self._ending = self._ending or asyncio.Event()

        async def own() -> None:
            try:
                async with manager as value:
                    opened.set_result(value)
                    await ending.wait()
            except BaseException as error:
                if opened.done():
                    raise
                opened.set_exception(error)

        self._held.append(asyncio.create_task(own()))
        return await opened

    def close(self) -> None:
        """Once; cancels what is in flight."""
        with self._lock:
            self._closed, loop, thread = True, self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._end(loop), loop)
        if thread is not threading.current_thread():
            thread.join(CLOSING_S)

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        with self._lock:
            if self._closed:
                work.close()
                raise RuntimeError("the model is closed")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_turn, args=(self._loop,), name="drpo-model", daemon=True
                )
                self._thread.start()
            if threading.current_thread() is self._thread:
                work.close()
                raise RuntimeError("a blocking call from inside the model's own loop")
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task(), *self._held}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        if self._ending is not None:
            self._ending.set()
        await asyncio.gather(*self._held, return_exceptions=True)
        loop.stop()


_END: Any = object()


def _turn(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


class _Pulled(Generic[T]):
    """A source whose next item may still be under way, being cancelled, when it is closed."""

    def __init__(self, source: AsyncGenerator[T]) -> None:
        self._source = source
        self._turn = asyncio.Lock()

    async def next(self) -> T:
        end: T = _END
        async with self._turn:
            return await anext(self._source, end)

    async def close(self) -> None:
        async with self._turn:
            await self._source.aclose()
