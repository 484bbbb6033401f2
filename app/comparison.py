"""Two candidates, of one run or of two: what their prompts say, and how they scored.

Sentence by sentence, and on the queries that both answered; of two runs also settings and cost.
Says how large a difference is, not whether it is luck: that is what `drpo align` tests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict

from drpo.analysis.sentences import Kind, Pair, match, pieces, sentences
from drpo.checkpoints import scores
from drpo.checkpoints.facts import path_value
from drpo.checkpoints.reader import best_path, no_prompt, summary_of
from drpo.checkpoints.rows import value_of
from drpo.checkpoints.runs import find_run, reading
from drpo.graph.errors import BadInput
from drpo.graph.values import ROOT, Query, mean

LONGEST_ID = 12
"""Digits of a candidate's id."""
KINDS: tuple[Kind, ...] = ("kept", "changed", "added", "removed")


@dataclass(frozen=True, slots=True)
class Side:
    """A candidate of a run."""

    path: Path
    candidate: int | None = None
    """Its id; None for what the run ended in: the deployed one, else the best so far."""


class Cost(TypedDict):
    """What a run took, of all roles."""

    calls: int
    tokens: int
    cost_usd: float | None
    """US dollars; None where a price is unknown."""
    seconds: float


class Compared(TypedDict):
    """One side, as `comparison` tells it."""

    run_id: str
    status: str
    models: dict[str, str]
    """By role."""
    simulated: bool
    candidate: int
    level: int
    origin: str
    deployed: bool
    best: bool
    prompts: dict[str, str]
    """Texts, by name."""
    reward: float | None
    """At its own level, 1-5."""
    path_value: float | None
    """1-5; None for the root."""
    cost: Cost
    """Of its run."""


class Change(TypedDict):
    """What became of a sentence."""

    kind: Kind
    before: str | None
    after: str | None
    pieces: list[dict[str, str]]
    """`kind` and `text` of each stretch, where it was changed."""


class PromptChanges(TypedDict):
    """What became of a prompt."""

    counts: dict[Kind, int]
    sentences: list[Change]
    """In the order after; a removed one follows its predecessor."""


class QueryScores(TypedDict):
    """A query that both answered."""

    query: str
    """Its id."""
    text: str
    a: float | None
    """Mean reward of its samples, 1-5; None where none is scored."""
    b: float | None
    difference: float | None
    """`b` less `a`."""
    same_selection: bool
    """Whether the same aspects were chosen for it: only then it counts in the means."""


class Scores(TypedDict):
    """Rewards on the queries that both answered."""

    of_paths: bool
    """Whether they are those of both best paths, and not of two candidates."""
    queries: list[QueryScores]
    answered: dict[str, int]
    """Queries that each side answered."""
    compared: int
    """Queries in the means."""
    a: float | None
    """Mean over them, 1-5."""
    b: float | None
    difference: float | None
    unscored: int
    """Queries without a reward on one side."""
    other_selection: int


class Setting(TypedDict):
    """One in which two runs differ; null where a run does not have it."""

    setting: str
    a: Any
    b: Any


class Comparison(TypedDict):
    """What `comparison` tells; JSON-able."""

    a: Compared
    b: Compared
    prompts: dict[str, PromptChanges]
    """By name."""
    scores: Scores
    settings: list[Setting]
    """None where both sides are of one run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """What is read of one side."""

    told: Compared
    settings: Mapping[str, Any]
    rewards: Mapping[int, Sequence[float | None]]
    queries: Mapping[int, Query]
    selections: Mapping[int, frozenset[str]]

    def by_text(self) -> dict[str, int]:
        """Ordinals of the queries it answered."""
        return {self.queries[ordinal].text: ordinal for ordinal in self.rewards}


def comparison(a: Side, b: Side) -> Comparison:
    """What `b` has otherwise than `a`.

    Raises BadInput for a candidate that there is not, and for a run that has none yet; RunFailed
    where another program holds a file.
    """
    # Prompts that two searches ended in have seldom answered the same queries; their paths have.
    of_paths = a.candidate is None and b.candidate is None and a.path != b.path
    one, other = _read(a, of_path=of_paths), _read(b, of_path=of_paths)
    same_run = one.told["run_id"] == other.told["run_id"]
    return {
        "a": one.told,
        "b": other.told,
        "prompts": _prompts(one.told["prompts"], other.told["prompts"]),
        "scores": _scores(one, other, of_paths=of_paths),
        "settings": [] if same_run else _settings(one.settings, other.settings),
    }


def sides(
    words: Sequence[str], folder: Path, *, say: Callable[[str], None] = lambda _: None
) -> tuple[Side, Side]:
    """What one or two words of the command line name, each RUN, RUN:CANDIDATE or :CANDIDATE.

    Without a run it is that of the first word, or the newest. One word alone is compared with what
    it came from. `say` is told as by `find_run`. Raises BadInput.
    """
    if len(words) > 2:  # noqa: PLR2004 - two sides
        raise BadInput(f"diff compares two, not {len(words)}: {' '.join(words)}")
    found: list[Side] = []
    for word in words or ("",):
        run, colon, number = word.partition(":")
        # Not `isdigit`, which takes figures that `int` does not.
        if colon and not (number.isascii() and number.isdecimal() and len(number) <= LONGEST_ID):
            raise BadInput(f"{word!r}: after RUN: comes the id of a candidate, as in 3f2a:17")
        path = find_run(folder, run or None, say=say) if run or not found else found[0].path
        found.append(Side(path, int(number) if colon else None))
    return (found[0], found[1]) if len(found) > 1 else (origin(found[0]), found[0])


def origin(side: Side) -> Side:
    """What it came from: of a candidate the parent, of a run the root. Raises BadInput."""
    if side.candidate is None:
        return Side(side.path, ROOT)
    with reading(side.path) as db:
        row = scores.candidate(db, side.candidate)
    if row is None:
        raise BadInput(_unknown(side))
    if row["parent"] is None:
        raise BadInput(f"candidate {side.candidate} has no parent: name another to compare it with")
    return Side(side.path, row["parent"])


def _unknown(side: Side) -> str:
    return f"there is no candidate {side.candidate} in {str(side.path)!r}; `--view tree` has all"


def _read(side: Side, *, of_path: bool) -> _Read:
    with reading(side.path) as db:
        told = summary_of(db, side.path)
        named = told["deployed"] or told["best"]
        found = side.candidate if side.candidate is not None or not named else named["candidate"]
        if found is None:
            raise no_prompt(told["run_id"], told["kind"])
        row = scores.candidate(db, found)
        if row is None and not told["candidates"]:
            raise no_prompt(told["run_id"], told["kind"])
        if row is None:
            raise BadInput(_unknown(side))
        [run] = db.query("select settings from run")
        on_path = scores.rewards_on(db, best_path(told)) if of_path else None
        return _Read(
            told=_compared(told, row),
            settings=value_of(run, "settings"),
            rewards=scores.rewards_under(db, found) if on_path is None else on_path,
            queries=scores.queries(db),
            selections=scores.selections(db),
        )


def _compared(told: Mapping[str, Any], row: Mapping[str, Any]) -> Compared:
    """A candidate's row, and what there is to tell of its run."""
    deployed, best = told["deployed"], told["best"]
    return {
        "run_id": told["run_id"],
        "status": told["status"],
        "models": told["models"],
        "simulated": told["simulated"],
        "candidate": row["id"],
        "level": row["level"],
        "origin": row["origin"],
        "deployed": bool(deployed) and deployed["candidate"] == row["id"],
        "best": bool(best) and best["candidate"] == row["id"],
        "prompts": row["texts"],
        "reward": row["reward"],
        "path_value": path_value(row),
        "cost": {
            "calls": sum(each["new"] for each in told["calls"].values()),
            "tokens": told["tokens"]["prompt"] + told["tokens"]["completion"],
            "cost_usd": told["cost_usd"],
            "seconds": told["seconds"],
        },
    }


def _prompts(a: Mapping[str, str], b: Mapping[str, str]) -> dict[str, PromptChanges]:
    """By name; a prompt that only one of them has is added or removed as a whole."""
    found: dict[str, PromptChanges] = {}
    for name in dict.fromkeys([*a, *b]):
        pairs = match(sentences(a.get(name, "")), sentences(b.get(name, "")))
        counts = Counter(pair.kind for pair in pairs)
        found[name] = {
            "counts": {kind: counts[kind] for kind in KINDS},
            "sentences": [_sentence(pair) for pair in pairs],
        }
    return found


def _sentence(pair: Pair) -> Change:
    changed = pair.kind == "changed"
    return {
        "kind": pair.kind,
        "before": pair.before,
        "after": pair.after,
        "pieces": [asdict(each) for each in pieces(pair.before or "", pair.after or "")]
        if changed
        else [],
    }


def _scores(a: _Read, b: _Read, *, of_paths: bool) -> Scores:
    """Of queries with the same text; their mean is of those with the same selection, too."""
    mine, theirs = a.by_text(), b.by_text()
    told = [_query(a, b, mine[text], theirs[text]) for text in mine if text in theirs]
    compared = [each for each in told if each["difference"] is not None]
    alike = [each for each in compared if each["same_selection"]]
    return {
        "of_paths": of_paths,
        "queries": told,
        "answered": {"a": len(mine), "b": len(theirs)},
        "compared": len(alike),
        "a": _reward([each["a"] for each in alike]),
        "b": _reward([each["b"] for each in alike]),
        "difference": _reward([each["difference"] for each in alike]),
        "unscored": len(told) - len(compared),
        "other_selection": len(compared) - len(alike),
    }


def _query(a: _Read, b: _Read, mine: int, theirs: int) -> QueryScores:
    before, after = _reward(a.rewards[mine]), _reward(b.rewards[theirs])
    query = a.queries[mine]
    return {
        "query": query.id,
        "text": query.text,
        "a": before,
        "b": after,
        "difference": None if before is None or after is None else after - before,
        "same_selection": a.selections.get(mine) == b.selections.get(theirs),
    }


def _reward(rewards: Sequence[float | None]) -> float | None:
    """Mean of those that are scored."""
    return mean(each for each in rewards if each is not None)


def _settings(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Setting]:
    """Those that differ; one that only one of them has is null in the other."""
    one, other = _flat(a), _flat(b)
    return [
        {"setting": name, "a": one.get(name), "b": other.get(name)}
        for name in sorted(one.keys() | other.keys())
        if one.get(name) != other.get(name)
    ]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found
