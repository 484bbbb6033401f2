"""What an alignment writes and reads beside its searches: examples, arms, findings.

Like `store`, every write is committed when it returns, and writing a row again changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from drpo.checkpoints.rows import dumps, example_rows, now
from drpo.checkpoints.store import RunStore, Statement, add_text
from drpo.graph.context import Rewards
from drpo.graph.values import (
    CANDIDATES_PER_SEARCH,
    PROMPT_SEARCH,
    ROOT,
    Arm,
    Candidate,
    Example,
    Part,
)

_ADD_ARM = "insert or ignore into arm values (?, ?, ?, ?, ?)"
_ADD_ARM_CANDIDATE = (
    "insert or ignore into candidate (id, level, parent, origin, item, prompts)"
    " select ?, 0, id, 'arm', null, prompts from candidate where id = ?"
)


class AlignmentRows:
    """Of one run."""

    def __init__(self, store: RunStore, readings_before: int = 0) -> None:
        """`readings_before` is how often other runs have read the same `confirm` queries."""
        self._store = store
        self._readings_before = readings_before

    async def examples(self) -> list[Example]:
        """To show to the target, in order."""
        rows = await self._store.read(
            "select asked.body, said.body from example"
            " join text asked on asked.sha256 = example.query"
            " join text said on said.sha256 = example.answer order by number"
        )
        return [Example(*row) for row in rows]

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

    async def answered(self, arms: Sequence[Arm]) -> set[tuple[int, int, int]]:
        """What of these arms is judged already: arm, query, repeat."""
        return {(arm, query, repeat) for arm, query, repeat, *_ in await self._verdicts(arms)}

    async def rewards(self, arms: Sequence[Arm]) -> Rewards:
        """Of all samples of these arms."""
        found: dict[int, dict[int, list[float | None]]] = {arm.candidate: {} for arm in arms}
        for candidate, query, _, reward, _ in await self._verdicts(arms):
            found[candidate].setdefault(query, []).append(reward)
        return found

    async def why_unscored(self, arms: Sequence[Arm]) -> list[str | None]:
        """Of every sample of these arms, why it has no reward; None where it has one."""
        return [
            None if reward is not None else reason or "no verdict on it can be read"
            for *_, reward, reason in await self._verdicts(arms)
        ]

    async def _verdicts(self, arms: Sequence[Arm]) -> list[Any]:
        return await self._store.read(
            "select candidate, query, sample, reward, unscored from verdict"
            " where candidate in (select value from json_each(?))"
            " order by candidate, query, sample",
            (dumps([arm.candidate for arm in arms]),),
        )

    async def read_confirm(self, queries_sha256: str) -> int:
        """From now on the queries of `confirm` are no longer unseen; the how manieth time it is.

        The same number however often it is asked for in one run.
        """
        row = (self._readings_before + 1, "confirm", queries_sha256, now())
        await self._store.write(
            (
                "insert into reading select ?, ?, ?, ? where not exists (select 1 from reading)",
                [row],
            )
        )
        [(number,)] = await self._store.read("select number from reading")
        return int(number)

    async def add_finding(self, name: str, body: Mapping[str, Any]) -> None:
        """What came of a stage."""
        await self._store.write(
            ("insert or replace into finding values (?, ?)", [(name, dumps(body))])
        )

    async def finding(self, name: str) -> dict[str, Any] | None:
        """What came of a stage; None before it is over."""
        rows = await self._store.read("select body from finding where name = ?", (name,))
        with self._store.decoding():
            return dict(json.loads(rows[0][0])) if rows else None
