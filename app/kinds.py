"""The kinds of runs: which one a command makes, and which queries it has for what."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from drpo.conf.schema import Settings
from drpo.graph.errors import BadInput
from drpo.graph.values import Kind, Query
from drpo.nodes.gain import smallest_gain
from drpo.queries import load_queries, load_seeds
from drpo.splits import split_queries


def kind_of(settings: Settings, *, aligns: bool) -> Kind:
    """Raises BadInput for settings that the command cannot be meant with."""
    optimizes = settings.task.kind == "examples"
    if not aligns:
        return "examples" if optimizes else "search"
    if optimizes:
        raise BadInput("task=examples: an alignment optimizes examples and prompt; leave it out")
    if settings.search.review:
        raise BadInput("search.review=true: only a search by itself stops for a review")
    return "align"


def queries_of(settings: Settings, kind: Kind, given: Sequence[Query] | None = None) -> list[Query]:
    """All that a run of this kind needs, numbered; `given` stand in for `data.path`.

    Raises BadInput.
    """
    own = settings.examples.path
    seeds = load_seeds(settings.examples, settings.seed) if own and _shows(settings, kind) else []
    if kind == "examples" and seeds:
        return _numbered(seeds)
    asked = load_queries(settings.data, settings.seed) if given is None else list(given)
    if kind == "search":
        return asked
    if kind == "examples":
        drawn = _drawn(asked, settings, most=len(asked))
        return _numbered([query for query in drawn if query.part == "seed"])
    split = split_queries([*asked, *seeds], settings.validation, settings.seed)
    if own is None and _shows(settings, kind):
        searched = sum(query.part == "train" for query in split)
        split = _drawn(split, settings, most=searched // 2)
    return _numbered(split)


def _drawn(queries: Sequence[Query], settings: Settings, most: int) -> list[Query]:
    """Some of the queries to search with become seeds of examples."""
    among = [query.ordinal for query in queries if query.part == "train"]
    limit = settings.examples.limit
    count = min(len(among), most, len(among) if limit is None else limit)
    seeds = set(random.Random(f"{settings.seed}:seeds").sample(among, count))
    return [replace(query, part="seed") if query.ordinal in seeds else query for query in queries]


def announced(settings: Settings, queries: Sequence[Query]) -> str:
    """What the data of an alignment can show, before anything is paid for."""
    count = {part: sum(query.part == part for query in queries) for part in PARTS}
    least = smallest_gain(
        count["confirm"], settings.validation.spread, settings.validation.min_gain
    )
    shows = "no gain at all" if least is None else f"a gain of {least:.2f} and more (4 times in 5)"
    return (
        f"{count['train']} queries to search with, {count['select']} to choose by, "
        f"{count['confirm']} to confirm on, which can show {shows}; {count['seed']} examples"
    )


PARTS = ("train", "select", "confirm", "seed")


def _shows(settings: Settings, kind: Kind) -> bool:
    """Whether examples are optimized: not where they are given, or none is shown."""
    shown = settings.retrieval.path is None and settings.retrieval.k > 0
    return kind == "examples" or (kind == "align" and shown)


def _numbered(queries: Sequence[Query]) -> list[Query]:
    """In one order; a seed may be called like a query."""
    return [
        replace(query, ordinal=at, id=f"seed:{query.id}" if query.part == "seed" else query.id)
        for at, query in enumerate(queries)
    ]
