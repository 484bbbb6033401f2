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
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from drpo.graph.errors import RunFailed


class RunSaver(AsyncSqliteSaver):
    """Checkpoints of one run, through the run's only writing connection."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        super().__init__(connection, serde=JsonPlusSerializer(allowed_msgpack_modules=[]))
        # A list, because in strict mode LangGraph works with a shallow copy of its saver.
        self.failures: list[Exception] = []

    def ensure_healthy(self) -> None:
        """Raises RunFailed when an earlier write failed."""
        if self.failures:
            raise RunFailed(f"a checkpoint could not be written: {self.failures[0]}")

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

    @contextmanager
    def _remembered(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, ValueError, TypeError) as error:
            self.failures.append(error)
            raise RunFailed(f"a checkpoint could not be written: {error}") from error
