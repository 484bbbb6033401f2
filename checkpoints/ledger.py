"""The ledger in the run's file: every reply that was paid for, raw, under its key."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from drpo.checkpoints.rows import dumps, now, sha256
from drpo.checkpoints.store import RunStore, add_text
from drpo.graph.requests import Reply
from drpo.models.ledger import Attempt, CallRecord, RoleUsage, Usage

_ADD_CALL = (
    "insert or ignore into call values"
    " (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, 0)"
)


_FIND = "select texts, finish_reasons from call where key = ?"
_COLUMNS = (
    "key, role, level, candidate, query, sample, n, provider, model, parameters, messages,"
    " request_sha256, texts, finish_reasons, prompt_tokens, completion_tokens, tokens_estimated,"
    " cost_usd, finished_at, seconds"
)


class SqliteLedger:
    """The table `call`, its attempts and texts."""

    def __init__(self, store: RunStore) -> None:
        self._store = store

    def ensure_healthy(self) -> None:
        """Raises RunFailed when a checkpoint could not be written."""
        self._store.ensure_healthy()

    async def usage(self) -> Usage:
        """Of the run so far."""
        usage = Usage()
        for role, *numbers in await self._store.read(
            "select role, sum(not inherited), sum(hits),"
            " sum(iif(inherited, 0, prompt_tokens)), sum(iif(inherited, 0, completion_tokens)),"
            " coalesce(sum(iif(inherited, 0.0, cost_usd)), 0.0),"
            " sum(not inherited and cost_usd is null) from call group by role"
        ):
            usage.roles[role] = RoleUsage(*numbers)
        return usage

    async def find(self, key: str) -> Reply | None:
        """The reply recorded under `key`."""
        rows = await self._store.read(_FIND, (key,))
        if not rows and await self._take_over(key):
            rows = await self._store.read(_FIND, (key,))
        if not rows:
            return None
        hashes = json.loads(rows[0][0])
        bodies = await self._store.texts(sorted(set(hashes)))
        return Reply(tuple(bodies[each] for each in hashes), tuple(json.loads(rows[0][1])))

    async def _take_over(self, key: str) -> bool:
        """The row and the texts of the run that `ledger.reuse` names, as inherited."""
        rows = await self._store.read_reused(
            f"select {_COLUMNS}, messages, texts from call where key = ?", (key,)
        )
        if not rows:
            return False
        *row, messages, texts = rows[0]
        hashes = sorted({name for _, name in json.loads(messages)} | set(json.loads(texts)))
        marks = ", ".join("?" * len(hashes))
        bodies = await self._store.read_reused(
            f"select sha256, body from text where sha256 in ({marks})", hashes
        )
        marks = ", ".join("?" * len(row))
        await self._store.write(
            add_text([body for _, body in bodies]),
            (f"insert or ignore into call ({_COLUMNS}, inherited) values ({marks}, 1)", [row]),
        )
        return True

    async def record(self, record: CallRecord) -> None:
        """Commit a reply, raw, with its attempts."""
        said = [message.content for message in record.request.messages]
        await self._store.write(
            add_text([*said, *record.completion.texts]),
            (
                _ADD_CALL,
                [_call_row(record)],
            ),
            _attempts(record.key, record.attempts),
        )

    async def record_failure(self, key: str, attempts: Sequence[Attempt]) -> None:
        """Commit attempts that got no reply."""
        await self._store.write(_attempts(key, attempts))

    async def count_hit(self, key: str) -> None:
        """One more request was answered by this record."""
        await self._store.write(("update call set hits = hits + 1 where key = ?", [(key,)]))


def _call_row(record: CallRecord) -> tuple[Any, ...]:
    request, completion = record.request, record.completion
    return (
        record.key,
        request.role,
        request.level,
        request.candidate,
        request.query,
        request.sample,
        request.n,
        record.provider.name,
        record.provider.parameters["model"],
        dumps(dict(record.provider.parameters)),
        dumps([[turn.role, sha256(turn.content)] for turn in request.messages]),
        completion.request_sha256,
        dumps([sha256(text) for text in completion.texts]),
        dumps(list(completion.finish_reasons)),
        record.prompt_tokens,
        record.completion_tokens,
        record.tokens_estimated,
        record.cost_usd,
        now(),
        record.attempts[-1].seconds,
    )


def _attempts(key: str, attempts: Sequence[Attempt]) -> tuple[str, list[tuple[Any, ...]]]:
    rows = [
        (key, number, attempt.started_at, attempt.seconds, attempt.problem)
        for number, attempt in enumerate(attempts)
    ]
    return ("insert or ignore into attempt values (?, ?, ?, ?, ?)", rows)
