"""Preference pairs out of a run: two answers to one query, one of them judged to be better.

In TRL's conversational form, one JSON object a line. The prompt is the query alone: the two answers
were given under two prompts, so that no prompt belongs to both, and a model that learns from the
pairs is to do without one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from drpo.checkpoints.facts import ensure_met
from drpo.checkpoints.rows import query_of, verdict_of
from drpo.checkpoints.runs import reading
from drpo.graph.values import Query, Score
from drpo.wording import escaped

LEAST_MARGIN = 0.5
"""Points of the scale 1-5."""
MEASURED_WITH = ("select", "confirm")
"""Parts of a run's queries that nothing is to learn from: they tell what was learned."""
_HARMFUL = re.compile(r"harm|malicious|safety|unsafe|toxic|red.?team|jailbreak", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Judged:
    """An answer with what was said of it."""

    candidate: int
    text: str
    reward: float
    scores: Mapping[str, Score]
    """The valid ones, by aspect."""


def pairs(
    path: Path, *, margin: float = LEAST_MARGIN, harmful: bool = False
) -> Iterator[dict[str, Any]]:
    """Of every query, each pair of answers whose rewards are `margin` apart or more.

    Both were scored for the same aspects. Without `harmful`, queries tagged so are left out.
    """
    with reading(path) as db:
        for query, judged in _by_query(db):
            if query.part in MEASURED_WITH or (not harmful and is_harmful(query)):
                continue
            yield from _pairs(query, judged, margin)


def is_harmful(query: Query) -> bool:
    """Whether a tag says that it asks for what nobody should answer."""
    return any(_HARMFUL.search(tag) for tag in query.tags)


def _by_query(db: Database) -> Iterator[tuple[Query, list[_Judged]]]:
    ensure_met(db, "sample", "verdict")
    queries = {row["ordinal"]: query_of(row) for row in db.query("select * from query")}
    rows = db.query(
        "select sample.query, sample.candidate, body, reward, scores, unscored, notes from sample"
        " join verdict using (candidate, query, sample) join text on sha256 = sample.text"
        " where reward is not null and failure is null"
        " order by sample.query, sample.candidate, sample.sample"
    )
    for ordinal, found in groupby(rows, key=itemgetter("query")):
        yield queries[ordinal], [_judged(row) for row in found]


def _judged(row: Mapping[str, Any]) -> _Judged:
    verdict = verdict_of(row)
    scores = {each.aspect: each for each in verdict.scores if each.value is not None}
    return _Judged(row["candidate"], row["body"], row["reward"], scores)


def _pairs(query: Query, judged: Sequence[_Judged], margin: float) -> Iterator[dict[str, Any]]:
    ranked = sorted(judged, key=lambda each: -each.reward)
    seen: set[tuple[str, str]] = set()
    for chosen in ranked:
        for rejected in reversed(ranked):
            if chosen.reward - rejected.reward < max(margin, 0) or chosen.reward <= rejected.reward:
                break
            texts = (chosen.text, rejected.text)
            alike = chosen.text.strip() == rejected.text.strip()
            comparable = chosen.scores.keys() == rejected.scores.keys()
            if alike or not comparable or chosen.candidate == rejected.candidate or texts in seen:
                continue
            seen.add(texts)
            yield _row(query, chosen, rejected)


def _row(query: Query, chosen: _Judged, rejected: _Judged) -> dict[str, Any]:
    return {
        "prompt": [{"role": turn.role, "content": turn.content} for turn in query.messages],
        "chosen": [{"role": "assistant", "content": chosen.text}],
        "rejected": [{"role": "assistant", "content": rejected.text}],
        "score_chosen": chosen.reward,
        "score_rejected": rejected.reward,
        "margin": chosen.reward - rejected.reward,
        "rationale": _rationale(chosen.scores, rejected.scores),
        "query": query.id,
    }


def _rationale(chosen: Mapping[str, Score], rejected: Mapping[str, Score]) -> str:
    """A line an aspect."""
    return "\n".join(
        f"{aspect}: chosen {_said(score)}; rejected {_said(rejected[aspect])}"
        for aspect, score in chosen.items()
    )


def _said(score: Score) -> str:
    value = f"{score.value:g}"
    words = " ".join(score.rationale.split())
    return f"{value} ({words})" if words else value


def line_of(pair: Mapping[str, Any]) -> str:
    """Of a JSONL file, what a terminal would act on being escaped."""
    return escaped(json.dumps(pair, ensure_ascii=False, allow_nan=False)) + "\n"
