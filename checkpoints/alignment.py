"""What an alignment writes and reads beside its searches: examples, arms, findings.

Like `store`, every write is committed when it returns, and writing a row again changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from drpo.checkpoints.rows import EXAMPLES, dumps, example_rows, now
from drpo.checkpoints.runs import readings_beside
from drpo.checkpoints.store import RunStore, Statement, add_text
from drpo.graph.values import (
    CANDIDATES_PER_SEARCH,
    PROMPT_SEARCH,
    ROOT,
    Arm,
    Candidate,
    Example,
    Judged,
    Part,
)

_ADD_ARM = "insert or ignore into arm values (?, ?, ?, ?, ?)"
_ADD_ARM_CANDIDATE = (
    "insert or ignore into candidate (id, level, parent, origin, item, prompts)"
    " select ?, 0, id, 'arm', null, prompts from candidate where id = ?"
)


class AlignmentRows:
    """Of one run."""

    def __init__(self, store: RunStore, reused: Path | None = None) -> None:
        """`reused` is the run whose answers this one takes."""
        self._store = store
        self._reused = reused

    async def examples(self) -> list[Example]:
        """To show to the target, in order."""
        return [Example(*row) for row in await self._store.read(EXAMPLES)]

    async def add_examples(self, found: Sequence[tuple[Example, int]]) -> None:
        """Optimized ones, with the candidates that they are."""
        texts, rows = example_rows([example for example, _ in found])
        named = [(*row, candidate) for row, (_, candidate) in zip(rows, found, strict=True)]
        await self._store.write(
            add_text([text for _, text in texts]),
            ("insert or replace into example values (?, ?, ?, ?)", named),
        )

    async def add_search(self, number: int, kind: str, query: int | None = None) -> None:
        """One of the run's searches, and the query it is about."""
        row = (number, kind, query)
        await self._store.write(("insert or ignore into search values (?, ?, ?)", [row]))

    async def challengers(self, most: int) -> list[Candidate]:
        """Of the prompt search, not the root: the terminal beam, then the best path values.

        No two have the same prompts.
        """
        rows = await self._store.read(
            "select min(place), id from (select id, prompts, row_number() over (order by"
            " id in (select candidate from decision where action = 'returned') desc,"
            " iif(beam_rank is null, -1, level) desc, beam_rank,"
            " path_sum / path_count desc, id) as place"
            " from candidate where id / ? = ? and path_count > 0 and reward is not null"
            " and prompts != (select prompts from candidate where id = ?)) group by prompts"
            " order by 1 limit ?",
            (CANDIDATES_PER_SEARCH, PROMPT_SEARCH, ROOT, most),
        )
        found = {each.id: each for each in await self._store.candidates([row[1] for row in rows])}
        return [found[id_] for _, id_ in rows]

    async def add_arms(self, part: Part, arms: Sequence[Arm]) -> None:
        """What is compared on the queries of `part`."""
        rows = [(arm.candidate, part, arm.name, arm.prompt, int(arm.with_examples)) for arm in arms]
        named: Statement = (_ADD_ARM_CANDIDATE, [(arm.candidate, arm.prompt) for arm in arms])
        await self._store.write(named, (_ADD_ARM, rows))

    async def arms(self, part: Part) -> list[Arm]:
        """What was compared on the queries of `part`."""
        rows = await self._store.read(
            "select candidate, name, prompt, with_examples from arm where part = ?"
            " order by candidate",
            (part,),
        )
        return [Arm(id_, name, prompt, bool(shown)) for id_, name, prompt, shown in rows]

    async def judged(self, arms: Sequence[Arm]) -> list[Judged]:
        """Every sample of these arms that has a verdict, by arm, query and repeat."""
        rows = await self._store.read(
            "select candidate, query, sample, reward, unscored from verdict"
            " where candidate in (select value from json_each(?))"
            " order by candidate, query, sample",
            (dumps([arm.candidate for arm in arms]),),
        )
        return [Judged(*row) for row in rows]

    async def read_confirm(self, queries_sha256: str) -> int:
        """From now on the queries of `confirm` are no longer unseen; the how manieth time it is.

        The same number however often it is asked for in one run.
        """
        rows = await self._store.read("select number from reading")
        if rows:
            return int(rows[0][0])
        number = await asyncio.to_thread(readings_beside, self._store.file, self._reused) + 1
        row = (number, "confirm", queries_sha256, now())
        await self._store.write(("insert into reading values (?, ?, ?, ?)", [row]))
        return number

    async def add_finding(self, name: str, body: Mapping[str, Any]) -> None:
        """What came of a stage."""
        await self._store.write(
            ("insert or replace into finding values (?, ?)", [(name, dumps(body))])
        )
