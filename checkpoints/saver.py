"""LangGraph's SQLite saver, made strict: a checkpoint that cannot be written stops the run.

LangGraph alone runs on to the end. The first error is kept and raised before the next paid call.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import aiosqlite
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from drpo.checkpoints.rows import UNREADABLE, see_doctor
from drpo.graph.errors import RunFailed


class RunSaver(AsyncSqliteSaver):
    """Checkpoints of one run, through the run's only writing connection."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        super().__init__(connection, serde=JsonPlusSerializer(allowed_msgpack_modules=[]))
        self.failures: list[Exception] = []
        """Of every write to the run's file. A list, because in strict mode LangGraph works with a
        shallow copy of its saver."""

    def ensure_healthy(self) -> None:
        """Raises RunFailed when an earlier write failed."""
        if self.failures:
            raise RunFailed(f"the run's file could not be written: {self.failures[0]}")

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """As LangGraph's. Raises RunFailed for a checkpoint that cannot be decoded."""
        try:
            return await super().aget_tuple(config)
        except (sqlite3.Error, NotImplementedError, *UNREADABLE) as error:
            raise RunFailed(f"a checkpoint cannot be read: {error}{see_doctor()}") from error

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """As LangGraph's, remembering a failure, which is raised as RunFailed."""
        with self._remembered():
            return await super().aput(config, checkpoint, metadata, new_versions)

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """As LangGraph's, remembering a failure, which is raised as RunFailed."""
        with self._remembered():
            await super().aput_writes(config, writes, task_id, task_path)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Drop superseded checkpoints of these threads, or with `delete` all of them."""
        latest = (
            " and checkpoint_id < (select max(checkpoint_id) from checkpoints kept"
            " where kept.thread_id = {table}.thread_id"
            " and kept.checkpoint_ns = {table}.checkpoint_ns)"
        )
        superseded = latest if strategy == "keep_latest" else ""
        # Writes first: what is superseded is read off the checkpoints.
        for table in ("writes", "checkpoints"):
            where = f"thread_id = ?{superseded.format(table=table)}"
            await self._delete(table, where, [(thread,) for thread in thread_ids])

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints that these runs wrote, with what was written after them."""
        made_by = "json_extract(cast(metadata as text), '$.run_id') = ?"
        ids = [(run,) for run in run_ids]
        of_run = (
            "(thread_id, checkpoint_ns, checkpoint_id) in"
            f" (select thread_id, checkpoint_ns, checkpoint_id from checkpoints where {made_by})"
        )
        await self._delete("writes", of_run, ids)
        await self._delete("checkpoints", made_by, ids)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Every checkpoint and write of one thread under the id of another."""
        for table in ("checkpoints", "writes"):
            columns = [row[1] for row in await self._rows(f"pragma table_info({table})")]
            others = ", ".join(name for name in columns if name != "thread_id")
            await self._write(
                f"insert or replace into {table} (thread_id, {others})"
                f" select ?, {others} from {table} where thread_id = ?",
                [(target_thread_id, source_thread_id)],
            )

    async def _delete(self, table: str, where: str, rows: Sequence[tuple[str, ...]]) -> None:
        await self._write(f"delete from {table} where {where}", rows)

    async def _write(self, sql: str, rows: Sequence[tuple[str, ...]]) -> None:
        await self.setup()
        with self._remembered():
            async with self.lock:
                await self.conn.executemany(sql, rows)
                await self.conn.commit()

    async def _rows(self, sql: str) -> list[Any]:
        await self.setup()
        async with self.lock:
            return list(await self.conn.execute_fetchall(sql))

    @contextmanager
    def _remembered(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, ValueError, TypeError) as error:
            self.failures.append(error)
            raise RunFailed(f"a checkpoint could not be written: {error}") from error
