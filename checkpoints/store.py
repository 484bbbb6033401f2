"""What a running search writes and reads: the run's rows, on the hot path.

Writes go through the saver's connection under its lock, the file's only writer; reads through a
read-only one. Every write is committed when it returns, and writing a row again changes nothing.
Looking at a run from outside is `reader`'s.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import aiosqlite

from drpo.checkpoints.rows import (
    UNREADABLE,
    Damaged,
    SoundRow,
    dumps,
    hashes_of,
    now,
    said_of,
    scores_json,
    see_doctor,
    selection_of,
    sha256,
    verdict_of,
)
from drpo.checkpoints.runs import BUSY_TIMEOUT_S, is_busy
from drpo.checkpoints.saver import RunSaver
from drpo.graph.context import Place
from drpo.graph.errors import RunFailed
from drpo.graph.requests import Answer
from drpo.graph.values import (
    CANDIDATES_PER_SEARCH,
    PROMPT_SEARCH,
    Candidate,
    Decision,
    Evaluation,
    Prompts,
    Rewrite,
    Sample,
    Selection,
    Standing,
    Verdict,
)

Statement = tuple[str, Sequence[Sequence[Any] | Mapping[str, Any]]]
"""SQL and one parameter row per execution."""

_ADD_TEXT = "insert or ignore into text values (?, ?)"
_ADD_DECISION = "insert or replace into decision values (?, ?, ?, ?, ?, ?)"
_ADD_CANDIDATE = (
    "insert or ignore into candidate (id, level, parent, origin, item, prompts)"
    " values (?, ?, ?, ?, ?, ?)"
)
_ADD_REWRITE = (
    "insert or replace into rewrite (parent, item, prompts, failure, call) values (?, ?, ?, ?, ?)"
)
_ADD_WRITTEN = "insert or replace into rewrite (parent, item, prompts, author) values (?, ?, ?, ?)"
_SETTLE = (
    "update candidate set reward = ?, path_sum = ?, path_count = ?, beam_rank = ? where id = ?"
)
WAL_LIMIT_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Waiting:
    """What one task wants written, and where it learns that it is."""

    statements: Sequence[Statement]
    written: asyncio.Future[BaseException | None]


class RunStore:
    """One run's file, open for its search."""

    def __init__(
        self,
        path: Path,
        saver: RunSaver,
        reading: aiosqlite.Connection,
        reused: tuple[aiosqlite.Connection, Path] | None = None,
    ) -> None:
        self.file = path
        self.saver = saver
        self._reading = reading
        self._reused = reused
        self._waiting: list[_Waiting] = []
        self._writing: asyncio.Task[None] | None = None

    def ensure_healthy(self) -> None:
        """Raises RunFailed when a checkpoint or a row could not be written, or would be lost."""
        self.saver.ensure_healthy()
        if not self.file.exists():
            raise RunFailed(f"the run's file {str(self.file)!r} was deleted while it was running")

    async def write(self, *statements: Statement) -> None:
        """All of them in one transaction, committed, also if whoever waits for it is cancelled.

        What comes while the file is busy is written together. Raises RunFailed when the file cannot
        be written.
        """
        written = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(statements, written))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write_waiting())
        problem = await written
        if problem is not None:
            raise RunFailed(f"cannot write {self.file}: {problem}") from problem

    async def settled(self) -> None:
        """When nothing waits to be written any more."""
        if self._writing is not None:
            await self._writing

    async def _write_waiting(self) -> None:
        connection = self.saver.conn
        while self._waiting:
            async with self.saver.lock:
                taken, self._waiting = self._waiting, []
                problem: BaseException | None = None
                try:
                    for sql, rows in _together(each.statements for each in taken):
                        await connection.executemany(sql, rows)
                    await connection.commit()
                except sqlite3.Error as error:
                    self.saver.failures.append(error)
                    problem = error
                    await connection.rollback()
                except BaseException as error:
                    problem = error
                    await connection.rollback()
                    raise
                finally:
                    for each in taken:
                        if not each.written.done():
                            each.written.set_result(problem)

    async def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Rows of committed data."""
        return [tuple(row) for row in await _read(self._reading, self.file, sql, parameters)]

    async def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """As `read`, by the names of columns."""
        return [dict(row) for row in await _read(self._reading, self.file, sql, parameters)]

    async def reused_rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """As `rows`, of the run whose answers are taken over; none without one."""
        if self._reused is None:
            return []
        try:
            return [dict(row) for row in await _read(*self._reused, sql, parameters)]
        except RunFailed as error:
            hint = "; ledger.reuse=null goes on without its answers"
            raise RunFailed(f"ledger.reuse: {error}{hint}") from error

    async def selection(self, query: int) -> Selection | None:
        """Of the query with this ordinal."""
        rows = await self.rows(
            "select query, aspects, reason, notes from selection where query = ?", (query,)
        )
        with self.decoding():
            return selection_of(rows[0]) if rows else None

    async def add_selection(self, query: int, answer: Answer[Selection]) -> None:
        """The selection of one query."""
        said = answer.value
        aspects = [{"name": a.name, "definition": a.definition} for a in said.aspects]
        row = (query, dumps(aspects), said.reason, dumps(said.notes), _first(answer.calls))
        await self.write(("insert or replace into selection values (?, ?, ?, ?, ?)", [row]))

    async def candidates(self, ids: Sequence[int]) -> list[Candidate]:
        """By id."""
        rows = await self.rows(
            "select id, level, parent, origin, item, prompts from candidate"
            f" where id in ({_marks(ids)}) order by id",
            ids,
        )
        return await self._candidates(rows)

    async def path(self, candidate: int, length: int) -> list[Candidate]:
        """The candidate and its ancestors, oldest first, at most `length` of them."""
        rows = await self.rows(
            "with recursive path (id, parent, steps) as ("
            " select id, parent, 1 from candidate where id = ?"
            " union all select up.id, up.parent, steps + 1 from path"
            " join candidate up on up.id = path.parent where steps < ?)"
            " select id, level, parent, origin, item, prompts from candidate"
            " where id in (select id from path) order by level",
            (candidate, length),
        )
        return await self._candidates(rows)

    async def vectors(self, embedder: str, texts: Sequence[str]) -> dict[str, bytes]:
        """Of those texts that this embedder was asked for before, by text."""
        hashed = {sha256(text): text for text in texts}
        rows = await self.read(
            f"select text, vector from embedding where embedder = ? and text in ({_marks(texts)})",
            (embedder, *(sha256(text) for text in texts)),
        )
        return {hashed[name]: vector for name, vector in rows}

    async def keep_vectors(self, embedder: str, vectors: Mapping[str, bytes]) -> None:
        """By text."""
        rows = [(embedder, sha256(text), vector) for text, vector in vectors.items()]
        await self.write(
            add_text(vectors), ("insert or replace into embedding values (?, ?, ?)", rows)
        )

    async def texts(self, hashes: Sequence[str]) -> dict[str, str]:
        """Each text by its sha256. Raises RunFailed where one is missing."""
        rows = await self.read(
            f"select sha256, body from text where sha256 in ({_marks(hashes)})", hashes
        )
        found = dict(rows)
        lost = [name for name in hashes if name not in found]
        if lost:
            said = f"text {lost[0][:12]} is missing"
            raise RunFailed(f"{self.file} is damaged: {said}{see_doctor(self.file)}")
        return found

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """Raises RunFailed, naming the file, for rows that are not what was stored."""
        try:
            yield
        except UNREADABLE as error:
            said = said_of(error)
            raise RunFailed(f"{self.file} is damaged: {said}{see_doctor(self.file)}") from error

    async def add_rewrites(
        self, parent: int, first_item: int, answer: Answer[tuple[Rewrite, ...]]
    ) -> None:
        """What the rewriter made of one candidate; several completions may share one call."""
        texts = [text for said in answer.value for text in (said.prompts or {}).values()]
        calls = answer.calls or (None,)
        rows = [
            (
                parent,
                first_item + index,
                None if said.prompts is None else dumps(_hashed(said.prompts)),
                said.failure,
                calls[min(index, len(calls) - 1)],
            )
            for index, said in enumerate(answer.value)
        ]
        await self.write(
            add_text(texts),
            (_ADD_REWRITE, rows),
        )

    async def add_review(
        self, decisions: Sequence[Decision], written: Sequence[tuple[int, Rewrite]]
    ) -> None:
        """What a person decided on every survivor of a level, and wrote for which parent."""
        named = [(parent, said, said.prompts or {}) for parent, said in written]
        rows = [
            (parent, said.item, dumps(_hashed(prompts)), said.author)
            for parent, said, prompts in named
        ]
        await self.write(
            add_text([text for *_, prompts in named for text in prompts.values()]),
            (_ADD_WRITTEN, rows),
            _decision_statement(decisions),
        )

    async def reviewed(self, level: int) -> dict[int, str]:
        """What a person decided on each survivor of a level; empty before."""
        rows = await self.read(
            "select candidate, action from decision where node = 'review' and level = ?", (level,)
        )
        return dict(rows)

    async def is_written(self, parent: int, item: int) -> bool:
        """Whether a person wrote this rewrite."""
        return bool(
            await self.read(
                "select 1 from rewrite where parent = ? and item = ? and author is not null",
                (parent, item),
            )
        )

    async def rewrites(self, parent: int, first_item: int) -> list[Rewrite]:
        """Of this candidate, from this number on, in the rewriter's order."""
        rows = await self.rows(
            "select parent, item, prompts, failure, author from rewrite"
            " where parent = ? and item >= ? order by item",
            (parent, first_item),
        )
        with self.decoding():
            named = [hashes_of(row) if row["prompts"] else None for row in rows]
            texts = await self._texts_of([prompts for prompts in named if prompts])
        return [
            Rewrite(
                {n: texts[t] for n, t in prompts.items()} if prompts else None,
                row["failure"],
                row["author"],
                row["item"],
            )
            for row, prompts in zip(rows, named, strict=True)
        ]

    async def admit(self, candidates: Sequence[Candidate], decisions: Sequence[Decision]) -> None:
        """New candidates, and what was refused."""
        texts = [text for candidate in candidates for text in candidate.prompts.values()]
        rows = [
            (each.id, each.level, each.parent, each.origin, each.item, dumps(_hashed(each.prompts)))
            for each in candidates
        ]
        await self.write(add_text(texts), (_ADD_CANDIDATE, rows), _decision_statement(decisions))

    async def add_sample(self, place: Place, answer: Answer[Sample]) -> None:
        """What the target answered."""
        [text] = text_rows([answer.value.text])
        row = (*_key(place), text[0], answer.value.failure, _first(answer.calls))
        await self.write(
            (_ADD_TEXT, [text]),
            ("insert or replace into sample values (?, ?, ?, ?, ?, ?)", [row]),
        )

    async def add_verdict(self, place: Place, answer: Answer[Verdict]) -> None:
        """What the judge said of it."""
        said = answer.value
        row = (
            *_key(place),
            scores_json(said),
            said.unscored,
            dumps(said.notes),
            said.reward,
            _first(answer.calls),
        )
        await self.write(("insert or replace into verdict values (?, ?, ?, ?, ?, ?, ?, ?)", [row]))

    async def evaluations(self, candidates: Sequence[int]) -> list[Evaluation]:
        """Of these candidates, by candidate, then query."""
        rows = await self.rows(
            "select candidate, query, body, failure, scores, unscored, notes"
            " from sample join verdict using (candidate, query, sample)"
            " join text on sha256 = text"
            f" where candidate in ({_marks(candidates)}) order by candidate, query, sample",
            candidates,
        )
        with self.decoding():
            return [
                Evaluation(
                    row["candidate"],
                    row["query"],
                    Sample(row["body"], row["failure"]),
                    verdict_of(row),
                )
                for row in rows
            ]

    async def forget_failures(self, level: int, search: int = PROMPT_SEARCH) -> None:
        """What failed at a level of a search may be asked again.

        Its calls are kept under another key.
        """
        here = f"candidate / {CANDIDATES_PER_SEARCH} = :search"
        at_level = "select id from candidate where level = :level and search = :search"
        failed = f"reward is null and candidate in ({at_level})"
        of_level = (
            f"parent / {CANDIDATES_PER_SEARCH} = :search"
            " and call in (select key from call where level = :level)"
        )
        unused = " and ".join(
            f"key not in (select call from {table} where call is not null)"
            for table in ("selection", "rewrite", "sample", "verdict")
        )
        # The next level's selections are made beside this one's evaluations.
        forgotten = (
            f"level >= :level and (candidate is null or {here}) and outcome != 'ok' and {unused}"
        )
        statements = (
            # Nothing that could be used, although it could be read.
            "update call set outcome = 'invalid' where outcome = 'ok' and key in (select call"
            f" from verdict where {failed});"
            "delete from sample where failure is not null and (candidate, query, sample) in"
            f" (select candidate, query, sample from verdict where {failed});"
            f"delete from verdict where {failed};"
            f"delete from rewrite where prompts is null and {of_level};"
            "delete from selection where aspects = '[]';"
            "update attempt set call = call || '!' || (select finished_at from call where"
            f" key = attempt.call) where call in (select key from call where {forgotten});"
            f"update call set key = key || '!' || finished_at where {forgotten}"
        )
        given = [{"level": level, "search": search}]
        await self.write(*((statement, given) for statement in statements.split(";")))

    async def path_sums(self, candidates: Sequence[int]) -> dict[int, tuple[float, int]]:
        """Sum and number of the rewards on the path up to each candidate's parent."""
        rows = await self.read(
            "select candidate.id, coalesce(up.path_sum, 0.0), coalesce(up.path_count, 0)"
            " from candidate left join candidate up on up.id = candidate.parent"
            f" where candidate.id in ({_marks(candidates)})",
            candidates,
        )
        return {candidate: (path_sum, count) for candidate, path_sum, count in rows}

    async def standings(self, candidates: Sequence[int]) -> list[Standing]:
        """Of candidates of earlier levels, by id, as `settle` left them: without their scores."""
        # As one JSON list, because SQLite counts how many marks a statement has.
        rows = await self.read(
            "select id, reward, path_sum, path_count from candidate"
            " where id in (select value from json_each(?)) order by id",
            (dumps(list(candidates)),),
        )
        return [Standing(id_, reward, (), total, n) for id_, reward, total, n in rows]

    async def settle(
        self, standings: Sequence[Standing], beam: Sequence[int], decisions: Sequence[Decision]
    ) -> None:
        """The end of a level: where everybody stands, and who goes on, in beam order."""
        ranks = {candidate: rank for rank, candidate in enumerate(beam)}
        await self.write(
            (
                _SETTLE,
                [
                    (at.reward, at.path_sum, at.path_count, ranks.get(at.candidate), at.candidate)
                    for at in standings
                ],
            ),
            _decision_statement(decisions),
        )

    async def progress(self) -> tuple[int, list[tuple[int, float | None]]]:
        """Of the prompt search: levels finished, and id and path value of the last survivors."""
        [(levels,)] = await self.read(
            "select coalesce(max(level), -1) + 1 from decision"
            f" where node = 'advance' and candidate < {CANDIDATES_PER_SEARCH}"
        )
        kept = f"from candidate where beam_rank is not null and id < {CANDIDATES_PER_SEARCH}"
        rows = await self.read(
            f"select id, case when path_count then path_sum / path_count end {kept}"
            f" and level = (select max(level) {kept}) order by beam_rank"
        )
        return levels, [(candidate, value) for candidate, value in rows]

    async def level_counts(self, level: int) -> tuple[int, list[tuple[int, int, str | None]]]:
        """Of a level of the prompt search: its candidates, and (candidate, query, why) unscored."""
        here = f"level = ? and candidate.id < {CANDIDATES_PER_SEARCH}"
        [(count,)] = await self.read(f"select count(*) from candidate where {here}", (level,))
        rows = await self.read(
            "select candidate, query, coalesce(failure, unscored) from candidate"
            " join verdict on verdict.candidate = candidate.id"
            f" join sample using (candidate, query, sample) where {here}"
            " and verdict.reward is null order by candidate, query, sample",
            (level,),
        )
        return count, [(candidate, query, why) for candidate, query, why in rows]

    def swollen_log(self) -> str | None:
        """What to say of a log that cannot shrink because somebody reads the file (FAULTS S4)."""
        wal = self.file.with_name(f"{self.file.name}-wal")
        try:
            size = wal.stat().st_size
        except OSError:
            return None
        if size <= WAL_LIMIT_BYTES:
            return None
        return (
            f"{wal.name} has {size // 2**20} MB: another program reads the run without an end, "
            "and until it stops the log goes on growing"
        )

    async def heartbeat(self, seconds: float) -> None:
        """The owner is alive; `seconds` is what all sessions took so far."""
        await self.write(("update run set heartbeat_at = ?, seconds = ?", [(now(), seconds)]))

    async def seconds(self) -> float:
        """What the sessions of the run took so far."""
        [(seconds,)] = await self.read("select seconds from run")
        return float(seconds)

    async def finish(self) -> None:
        """Of a run that is done: nobody goes on from its checkpoints, so the last ones will do."""
        threads = await self.read("select distinct thread_id from checkpoints")
        await self.saver.aprune([thread for (thread,) in threads])
        # To give the room back takes as much again for a moment; a full disk may go without.
        async with self.saver.lock:
            with suppress(sqlite3.OperationalError):
                await self.saver.conn.execute_fetchall("vacuum")

    async def set_status(self, status: str, reason: str | None, seconds: float) -> None:
        """Of the run; `seconds` is what all its sessions took."""
        await self.write(
            (
                "update run set status = ?, reason = ?, updated_at = ?, seconds = ?",
                [(status, reason, now(), seconds)],
            )
        )

    async def _candidates(self, rows: Iterable[Mapping[str, Any]]) -> list[Candidate]:
        with self.decoding():
            read = [(row, hashes_of(row)) for row in rows]
            texts = await self._texts_of([named for _, named in read])
        return [
            Candidate(
                row["id"],
                row["level"],
                row["parent"],
                {n: texts[t] for n, t in named.items()},
                row["origin"],
                row["item"],
            )
            for row, named in read
        ]

    async def _texts_of(self, hashed: Iterable[Mapping[str, str]]) -> dict[str, str]:
        return await self.texts(sorted({text for named in hashed for text in named.values()}))


@asynccontextmanager
async def open_store(
    path: Path, *, full_sync: bool = False, reuse: str | None = None
) -> AsyncIterator[RunStore]:
    """The run's file, open for its search, and another run's to take answers from.

    `full_sync` survives a power cut without losing the last commits: an fsync each.
    """
    writing = aiosqlite.connect(path, timeout=BUSY_TIMEOUT_S)
    reading = _read_only(path)
    reusing = nullcontext() if reuse is None else _read_only(Path(reuse))
    async with writing as writer:
        saver = RunSaver(writer)
        await saver.setup()
        for pragma in (
            f"synchronous = {'full' if full_sync else 'normal'}",
            "foreign_keys = on",
            "trusted_schema = off",
            f"journal_size_limit = {WAL_LIMIT_BYTES}",
        ):
            await writer.execute_fetchall(f"pragma {pragma}")
        await writer.commit()
        try:
            async with reading as reader, reusing as reused:
                reader.row_factory = SoundRow
                if reused is None or reuse is None:
                    store = RunStore(path, saver, reader)
                else:
                    reused.row_factory = sqlite3.Row
                    store = RunStore(path, saver, reader, (reused, Path(reuse)))
                try:
                    yield store
                finally:
                    await store.settled()
        finally:
            # A run at rest is one file; while somebody looks at it, that has to wait.
            with suppress(sqlite3.OperationalError):
                # A write that was cancelled half-way would hold the file.
                await writer.rollback()
                # Read to its end: an open cursor would go on holding the file.
                await writer.execute_fetchall("pragma journal_mode = delete")


async def _read(
    connection: aiosqlite.Connection, file: Path, sql: str, parameters: Sequence[Any]
) -> list[Any]:
    try:
        return list(await connection.execute_fetchall(sql, parameters))
    except Damaged as error:
        raise RunFailed(f"{file} is damaged: {error}{see_doctor(file)}") from error
    except sqlite3.Error as error:
        hint = "" if is_busy(error) else see_doctor(file)
        raise RunFailed(f"cannot read {file}: {error}{hint}") from error


def _read_only(path: Path) -> aiosqlite.Connection:
    uri = f"{path.absolute().as_uri()}?mode=ro"
    return aiosqlite.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S)


def _together(writes: Iterable[Sequence[Statement]]) -> Iterator[Statement]:
    """Those that consist of the same statements as one, because each costs a change of thread.

    The order within a write stays; between writes at the same time there is none.
    """
    alike: dict[tuple[str, ...], list[list[Any]]] = {}
    for statements in writes:
        every = alike.setdefault(tuple(sql for sql, _ in statements), [[] for _ in statements])
        for rows, (_, more) in zip(every, statements, strict=True):
            rows.extend(more)
    for named, every in alike.items():
        yield from ((sql, rows) for sql, rows in zip(named, every, strict=True) if rows)


def text_rows(texts: Iterable[str]) -> list[tuple[str, str]]:
    """Rows of the table `text`."""
    return [(sha256(text), text) for text in texts]


def add_text(texts: Iterable[str]) -> Statement:
    """Stores texts that are not there yet."""
    return (_ADD_TEXT, text_rows(texts))


def _decision_statement(decisions: Sequence[Decision]) -> Statement:
    return (_ADD_DECISION, [astuple(said) for said in decisions])


def _hashed(prompts: Prompts) -> dict[str, str]:
    return {name: sha256(text) for name, text in prompts.items()}


def _key(place: Place) -> tuple[int, int, int]:
    return (place.candidate, place.query, place.sample)


def _first(calls: Sequence[str]) -> str | None:
    return calls[0] if calls else None


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))
