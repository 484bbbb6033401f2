"""Looks at a run from outside, read-only: what `drpo show` tells, and the hash of its tree.

Plain dicts, ready for JSON. Works while the run is being written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from drpo.checkpoints.facts import (
    bodies,
    calls_of,
    ensure_met,
    line_of,
    paid,
    path_value,
    prompts_of,
)
from drpo.checkpoints.findings import deployed, examples, findings
from drpo.checkpoints.rows import dumps, hashes_of, value_of
from drpo.checkpoints.runs import is_owned, reading
from drpo.graph.errors import BadInput
from drpo.graph.values import CANDIDATES_PER_SEARCH, ROLES, ROOT

KILLED = "the process ended without a word"
FAILURES = "too many failures"
_CALLS = "select key, role, model, prompt_tokens, completion_tokens, cost_usd, seconds from call"
_Prompts = Mapping[str, Mapping[str, str]]
UNDER_REVIEW = "a level is finished and waits for its review"


def status(path: Path) -> str:
    """`running`, `paused`, `done` or `failed`."""
    with reading(path) as db:
        return status_of(db, path)[0]


def levels_finished(path: Path) -> int:
    """The root's included."""
    with reading(path) as db:
        return _level(db)


def calls_made(path: Path) -> int:
    """Calls that some model answered this run."""
    with reading(path) as db:
        return int(db[paid(db)].count)


def waits_for_review(path: Path) -> bool:
    """Whether the run stopped for a person to look at its beam."""
    with reading(path) as db:
        return status_of(db, path) == ("paused", UNDER_REVIEW)


def paused_by_failures(path: Path) -> bool:
    """Whether the run stopped because too much of a level failed."""
    with reading(path) as db:
        state, reason = status_of(db, path)
    return state == "paused" and (reason or "").startswith(FAILURES)


def beam(path: Path) -> list[dict[str, Any]]:
    """The survivors of the last finished level, best first."""
    kept = [node for node in tree(path) if node["beam_rank"] is not None]
    last = max((node["level"] for node in kept), default=0)
    here = [node for node in kept if node["level"] == last]
    return sorted(here, key=lambda node: node["beam_rank"])


def summary(path: Path, *, with_tree: bool = True) -> dict[str, Any]:
    """A run in short: status, level, best candidate, calls, tokens, cost, and `tree_sha256`.

    The hash reads every verdict; a list of many runs goes without.
    """
    with reading(path) as db:
        return summary_of(db, path, with_tree=with_tree)


def summary_of(db: Database, path: Path, *, with_tree: bool = False) -> dict[str, Any]:
    """As `summary`, for who reads more of the file `path`: all of it is of one moment."""
    row = next(db.query("select * from run"))
    state, reason = status_of(db, path)
    settings = value_of(row, "settings")
    told = {
        "run_id": row["id"],
        "parent": row.get("parent"),
        "kind": row.get("kind", "search"),
        "status": state,
        "reason": reason,
        "path": str(path),
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
        "seconds": row["seconds"],
        "seed": settings["seed"],
        "simulated": all(settings["models"][role]["provider"] == "sandbox" for role in ROLES),
        "world": _world(row, settings),
        "models": {role: settings["models"][role]["model"] for role in ROLES},
        "level": _level(db),
        "candidates": db["candidate"].count_where(f"id < {CANDIDATES_PER_SEARCH}"),
        "best": best(db),
        "examples": examples(db),
        "findings": findings(db),
        "deployed": deployed(db),
        "calls": _calls(db),
        "tokens": _tokens(db),
        "cost_usd": _cost(db),
        "unscored": _unscored(db),
        "outcomes": _outcomes(db),
        "failed_attempts": _failed_attempts(db),
        "left_out": _left_out(db),
        "estimate": _estimate(row),
    }
    return told | {"tree_sha256": tree_sha256(db)} if with_tree else told


def tree(path: Path) -> list[dict[str, Any]]:
    """Every candidate in creation order, with its place in the search."""
    with reading(path) as db:
        return tree_of(db)


def tree_of(db: Database) -> list[dict[str, Any]]:
    """As `tree`, of a file that is being read."""
    ensure_met(db, "candidate")
    actions, texts = _actions(db), _prompt_texts(db)
    return [_node(row, actions, texts) for row in _candidates(db)]


def trace(path: Path) -> list[dict[str, Any]]:
    """Every candidate in creation order, with all that led to it and what it cost.

    What led to a rewrite are the verdicts of its parent, which stand there.
    """
    with reading(path) as db:
        return trace_of(db)


def trace_of(db: Database) -> list[dict[str, Any]]:
    """As `trace`, of a file that is being read."""
    ensure_met(db, "candidate", "rewrite", "selection", "sample", "verdict")
    texts, actions = _prompt_texts(db), _actions(db)
    selections, verdicts = _selections(db), _verdicts(db)
    calls = {row["key"]: row for row in db.query(_CALLS)}
    asked, rewrites = calls_of(db), _rewrites(db, texts)
    nodes = []
    for row in _candidates(db):
        mine = verdicts.get(row["id"], [])
        nodes.append(
            _node(row, actions, texts)
            | {
                "rewrites": rewrites.get(row["id"], []),
                "selections": [selections[said["query"]] for said in mine],
                "verdicts": mine,
                "calls": [_cost_of(calls[key]) for key in asked[row["id"]] if key in calls],
            }
        )
    return nodes


def tree_sha256(db: Database) -> str:
    """Hash over levels, parents, prompts, samples and verdicts, without times and random ids."""
    digest = hashlib.sha256()
    for row in db.query(
        "select id, level, parent, origin, prompts, reward, path_sum, path_count, beam_rank"
        " from candidate order by id"
    ):
        digest.update(dumps(["candidate", *row.values()]).encode())
    for row in db.query(
        "select candidate, query.id, sample, text, failure, scores, verdict.unscored, reward"
        " from sample left join verdict using (candidate, query, sample)"
        " join query on query.ordinal = sample.query order by candidate, query, sample"
    ):
        digest.update(dumps(["evaluation", *row.values()]).encode())
    return digest.hexdigest()


def status_of(db: Database, path: Path) -> tuple[str, str | None]:
    """With the reason; a run that nobody runs is paused, whatever its row says."""
    [row] = db.query("select status, reason from run")
    if row["status"] != "running" or is_owned(path):
        return row["status"], row["reason"]
    with reading(path) as again:
        # It may have ended since its row was read.
        [row] = again.query("select status, reason from run")
    return ("paused", KILLED) if row["status"] == "running" else (row["status"], row["reason"])


def _world(row: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The simulated world a run lived in, with the hash of its parameters; None without one."""
    made_of = value_of(row, "fingerprint").get("sandbox world")
    return settings["sandbox"] | {"sha256": made_of["world.toml"]} if made_of else None


def best(db: Database) -> dict[str, Any] | None:
    """The answer of a finished run, else the first of the last finished level's beam.

    Where the beam stays the root, it is the best path value so far instead.
    """
    rows = list(
        db.query(
            f"select * from candidate where id < {CANDIDATES_PER_SEARCH}"
            " and exists (select 1 from decision where node = 'advance'"
            " and decision.level = candidate.level and candidate = candidate.id) order by"
            " id in (select candidate from decision where action = 'returned') desc,"
            f" id = {ROOT}, beam_rank is null, iif(beam_rank is null, 0, level) desc, beam_rank,"
            " reward is null, path_sum / path_count desc, id limit 1"
        )
    )
    if not rows:
        return None
    row = rows[0]
    return {
        "candidate": row["id"],
        "level": row["level"],
        "prompts": prompts_of(db, row),
        "path_value": path_value(row),
        "path": [
            {
                "level": step["level"],
                "candidate": step["id"],
                "origin": step["origin"],
                "reward": step["reward"],
            }
            for step in line_of(db, row["id"])
        ],
    }


def chosen(db: Database) -> tuple[int, str]:
    """The candidate that a run came to, and what it is: `deployed`, or `best` so far.

    Raises BadInput for a run without a finished level.
    """
    named = (("deployed", deployed(db)), ("best", best(db)))
    for name, found in named:
        if found is not None:
            return int(found["candidate"]), name
    [row] = db.query("select * from run")
    # A file of an older version has no kind.
    raise no_prompt(row["id"], row.get("kind", "search"))


def best_path(told: Mapping[str, Any]) -> list[int]:
    """Of a run's summary: its best candidate and that one's ancestors, the root not counted."""
    steps = told["best"]["path"] if told["best"] else ()
    return [step["candidate"] for step in steps if step["level"]]


def no_prompt(run_id: str, kind: str) -> BadInput:
    """What to raise for a run that has not come to one, or never will."""
    if kind == "examples":
        return BadInput(
            f"run {run_id} optimized examples, and no prompt: "
            "`drpo align retrieval.path=RUN.sqlite` finds one for them"
        )
    return BadInput(f"run {run_id} has finished no level yet, so it has no prompt")


def _calls(db: Database) -> dict[str, dict[str, int]]:
    calls: dict[str, dict[str, int]] = {role: {"new": 0, "from_ledger": 0} for role in ROLES}
    for row in db.query("select * from cost_per_role"):
        calls[row["role"]] = {"new": row["new_calls"], "from_ledger": row["from_ledger"]}
    return calls


def _tokens(db: Database) -> dict[str, Any]:
    [row] = db.query(
        "select coalesce(sum(prompt_tokens), 0) as prompt,"
        " coalesce(sum(completion_tokens), 0) as completion,"
        f" coalesce(max(tokens_estimated), 0) as estimated from {paid(db)}"
    )
    return row | {"estimated": bool(row["estimated"])}


def _cost(db: Database) -> float | None:
    """US dollars; None where the price of any call is unknown."""
    [row] = db.query(
        f"select sum(cost_usd) as cost, count(*) - count(cost_usd) as unknown from {paid(db)}"
    )
    return None if row["unknown"] else row["cost"] or 0.0


def _outcomes(db: Database) -> dict[str, dict[str, int]]:
    """By role, how many calls ended otherwise than well, and how."""
    found: dict[str, dict[str, int]] = {}
    if "outcomes" in db.view_names():
        for row in db.query("select * from outcomes where outcome != 'ok' order by role, outcome"):
            found.setdefault(row["role"], {})[row["outcome"]] = row["calls"]
    return found


def _failed_attempts(db: Database) -> int:
    """Requests that got no usable reply and were repeated, or given up."""
    return int(db["attempt"].count_where("problem is not null"))


def _left_out(db: Database) -> dict[str, list[str]]:
    """By role, the parameters that its server does not take."""
    found: dict[str, list[str]] = {}
    if "left_out" in db.table_names():
        for row in db.query("select role, parameter from left_out order by role, parameter"):
            found.setdefault(row["role"], []).append(row["parameter"])
    return found


def _estimate(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """As it was when the run was made; older runs have none, or not even the column."""
    return None if row.get("estimate") is None else dict(value_of(row, "estimate"))


def _level(db: Database) -> int:
    """Levels finished, the root's included."""
    [row] = db.query(
        "select coalesce(max(level), -1) + 1 as n from decision"
        f" where node = 'advance' and candidate < {CANDIDATES_PER_SEARCH}"
    )
    return int(row["n"])


def _unscored(db: Database) -> int:
    """Evaluations without a single valid score."""
    return int(db["verdict"].count_where("reward is null"))


def _candidates(db: Database) -> Iterable[dict[str, Any]]:
    """Of the search for the prompt."""
    return db.query(f"select * from candidate where id < {CANDIDATES_PER_SEARCH} order by id")


def _node(
    row: Mapping[str, Any], actions: Mapping[int, list[str]], texts: _Prompts
) -> dict[str, Any]:
    return {
        "candidate": row["id"],
        "level": row["level"],
        "parent": row["parent"],
        "origin": row["origin"],
        "prompts": texts[row["prompts"]],
        "reward": row["reward"],
        "path_value": path_value(row),
        "beam_rank": row["beam_rank"],
        "decisions": actions.get(row["id"], []),
    }


def _prompt_texts(db: Database) -> dict[str, dict[str, str]]:
    """The prompts of candidates and of rewrites, by what their column says."""
    named: dict[str, dict[str, str]] = {}
    rows = chain(
        db.query("select id, prompts from candidate"),
        db.query("select parent, item, prompts from rewrite where prompts is not null"),
    )
    for row in rows:
        # A candidate has those of a rewrite, and a skip those of its parent.
        if row["prompts"] not in named:
            named[row["prompts"]] = hashes_of(row)
    texts = bodies(db, {text for each in named.values() for text in each.values()})
    return {
        said: {name: texts[text] for name, text in each.items()} for said, each in named.items()
    }


def _actions(db: Database) -> dict[int, list[str]]:
    """What was decided on each candidate, in words."""
    actions: dict[int, list[str]] = {}
    for row in db.query(
        "select candidate, action, reason from decision where item = -1 order by rowid"
    ):
        actions.setdefault(row["candidate"], []).append(f"{row['action']}: {row['reason']}")
    return actions


def _rewrites(db: Database, texts: _Prompts) -> dict[int, list[dict[str, Any]]]:
    """What the rewriter made of each candidate, and what became of it."""
    # One query for all: nothing indexes `candidate.parent`, and it would be asked for by each.
    children = {(row["parent"], row["item"]): row["id"] for row in _candidates(db)}
    admit = "select candidate, item, action, reason from decision where node = 'admit'"
    refused = {
        (row["candidate"], row["item"]): (row["action"], row["reason"]) for row in db.query(admit)
    }
    found: dict[int, list[dict[str, Any]]] = {}
    for row in db.query("select parent, item, prompts from rewrite order by parent, item"):
        place = (row["parent"], row["item"])
        action, reason = refused.get(place, (None, None))
        found.setdefault(row["parent"], []).append(
            {
                "item": row["item"],
                "prompts": texts[row["prompts"]] if row["prompts"] else None,
                "candidate": children.get(place),
                "refused": action,
                "reason": reason,
            }
        )
    return found


def _selections(db: Database) -> dict[str, dict[str, Any]]:
    selections: dict[str, dict[str, Any]] = {}
    for row in db.query(
        "select query.id as query, aspects, reason, notes, call from selection"
        " join query on query.ordinal = selection.query"
    ):
        parsed = {name: value_of(row, name) for name in ("aspects", "notes")}
        selections[row["query"]] = row | parsed
    return selections


def _verdicts(db: Database) -> dict[int, list[dict[str, Any]]]:
    verdicts: dict[int, list[dict[str, Any]]] = {}
    for row in db.query(
        "select sample.candidate, query.id as query, body as answer, failure, scores,"
        " verdict.unscored, notes, reward"
        " from sample join verdict using (candidate, query, sample)"
        " join query on query.ordinal = sample.query join text on sha256 = sample.text"
        " order by sample.candidate, sample.query"
    ):
        parsed = {name: value_of(row, name) for name in ("scores", "notes")}
        verdicts.setdefault(row.pop("candidate"), []).append(row | parsed)
    return verdicts


def _cost_of(call: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "key": call["key"],
        "role": call["role"],
        "model": call["model"],
        "tokens": call["prompt_tokens"] + call["completion_tokens"],
        "cost_usd": call["cost_usd"],
        "seconds": call["seconds"],
    }
