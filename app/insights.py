"""The weaknesses of a model that a search found: what its judge said, added up.

Aspects and their scores, the rationales of low ones, queries that stay hard, and rewrites that
answered a weakness. Counts what a run's rows say, and claims no cause. Of an alignment it is about
the search for the prompt.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drpo.analysis.documents import (
    AspectFigures,
    Difference,
    Figures,
    Group,
    HardQuery,
    Insights,
    Rationales,
    RunInsights,
    SharedAspect,
    Weakest,
)
from drpo.analysis.grouping import grouped, in_turn
from drpo.analysis.instructions import answered
from drpo.analysis.intervals import (
    FEWEST,
    Interval,
    difference_interval,
    mean_interval,
    share_interval,
)
from drpo.checkpoints import scores
from drpo.checkpoints.facts import bodies
from drpo.checkpoints.reader import best_path, summary_of
from drpo.checkpoints.runs import reading
from drpo.checkpoints.scores import Judged, Node, Scored
from drpo.graph.values import HIGHEST_SCORE, ROOT, Query, folded, mean

LOW = 4.0
"""A score below it is low: of the judge's five, 4 says "good", 3 "fair"."""
MOST_GROUPED = 100
"""Rationales of one aspect that are grouped, taken from its queries in turn: the time is of the
square of them."""
MOST_GROUPS = 3
"""Typical rationales that are told of one aspect."""

LEVELS_DIFFER = (
    "Each level asks other queries, so the figures of the root, of the best path and of all"
    " candidates are of different queries: a difference between them is no gain."
)
CHILDREN_DIFFER = (
    "A child answers other queries than its parent, and a low score tends to rise by chance alone"
    " (regression to the mean): compare a child with its siblings, which answered the same queries."
)
RUNS_DIFFER = (
    "Runs differ in queries and in the aspects chosen for them; a difference is between all queries"
    " of each. With many aspects, expect one interval in twenty to leave out 0 by chance."
)
JUDGES_DIFFER = "The runs have different judges, whose scores need not be comparable: {}."


@dataclass(frozen=True, slots=True)
class _Run:
    """What is read of one run, once."""

    told: Mapping[str, Any]
    judged: Sequence[Judged]
    nodes: Mapping[int, Node]
    queries: Mapping[int, Query]
    texts: Mapping[str, str]
    left_out: int

    @property
    def aspects(self) -> dict[str, list[Scored]]:
        """What was scored of each, by its identity."""
        found: dict[str, list[Scored]] = {}
        for each in self.judged:
            for score in each.scores:
                found.setdefault(folded(score.aspect), []).append(score)
        return found


def insights(paths: Sequence[Path]) -> Insights:
    """Of one run, or of several side by side.

    Raises BadInput for a file that is no run, or damaged; RunFailed where another program holds it.
    """
    read = [_read(path) for path in paths]
    series = [run.aspects for run in read]
    runs = [_of_run(run, aspects) for run, aspects in zip(read, series, strict=True)]
    cautions = [LEVELS_DIFFER, CHILDREN_DIFFER]
    if len(runs) > 1:
        cautions.append(RUNS_DIFFER)
        judges = dict.fromkeys(run["models"]["judge"] for run in runs)
        cautions += [JUDGES_DIFFER.format(", ".join(judges))] if len(judges) > 1 else []
    return {
        "low_below": LOW,
        "runs": runs,
        "shared": _shared(runs, series) if len(runs) > 1 else [],
        "cautions": cautions,
    }


def _read(path: Path) -> _Run:
    with reading(path) as db:
        nodes = scores.nodes(db)
        return _Run(
            summary_of(db, path),
            scores.judged(db),
            nodes,
            scores.queries(db),
            bodies(db, {text for node in nodes.values() for text in node.prompts.values()}),
            scores.left_out(db),
        )


def _of_run(run: _Run, aspects: Mapping[str, Sequence[Scored]]) -> RunInsights:
    best = run.told["best"]
    unscored = Counter(each.unscored for each in run.judged if each.unscored is not None)
    said = {key: _low_rationales(scored) for key, scored in aspects.items()}
    answers = answered(
        run.nodes,
        run.texts,
        _means(aspects),
        low=LOW,
        best=best["prompts"] if best else {},
        said={key: list(texts) for key, texts in said.items()},
    )
    path = frozenset(best_path(run.told))
    told: list[AspectFigures] = [
        {
            "aspect": _named(scored),
            "key": key,
            "all": _figures(scored),
            "root": _figures([each for each in scored if each.candidate == ROOT]),
            "path": _figures([each for each in scored if each.candidate in path]),
            "rationales": _grouped(said[key], run.queries),
            "answered": answers.get(key),
        }
        for key, scored in aspects.items()
    ]
    return {
        "run_id": run.told["run_id"],
        "status": run.told["status"],
        "kind": run.told["kind"],
        "simulated": run.told["simulated"],
        "models": run.told["models"],
        "best": best["candidate"] if best else None,
        "candidates": len({each.candidate for each in run.judged}),
        "queries": len({each.query for each in run.judged}),
        "verdicts": len(run.judged),
        "left_out": run.left_out,
        "unscored": [{"reason": why, "verdicts": n} for why, n in unscored.most_common()],
        "aspects": sorted(told, key=_weakest_first),
        "hard": _hard(run),
    }


def _weakest_first(aspect: AspectFigures) -> tuple[bool, bool, float, str]:
    """By mean; behind them those of few queries, and last what was never scored."""
    value = aspect["all"]["mean"]
    few = aspect["all"]["queries"] < FEWEST
    return (value is None, few, 0.0 if value is None else value, aspect["key"])


def _named(scored: Iterable[Scored]) -> str:
    """As most verdicts write it."""
    return Counter(each.aspect for each in scored).most_common(1)[0][0]


def _is_low(score: Scored) -> bool:
    return score.value is not None and score.value < LOW


def _figures(scored: Sequence[Scored]) -> Figures:
    """Mean and share of low scores, both averaged per query first."""
    values = _per_query(scored, float)
    shares = _per_query(scored, lambda value: float(value < LOW))
    share = mean(shares)
    return {
        "queries": len(values),
        "scores": sum(each.value is not None for each in scored),
        "unscored": sum(each.value is None for each in scored),
        "mean": mean(values),
        "mean_interval": _ends(mean_interval(values)),
        "low": sum(_is_low(each) for each in scored),
        "low_share": share,
        "low_share_interval": _ends(None if share is None else share_interval(share, len(shares))),
    }


def _per_query(scored: Iterable[Scored], of: Callable[[float], float]) -> list[float]:
    """The mean of each query that has a score, in order of ordinals."""
    found: dict[int, list[float]] = defaultdict(list)
    for each in scored:
        if each.value is not None:
            found[each.query].append(of(each.value))
    means = (mean(found[query]) for query in sorted(found))
    return [value for value in means if value is not None]


def _ends(interval: Interval | None) -> list[float] | None:
    return None if interval is None else [interval.low, interval.high]


def _means(aspects: Mapping[str, Sequence[Scored]]) -> dict[int, dict[str, float]]:
    """What each candidate scored in each aspect, averaged per query first."""
    found: dict[int, dict[str, float]] = defaultdict(dict)
    for key, scored in aspects.items():
        said: dict[int, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
        for each in scored:
            if each.value is not None:
                said[each.candidate][each.query].append(each.value)
        for candidate, queries in said.items():
            found[candidate][key] = mean(mean(each) or 0.0 for each in queries.values()) or 0.0
    return found


def _low_rationales(scored: Iterable[Scored]) -> dict[str, list[Scored]]:
    """Of low scores by the text, at most `MOST_GROUPED` of them."""
    said: dict[str, list[Scored]] = {}
    for each in scored:
        if _is_low(each) and each.rationale.strip():
            said.setdefault(each.rationale, []).append(each)
    texts = list(said)
    taken = in_turn([said[text][0].query for text in texts], MOST_GROUPED)
    return {texts[at]: said[texts[at]] for at in taken}


def _grouped(said: Mapping[str, Sequence[Scored]], queries: Mapping[int, Query]) -> Rationales:
    """Those of most queries, each by the rationale that is most like the others."""
    texts = list(said)
    groups: list[Group] = []
    for group in grouped(texts, [said[text][0].query for text in texts]):
        mine = [each for at in group.members for each in said[texts[at]]]
        central = texts[group.central]
        groups.append(
            {
                "text": central,
                "query": queries[said[central][0].query].id,
                "scores": len(mine),
                "queries": len({each.query for each in mine}),
            }
        )
    groups.sort(key=lambda group: (-group["queries"], -group["scores"]))
    return {"grouped": sum(map(len, said.values())), "groups": groups[:MOST_GROUPS]}


def _hard(run: _Run) -> list[HardQuery]:
    """Queries whose mean reward is low over all candidates that answered; the hardest first."""
    answers: dict[int, list[Judged]] = defaultdict(list)
    for each in run.judged:
        answers[each.query].append(each)
    found: list[HardQuery] = []
    for ordinal, mine in answers.items():
        rewards = [each.reward for each in mine if each.reward is not None]
        value = mean(rewards)
        # What only the root was asked has seen nothing of the search.
        if value is None or value >= LOW or {each.candidate for each in mine} == {ROOT}:
            continue
        query = run.queries[ordinal]
        found.append(
            {
                "query": query.id,
                "text": query.text,
                "tags": list(query.tags),
                "candidates": len({each.candidate for each in mine}),
                "mean": value,
                "best": max(rewards),
                "unscored": len(mine) - len(rewards),
                "weakest": _weakest(mine),
            }
        )
    return sorted(found, key=lambda each: each["mean"])


def _weakest(judged: Iterable[Judged]) -> Weakest:
    """The aspect that scored least, in this query."""
    values: dict[str, list[float]] = defaultdict(list)
    names: dict[str, str] = {}
    for each in judged:
        for score in each.scores:
            if score.value is not None:
                values[folded(score.aspect)].append(score.value)
                names.setdefault(folded(score.aspect), score.aspect)
    means = {key: mean(said) or 0.0 for key, said in values.items()}
    key = min(means, key=lambda each: (means[each], each))
    return {"aspect": names[key], "mean": means[key]}


def _shared(
    runs: Sequence[RunInsights], series: Sequence[Mapping[str, Sequence[Scored]]]
) -> list[SharedAspect]:
    """Aspects that more than one run has, the one first that is weakest in any of them."""
    told = [{each["key"]: each for each in run["aspects"]} for run in runs]
    keys = Counter(key for aspects in told for key in aspects)
    rows: list[SharedAspect] = []
    for key in (each for each, n in keys.items() if n > 1):
        first = next(aspects[key] for aspects in told if key in aspects)
        found = [aspects[key]["all"] if key in aspects else None for aspects in told]
        values = [_per_query(aspects.get(key, ()), float) for aspects in series]
        rows.append(
            {
                "aspect": first["aspect"],
                "key": key,
                "runs": found,
                "differences": [_difference(values[0], mine) for mine in values[1:]],
            }
        )
    return sorted(rows, key=_least)


def _least(row: SharedAspect) -> tuple[float, str]:
    found = [run["mean"] for run in row["runs"] if run is not None and run["mean"] is not None]
    return (min(found, default=HIGHEST_SCORE), row["key"])


def _difference(first: Sequence[float], other: Sequence[float]) -> Difference | None:
    """Mean of the other run less that of the first; None where one of them has no score."""
    before, after = mean(first), mean(other)
    if before is None or after is None:
        return None
    return {"mean": after - before, "interval": _ends(difference_interval(other, first))}
