"""The ledger in the run's file: every reply that was paid for, raw, under its key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from drpo.checkpoints.rows import Damaged, dumps, now, sha256, value_of
from drpo.checkpoints.shapes import flaw_of
from drpo.checkpoints.store import RunStore, add_text
from drpo.graph.requests import Outcome, Reply
from drpo.graph.values import Role
from drpo.models.ledger import Attempt, CallRecord, Past, RoleUsage, Usage

_COLUMNS = (
    "key, role, level, candidate, query, sample, n, provider, model, parameters, messages,"
    " request_sha256, texts, finish_reasons, prompt_tokens, completion_tokens, tokens_estimated,"
    " cost_usd, finished_at, seconds, outcome, thinking"
)
_MARKS = ", ".join("?" * len(_COLUMNS.split(",")))
_ADD_CALL = f"insert or ignore into call ({_COLUMNS}) values ({_MARKS})"
_TAKE_OVER = f"insert or ignore into call ({_COLUMNS}, inherited) values ({_MARKS}, 1)"
_FIND = "select key, texts, finish_reasons, completion_tokens, outcome from call where key = ?"


class SqliteLedger:
    """The table `call`, its attempts and texts."""

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._keys: set[str] | None = None
        """Under which there may be a record: nobody else writes any while the run has its file."""

    def ensure_healthy(self) -> None:
        """Raises RunFailed when a checkpoint could not be written."""
        self._store.ensure_healthy()

    async def past(self) -> Past:
        """Of the run so far."""
        left_out = await self._store.read("select role, parameter from left_out")
        return Past(await self._usage(), await self._store.seconds(), [*map(tuple, left_out)])

    async def _usage(self) -> Usage:
        usage = Usage()
        for role, *numbers in await self._store.read(
            "select role, sum(not inherited), sum(hits),"
            " sum(iif(inherited, 0, prompt_tokens)), sum(iif(inherited, 0, completion_tokens)),"
            " coalesce(sum(iif(inherited, 0.0, cost_usd)), 0.0),"
            " sum(not inherited and cost_usd is null) from call group by role"
        ):
            usage.roles[role] = RoleUsage(*numbers)
        for role, outcome, count in await self._store.read(
            "select role, outcome, calls from outcomes where outcome != 'ok'"
        ):
            usage.roles[role].outcomes[outcome] = count
        return usage

    async def find(self, key: str) -> tuple[Reply, Outcome] | None:
        """The raw reply recorded under `key`, and how the call ended."""
        if self._keys is None:
            self._keys = {known for (known,) in await self._store.read("select key from call")}
        rows = await self._store.rows(_FIND, (key,)) if key in self._keys else []
        if not rows and await self._take_over(key):
            self._keys.add(key)
            rows = await self._store.rows(_FIND, (key,))
        if not rows:
            return None
        [found] = rows
        with self._store.decoding():
            hashes, reasons = value_of(found, "texts"), value_of(found, "finish_reasons")
            bodies = await self._store.texts(sorted(set(hashes)))
            said = tuple(bodies[each] for each in hashes)
            return Reply(said, tuple(reasons), found["completion_tokens"]), found["outcome"]

    async def _take_over(self, key: str) -> bool:
        """The row and the texts of the run that `ledger.reuse` names, as inherited.

        What is damaged there is not taken, and asked again.
        """
        rows = await self._store.reused_rows("select * from call where key = ?", (key,))
        if not rows:
            return False
        # A file of an older version knows no outcomes and no thinking.
        found = {"outcome": "ok", "thinking": "[]"} | rows[0]
        row = [found.get(name) for name in _COLUMNS.split(", ")]
        try:
            named = [value_of(found, name) for name in ("texts", "thinking")]
            asked = {name for _, name in value_of(found, "messages")}
            value_of(found, "finish_reasons")
        except Damaged:
            return False
        if any(map(flaw_of, _COLUMNS.split(", "), row)):
            return False
        hashes = sorted(asked.union(*named))
        marks = ", ".join("?" * len(hashes))
        bodies = await self._store.reused_rows(
            f"select body from text where sha256 in ({marks})", hashes
        )
        texts = [each["body"] for each in bodies]
        if {sha256(text) for text in texts} != {*hashes}:
            return False
        await self._store.write(add_text(texts), (_TAKE_OVER, [row]))
        return True

    async def record(self, record: CallRecord) -> None:
        """Commit a reply, raw, with its attempts."""
        said = [message.content for message in record.request.messages]
        await self._store.write(
            add_text([*said, *record.completion.texts, *record.completion.thinking]),
            (
                _ADD_CALL,
                [_call_row(record)],
            ),
            _attempts(record.key, record.attempts),
        )
        if self._keys is not None:
            self._keys.add(record.key)

    async def record_failure(self, key: str, attempts: Sequence[Attempt]) -> None:
        """Commit attempts that got no reply."""
        await self._store.write(_attempts(key, attempts))

    async def mark_invalid(self, key: str) -> bool:
        """The reply cannot be read; false where that was known."""
        fine = "select 1 from call where key = ? and outcome = 'ok'"
        if not await self._store.read(fine, (key,)):
            return False
        await self._store.write(("update call set outcome = 'invalid' where key = ?", [(key,)]))
        return True

    async def record_left_out(self, role: Role, parameter: str, reason: str) -> None:
        """The server of a role does not take this parameter."""
        await self._store.write(
            ("insert or ignore into left_out values (?, ?, ?)", [(role, parameter, reason)])
        )

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
        record.outcome,
        dumps([sha256(text) for text in completion.thinking]),
    )


def _attempts(key: str, attempts: Sequence[Attempt]) -> tuple[str, list[tuple[Any, ...]]]:
    rows = [
        (key, number, attempt.started_at, attempt.seconds, attempt.problem)
        for number, attempt in enumerate(attempts)
    ]
    return ("insert or ignore into attempt values (?, ?, ?, ?, ?)", rows)
