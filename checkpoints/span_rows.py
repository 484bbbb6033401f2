"""The rows of a run's file that its spans are made of, level by level. Read-only.

The rewarder is asked about a query, so its calls belong to the search that the query is for. What
is chosen for the next level without asking belongs to that level before it has begun.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlite_utils import Database

from drpo.checkpoints.rows import dumps
from drpo.graph.values import ARMS, CANDIDATES_PER_SEARCH, PROMPT_SEARCH

Row = Mapping[str, Any]

_SEARCH_OF_QUERY = """
    coalesce((select min(number) from search where search.query = {query}),
             iif((select part from query where ordinal = {query}) in ('select', 'confirm'),
                 :arms, :prompt))
"""
_CALLS = f"""
    select call.*, case when candidate is not null then candidate / :many
        else {_SEARCH_OF_QUERY.format(query="call.query")} end as search
    from call where not inherited
"""
_SELECTIONS = f"""
    select chosen.query, chosen.call, chosen.search,
           coalesce(call.level, seen.level, (
               select max(level) + 1 from candidate where candidate.search = chosen.search
           ), 0) as level
    from (select selection.*, {_SEARCH_OF_QUERY.format(query="selection.query")} as search
        from selection) as chosen
    left join call on call.key = chosen.call and call.query = chosen.query and not inherited
    left join (select sample.query, min(candidate.level) as level from sample
        join candidate on candidate.id = sample.candidate group by sample.query
    ) as seen on seen.query = chosen.query and call.level is null
"""
_REWRITES = """
    with named (parent, item) as (
        select parent, item from candidate
        where level = :level and item is not null and id between :first and :last
        union select candidate, item from decision
        where node = 'admit' and level = :level and item >= 0 and candidate between :first and :last
    )
    select rewrite.parent, rewrite.item, rewrite.call from named join rewrite using (parent, item)
    order by rewrite.parent, rewrite.item
"""
_EVALUATIONS = """
    select sample.candidate, sample.query, sample.sample, sample.failure, sample.call as asked,
           verdict.call as judged, verdict.scores, verdict.unscored, verdict.reward
    from candidate join sample on sample.candidate = candidate.id
    left join verdict using (candidate, query, sample)
    where candidate.level = :level and candidate.id between :first and :last
    order by sample.candidate, sample.query, sample.sample
"""
_TIMES = f"""
    select min(coalesce(min(attempt.started_at, finished_at), finished_at)) as began,
           max(finished_at) as ended,
           max(finished_at) filter (where call.level < :level) as before
    from ({_CALLS}) as call left join attempt on attempt.call = call.key
"""
_HERE = " where search = :search and level = :level"


@dataclass(frozen=True, kw_only=True)
class LevelRows:
    """All that one level of one search left in the run's file."""

    search: int
    level: int
    calls: Sequence[Row]
    """That this run paid for, in the order in which they were answered."""
    attempts: Mapping[str, Sequence[Row]]
    """By key of the call."""
    selections: Sequence[Row]
    rewrites: Sequence[Row]
    evaluations: Sequence[Row]
    evaluations_of: Mapping[tuple[int, int], Sequence[Row]]
    """By candidate and query."""
    decisions: Sequence[Row]
    queries: Mapping[int | None, str]
    """Id by ordinal."""
    paid: Mapping[str, tuple[str, str]]
    """Key and time of the calls that answers of this level are taken from."""
    texts: Mapping[str, str] | None
    """By sha256, of the calls; None where nobody wants them."""
    moment: str | None
    """Where nobody was asked: when the levels before it ended, else when the search began."""


def levels_of(db: Database) -> list[tuple[int, int]]:
    """(search, level) of all that there is a row of."""
    given = _given(0, 0)
    rows = db.query(
        f"select distinct search, level from ({_CALLS}) union"
        f" select search, level from ({_SELECTIONS}) union"
        " select candidate / :many, level from decision union"
        " select id / :many, level from candidate order by 2, 1",
        given,
    )
    return [(row["search"], row["level"]) for row in rows]


def times_of(db: Database, search: int | None = None) -> tuple[str | None, str | None]:
    """When the first call of a search, or of the run, began and when the last one ended."""
    of = "" if search is None else " where search = :search"
    [row] = db.query(_TIMES + of, _given(search or 0, 0))
    return row["began"], row["ended"]


def unanswered(db: Database) -> list[Row]:
    """Attempts at calls that nobody has answered so far; a fork's parent has its own."""
    return list(
        db.query(
            "select attempt.* from attempt join run on started_at >= created_at"
            " where problem is not null and call not in (select key from call)"
            " order by started_at, number"
        )
    )


def rows_of_level(db: Database, search: int, level: int, *, texts: bool) -> LevelRows:
    """Of one level of one search; `texts`: with what was asked and answered."""
    given = _given(search, level)

    def found(sql: str) -> list[Row]:
        return list(db.query(sql, given))

    calls = found(f"select * from ({_CALLS}){_HERE} order by finished_at, key")
    selections = found(f"select * from ({_SELECTIONS}){_HERE} order by query")
    rewrites = found(_REWRITES)
    evaluations = found(_EVALUATIONS)
    used = [row["call"] for row in (*selections, *rewrites)]
    used += [row[name] for row in evaluations for name in ("asked", "judged")]
    return LevelRows(
        search=search,
        level=level,
        calls=calls,
        attempts=_grouped(
            found(
                "select attempt.* from call join attempt on attempt.call = call.key"
                " where call.level = :level and not call.inherited order by attempt.started_at"
            ),
            "call",
        ),
        selections=selections,
        rewrites=rewrites,
        evaluations=evaluations,
        evaluations_of=_grouped(evaluations, "candidate", "query"),
        decisions=found(
            "select * from decision where level = :level and candidate between :first and :last"
            " order by node, candidate, item"
        ),
        queries={row["ordinal"]: row["id"] for row in db.query("select ordinal, id from query")},
        paid=_paid(db, {key for key in used if key is not None}),
        texts=_texts(db, given) if texts else None,
        moment=None if calls else _moment(db, given),
    )


def _given(search: int, level: int) -> dict[str, int]:
    first = search * CANDIDATES_PER_SEARCH
    return {
        "search": search,
        "level": level,
        "first": first,
        "last": first + CANDIDATES_PER_SEARCH - 1,
        "many": CANDIDATES_PER_SEARCH,
        "arms": ARMS,
        "prompt": PROMPT_SEARCH,
    }


def _moment(db: Database, given: dict[str, int]) -> str | None:
    [row] = db.query(f"{_TIMES} where search = :search", given)
    moment: str | None = row["before"] or row["began"]
    return moment


def _grouped(rows: Sequence[Row], *columns: str) -> dict[Any, list[Row]]:
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        key = tuple(row[name] for name in columns)
        groups.setdefault(key if len(columns) > 1 else key[0], []).append(row)
    return groups


def _paid(db: Database, keys: set[str]) -> dict[str, tuple[str, str]]:
    rows = db.query(
        "select key, finished_at from call where not inherited"
        " and key in (select value from json_each(?))",
        [dumps(sorted(keys))],
    )
    return {row["key"]: (row["key"], row["finished_at"]) for row in rows}


def _texts(db: Database, given: dict[str, int]) -> dict[str, str]:
    rows = db.query(
        "select sha256, body from text where sha256 in ("
        "select json_extract(each.value, '$[1]') from call, json_each(call.messages) as each"
        " where call.level = :level union select each.value from call,"
        " json_each(call.texts) as each where call.level = :level union select each.value"
        " from call, json_each(call.thinking) as each where call.level = :level)",
        given,
    )
    return {row["sha256"]: row["body"] for row in rows}
