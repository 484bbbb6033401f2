"""A finished run of known verdicts, written through the real store, for what adds them up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from drpo.checkpoints.runs import create_run
from drpo.checkpoints.store import open_store
from drpo.graph.context import Place
from drpo.graph.requests import Answer
from drpo.graph.values import (
    Aspect,
    Candidate,
    Decision,
    Message,
    Origin,
    Query,
    Sample,
    Score,
    Selection,
    Standing,
    Verdict,
)
from drpo.settings import compose_settings

Said = float | str | tuple[float, str] | None
"""A score, a score with its rationale, why there is none, or None likewise."""


@dataclass(frozen=True)
class Planted:
    """A candidate and what the judge said of its answers."""

    level: int
    parent: int | None
    prompt: str
    said: Mapping[int, Mapping[str, Said]]
    """By query, then aspect; an empty mapping is a verdict that could not be read."""
    origin: Origin = "rewrite"


def _score(aspect: str, said: Said) -> Score:
    if isinstance(said, tuple):
        return Score(aspect, said[0], said[1])
    if isinstance(said, float):
        return Score(aspect, said, f"{aspect} is {said:g}")
    return Score(aspect, None, unscored=said or "nothing was said")


def _verdict(said: Mapping[str, Said]) -> Verdict:
    scores = tuple(_score(aspect, value) for aspect, value in said.items())
    if all(score.value is None for score in scores):
        return Verdict(scores, "no aspect has a valid score" if scores else "not JSON")
    return Verdict(scores)


async def plant(
    folder: Path,
    candidates: Sequence[Planted],
    *overrides: str,
    texts: Sequence[str] = (),
    best: int | None = None,
) -> Path:
    """The file of a run with these candidates, numbered in order, of which `best` was returned.

    Queries have these texts, or "question N".
    """
    ordinals = {query for each in candidates for query in each.said} | {0}
    queries = [
        Query(n, f"q{n}", (Message("user", texts[n] if n < len(texts) else f"question {n}"),))
        for n in range(max(ordinals) + 1)
    ]
    settings = compose_settings(["data.shuffle=false", *overrides]).model_dump_json()
    run = create_run(folder, settings=settings, fingerprint={}, queries=queries, version="test")
    async with open_store(run.path) as store:
        for number, each in enumerate(candidates):
            origin = "root" if each.parent is None else each.origin
            node = Candidate(number, each.level, each.parent, {"system": each.prompt}, origin)
            await store.admit([node], [])
            rewards = []
            for query, said in each.said.items():
                place, verdict = Place(each.level, number, query), _verdict(said)
                aspects = tuple(Aspect(name, "") for name in said)
                await store.add_selection(query, Answer(Selection(aspects, "planted")))
                await store.add_sample(place, Answer(Sample(f"answer of {number} to {query}")))
                await store.add_verdict(place, Answer(verdict))
                rewards += [verdict.reward] if verdict.reward is not None else []
            reward = sum(rewards) / len(rewards) if rewards else None
            standing = Standing(number, reward, (), reward or 0.0, int(reward is not None))
            decisions = [Decision("advance", each.level, number, -1, "kept", "planted")]
            if number == best:
                decisions.append(Decision("answer", each.level, number, -1, "returned", "planted"))
            await store.settle([standing], [number], decisions)
        await store.finish()
    return run.path
