"""Looks at candidates, read-only: all in columns, or one by one with everything behind each.

What several of them share (texts, queries, calls) stands once in a block. Plain dicts, ready for
JSON; works while the run is being written. Does not know who shows them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlite_utils import Database

from drpo.checkpoints.facts import bodies, calls_of, ensure_met, paid, path_value
from drpo.checkpoints.rows import dumps, hashes_of, query_of, value_of
from drpo.graph.values import CANDIDATES_PER_SEARCH

_SHOWN_OF_CALL = (
    "role",
    "provider",
    "model",
    "level",
    "outcome",
    "prompt_tokens",
    "completion_tokens",
    "tokens_estimated",
    "cost_usd",
    "hits",
    "inherited",
    "finished_at",
    "seconds",
)


class Details:
    """Of one run; reads where its calls are once, and the rest as it is asked for."""

    def __init__(self, db: Database) -> None:
        self._db = db
        ensure_met(db, "candidate", "rewrite", "selection", "sample", "verdict")
        self._calls = calls_of(db)

    def block(self, candidates: Sequence[int]) -> dict[str, Any]:
        """These candidates, as far as they are there, with all that they refer to."""
        texts = _Texts(self._db)
        found = {row["id"]: self._candidate(row, texts) for row in self._of("id", candidates)}
        samples = [each for one in found.values() for each in one["samples"]]
        asked = {each["query"] for each in samples}
        selections = {row["query"]: row for row in self._of("query", asked, "selection")}
        keys = {key for one in found.values() for key in one["calls"]}
        keys |= {row["call"] for row in selections.values() if row["call"]}
        return {
            "candidates": found,
            "queries": {
                row["ordinal"]: _query(row, selections.get(row["ordinal"]))
                for row in self._of("ordinal", asked, "query")
            },
            "calls": {row["key"]: self._call(row, texts) for row in self._of("key", keys, "call")},
            "texts": texts.bodies(),
        }

    def _candidate(self, row: Mapping[str, Any], texts: _Texts) -> dict[str, Any]:
        number, parent = row["id"], row["parent"]
        samples = [self._sample(each, texts) for each in self._samples(number)]
        wrote = self._rewritten(parent, row["item"])
        above = list(self._of("id", [parent]))
        return {
            "candidate": number,
            "level": row["level"],
            "parent": parent,
            "origin": row["origin"],
            "reward": row["reward"],
            "path_value": path_value(row),
            "path_count": row["path_count"],
            "beam_rank": row["beam_rank"],
            "author": wrote.get("author") if wrote else None,
            "prompts": texts.named(row),
            "before": texts.named(above[0]) if above else None,
            "decisions": self._decisions(number),
            "samples": samples,
            "rewrites": self._rewrites(number),
            "calls": self._calls.get(number, []),
        }

    def _sample(self, row: Mapping[str, Any], texts: _Texts) -> dict[str, Any]:
        judged = row["notes"] is not None
        return {
            "query": row["query"],
            "sample": row["sample"],
            "answer": texts.place(row["text"]),
            "failure": row["failure"],
            "judged": judged,
            "scores": value_of(row, "scores") if judged else [],
            "unscored": row["unscored"],
            "notes": value_of(row, "notes") if judged else [],
            "reward": row["reward"],
        }

    def _samples(self, candidate: int) -> Iterable[dict[str, Any]]:
        return self._db.query(
            "select sample.query, sample.sample, text, failure, scores, verdict.unscored, notes,"
            " reward"
            " from sample left join verdict using (candidate, query, sample)"
            " where candidate = ? order by query, sample",
            [candidate],
        )

    def _decisions(self, candidate: int) -> list[dict[str, Any]]:
        return list(
            self._db.query(
                "select node, level, action, reason from decision"
                " where candidate = ? and item = -1 order by rowid",
                [candidate],
            )
        )

    def _rewritten(self, parent: int | None, item: int | None) -> dict[str, Any] | None:
        rows = self._db.query("select * from rewrite where parent = ? and item = ?", [parent, item])
        return next(iter(rows), None)

    def _rewrites(self, parent: int) -> list[dict[str, Any]]:
        """What the rewriter made of a candidate, and what became of each."""
        return list(
            self._db.query(
                "select rewrite.item, rewrite.failure, candidate.id as candidate,"
                " decision.action, decision.reason from rewrite"
                " left join candidate on candidate.parent = rewrite.parent"
                " and candidate.item = rewrite.item and candidate.origin = 'rewrite'"
                " left join decision on decision.node = 'admit'"
                " and decision.candidate = rewrite.parent and decision.item = rewrite.item"
                " where rewrite.parent = ? order by rewrite.item",
                [parent],
            )
        )

    def _call(self, row: Mapping[str, Any], texts: _Texts) -> dict[str, Any]:
        attempts = self._db.query(
            "select number, seconds, problem from attempt where call = ? order by number",
            [row["key"]],
        )
        # A file of an older version knows none.
        thinking = value_of(row, "thinking") if "thinking" in row else ()
        return {name: row.get(name) for name in _SHOWN_OF_CALL} | {
            "messages": [[role, texts.place(text)] for role, text in value_of(row, "messages")],
            "replies": [texts.place(text) for text in value_of(row, "texts")],
            "thinking": [texts.place(text) for text in thinking if text],
            "finish_reasons": value_of(row, "finish_reasons"),
            "parameters": value_of(row, "parameters"),
            "attempts": list(attempts),
        }

    def _of(
        self, column: str, values: Iterable[Any], table: str = "candidate"
    ) -> Iterator[dict[str, Any]]:
        yield from self._db.query(
            f"select * from {table} where {column} in (select value from json_each(?))"
            f" order by {column}",
            [dumps([each for each in values if each is not None])],
        )


class _Texts:
    """The texts of a block, each once, by its place among them."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._places: dict[str, int] = {}

    def place(self, sha256: str) -> int:
        return self._places.setdefault(sha256, len(self._places))

    def named(self, row: Mapping[str, Any]) -> dict[str, int]:
        return {name: self.place(text) for name, text in hashes_of(row).items()}

    def bodies(self) -> list[str]:
        found = bodies(self._db, self._places)
        return [found[each] for each in self._places]


def _query(row: Mapping[str, Any], selection: Mapping[str, Any] | None) -> dict[str, Any]:
    query = query_of(row)
    return {
        "id": query.id,
        "messages": [[turn.role, turn.content] for turn in query.messages],
        "tags": query.tags,
        "part": query.part,
        "reference": query.reference,
        "answer": query.answer,
        "selection": selection
        and {
            "aspects": value_of(selection, "aspects"),
            "reason": selection["reason"],
            "notes": value_of(selection, "notes"),
            "call": selection["call"],
        },
    }


def branches(db: Database) -> dict[str, Any]:
    """Every candidate of all searches in creation order, column by column; None where unknown."""
    ensure_met(db, "candidate")
    rows = list(db.query("select * from candidate order by id"))
    acts: dict[int, set[str]] = {}
    for row in db.query("select candidate, action from decision where item = -1"):
        acts.setdefault(row["candidate"], set()).add(row["action"])
    origins = sorted({row["origin"] for row in rows})
    return {
        "origins": origins,
        "id": [row["id"] for row in rows],
        "level": [row["level"] for row in rows],
        "parent": [row["parent"] for row in rows],
        "origin": [origins.index(row["origin"]) for row in rows],
        "reward": [_short(row["reward"]) for row in rows],
        "value": [_short(path_value(row)) for row in rows],
        "fate": [_fate(row, acts.get(row["id"], set())) for row in rows],
        "returned": [row["id"] for row in rows if "returned" in acts.get(row["id"], set())],
    }


def arms(db: Database) -> list[dict[str, Any]]:
    """What an alignment compares, with the names that it has for them."""
    if "arm" not in db.table_names():
        return []
    return list(db.query("select candidate, part, name, prompt, with_examples from arm"))


def levels(db: Database) -> list[dict[str, Any]]:
    """By search and level: queries, and what was asked and paid, role by role."""
    found: dict[tuple[int, int], dict[str, Any]] = {}
    for row in db.query(
        f"select candidate / {CANDIDATES_PER_SEARCH} as search, level,"
        " count(distinct query) as queries from sample"
        " join candidate on candidate.id = sample.candidate group by 1, 2"
    ):
        found[row["search"], row["level"]] = row | {"roles": {}}
    for row in db.query(
        f"select coalesce(candidate, 0) / {CANDIDATES_PER_SEARCH} as search, level, role,"
        " count(*) as calls, sum(prompt_tokens + completion_tokens) as tokens,"
        " iif(count(cost_usd) = count(*), sum(cost_usd), null) as cost_usd,"
        f" sum(seconds) as seconds from {paid(db)} group by 1, 2, 3"
    ):
        at = (row.pop("search"), row.pop("level"))
        none = {"search": at[0], "level": at[1], "queries": 0, "roles": {}}
        found.setdefault(at, none)["roles"][row.pop("role")] = row
    return [found[at] for at in sorted(found)]


def prompt_texts(db: Database) -> Iterator[tuple[int, list[str]]]:
    """Every candidate with the texts of its prompts, in creation order."""
    rows = [
        (row["id"], list(hashes_of(row).values()))
        for row in db.query("select id, prompts from candidate order by id")
    ]
    texts = bodies(db, {each for _, mine in rows for each in mine})
    for number, mine in rows:
        yield number, [texts[each] for each in mine]


def _fate(row: Mapping[str, Any], acts: set[str]) -> str:
    """What became of a candidate at its level."""
    if row["origin"] == "arm":
        return "arm"
    if row["beam_rank"] is not None:
        return "skipped" if "skipped" in acts else "kept"
    return "dropped" if "dropped" in acts else "open"


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
