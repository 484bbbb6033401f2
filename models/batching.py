"""Gathers what is asked for at the same time into batches, which one worker thread answers.

Rows that are drawn alike go together. A batch that does not fit into memory is halved, and the
smaller size kept. Knows no model: `answer` is whatever answers a batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Literal, TypeVar, TypeVarTuple

from drpo.graph.values import Message
from drpo.models.provider import TransportError

Values = TypeVarTuple("Values")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How an answer is drawn; the rows of one batch have it in common."""

    format: Literal["chat", "text"]
    temperature: float | None
    """None for the model's own."""
    top_p: float | None
    """None for the model's own."""
    max_tokens: int
    stop: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One wanted answer."""

    messages: tuple[Message, ...]
    seed: int
    drawing: Drawing


@dataclass(frozen=True, kw_only=True)
class Written:
    """The answer to a row."""

    text: str
    finish_reason: Literal["stop", "length"]
    prompt_tokens: int
    """Without the padding that makes the rows of a batch equally long."""
    completion_tokens: int
    """With the token that ended it."""


class OutOfMemory(Exception):
    """A batch is too large for the device; the text says what the device said."""


Wanted = Callable[[], bool]
"""Whether anybody still waits for the batch."""
AnswerBatch = Callable[[Sequence[Row], Wanted], Sequence[Written | TransportError]]
"""Runs in the worker thread; raises OutOfMemory."""


class Worker:
    """The one thread in which models are read and run, shared by all batchers of a run."""

    def __init__(self) -> None:
        self.free = asyncio.Lock()
        """Held for a batch from its gathering to its answers."""
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="drpo-model")

    def start(
        self, function: Callable[[*Values], Result], *values: *Values
    ) -> asyncio.Future[Result]:
        """`function` in the thread, after everything that was started before."""
        return asyncio.get_running_loop().run_in_executor(self._thread, function, *values)

    def close(self) -> None:
        """Waits for the thread; nothing may run in it any more."""
        self._thread.shutdown(cancel_futures=True)


@dataclass(frozen=True, eq=False)
class _Waiting:
    row: Row
    answer: asyncio.Future[Written]
    since: float


class Batcher:
    """Answers rows in batches of at most `size`.

    A batch waits until no further row has come for `wait_s`; while another one is being answered,
    it goes on growing.
    """

    def __init__(self, answer: AnswerBatch, worker: Worker, *, size: int, wait_s: float) -> None:
        self.size = size
        """Rows of the largest batch; halved whenever memory did not suffice."""
        self._answer = answer
        self._worker = worker
        self._wait_s = wait_s
        self._waiting: list[_Waiting] = []
        self._arrived = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Meanwhile `ask` is answered; afterwards nobody waits any more."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def ask(self, row: Row) -> Written:
        """The answer to one row. Raises TransportError."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(row, loop.create_future(), loop.time())
        self._waiting.append(waiting)
        self._arrived.set()
        return await waiting.answer

    async def _run(self) -> None:
        batch: Sequence[_Waiting] = ()
        try:
            while True:
                await self._arrived.wait()
                async with self._worker.free:
                    batch = await self._gathered()
                    if batch:
                        await self._deliver(batch)
        finally:
            for waiting in (*batch, *self._waiting):
                waiting.answer.cancel()

    async def _gathered(self) -> Sequence[_Waiting]:
        """The oldest row and those drawn alike; none where all askers have gone."""
        clock = asyncio.get_running_loop().time
        free_since = clock()
        while True:
            self._arrived.clear()
            self._waiting = [each for each in self._waiting if not each.answer.done()]
            if not self._waiting:
                return ()
            drawing = self._waiting[0].row.drawing
            batch = [each for each in self._waiting if each.row.drawing == drawing][: self.size]
            left_s = max(batch[-1].since, free_since) + self._wait_s - clock()
            if len(batch) == self.size or left_s <= 0:
                chosen = set(batch)
                self._waiting = [each for each in self._waiting if each not in chosen]
                if self._waiting:
                    self._arrived.set()
                return batch
            with suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), left_s)

    async def _deliver(self, batch: Sequence[_Waiting]) -> None:
        def wanted() -> bool:
            return not all(waiting.answer.done() for waiting in batch)

        answered = self._worker.start(self._answer, [waiting.row for waiting in batch], wanted)
        try:
            await asyncio.wait([answered])
        except asyncio.CancelledError:
            # The thread sees it in `wanted`; asyncio would complain of an error nobody looked at.
            answered.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise
        problem = answered.exception()
        if isinstance(problem, OutOfMemory) and len(batch) > 1:
            self.size = len(batch) // 2
            self._waiting[:0] = batch
            self._arrived.set()
        elif isinstance(problem, OutOfMemory):
            reason = f"one answer alone does not fit into memory: {problem}"
            _hand_out(batch, [TransportError(reason, retry=False)])
        elif problem is not None:
            _hand_out(batch, [problem] * len(batch))
        else:
            _hand_out(batch, answered.result())


def _hand_out(batch: Sequence[_Waiting], answers: Sequence[Written | BaseException]) -> None:
    for waiting, answer in zip(batch, answers, strict=True):
        if waiting.answer.done():
            continue
        if isinstance(answer, BaseException):
            waiting.answer.set_exception(answer)
        else:
            waiting.answer.set_result(answer)
