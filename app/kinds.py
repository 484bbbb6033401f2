"""The kinds of runs: which one a command makes, and which data it has for what."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from drpo.conf.schema import Settings
from drpo.examples import load_examples
from drpo.graph.errors import BadInput
from drpo.graph.values import Example, Kind, Message, Part, Query
from drpo.nodes.gain import smallest_gain
from drpo.queries import load_queries, load_seeds, own_queries
from drpo.splits import split_queries
from drpo.wording import counted


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run is to do, and with which data."""

    kind: Kind
    queries: Sequence[Query]
    """Numbered, each for its part."""
    examples: Sequence[Example] = ()
    """That the user gave."""

    def count(self, part: Part) -> int:
        """Queries for this part."""
        return sum(query.part == part for query in self.queries)


def plan_of(
    settings: Settings, *, aligns: bool = False, given: Iterable[str | Query] | None = None
) -> Plan:
    """Of the run that `drpo optimize`, or with `aligns` `drpo align`, makes by these settings.

    `given` queries stand in for `data.path`. Raises BadInput.
    """
    kind, examples = _kind(settings, aligns=aligns), load_examples(settings.retrieval)
    optimizes = kind == "examples" or (kind == "align" and settings.retrieval.k > 0)
    own, limit = settings.examples.path, settings.examples.limit
    seeds: list[Query] = []
    if optimizes and not examples and own is not None:
        seeds = load_seeds(own, limit, settings.seed)
    if kind == "examples" and seeds:
        return Plan(kind=kind, queries=_numbered(seeds))
    asked = load_queries(settings.data, settings.seed) if given is None else own_queries(given)
    if kind == "examples":
        drawn = _drawn(asked, settings, most=len(asked))
        seeds = [query for query in drawn if query.part == "seed"]
        if not seeds:
            raise BadInput("task=examples: examples.limit=0 leaves none to optimize")
        return Plan(kind=kind, queries=_numbered(seeds))
    if kind == "align":
        asked = _split(asked, seeds, examples, settings)
        if optimizes and not examples and own is None:
            searched = sum(query.part == "train" for query in asked)
            asked = _drawn(asked, settings, most=searched // 2)
    return Plan(kind=kind, queries=asked, examples=examples)


def announced(settings: Settings, plan: Plan) -> str:
    """What the data of an alignment can show, before anything is paid for."""
    validation = settings.validation
    least = smallest_gain(plan.count("confirm"), validation.spread, validation.min_gain)
    shows = "no gain at all" if least is None else f"a gain of {least:.2f} and more (4 times in 5)"
    examples = len(plan.examples) or plan.count("seed")
    return (
        f"{plan.count('train')} queries to search with, {plan.count('select')} to choose by, "
        f"{plan.count('confirm')} to confirm on, which can show {shows}; "
        f"{counted(examples, 'example')}"
    )


def _kind(settings: Settings, *, aligns: bool) -> Kind:
    """Raises BadInput for settings that the command cannot be meant with."""
    optimizes = settings.task.kind == "examples"
    if optimizes and settings.retrieval.path is not None:
        raise BadInput("task=examples: retrieval.path gives examples already; leave one out")
    if not aligns:
        return "examples" if optimizes else "search"
    if optimizes:
        raise BadInput("task=examples: an alignment optimizes examples and prompt; leave it out")
    if settings.search.review:
        raise BadInput("search.review=true: only a search by itself stops for a review")
    return "align"


def _split(
    asked: Sequence[Query],
    seeds: Sequence[Query],
    examples: Sequence[Example],
    settings: Settings,
) -> list[Query]:
    """Queries with their parts, and the seeds.

    What is like a seed, or like an example that the target is shown, can confirm nothing.
    """
    shown = [
        Query(at, f"example {at}", (Message("user", each.query),), part="seed")
        for at, each in enumerate(examples)
    ]
    every = _numbered([*asked, *seeds, *shown])
    split = split_queries(every, settings.validation, settings.seed)
    return split[: len(asked) + len(seeds)]


def _drawn(queries: Sequence[Query], settings: Settings, most: int) -> list[Query]:
    """Some of the queries to search with become seeds of examples."""
    among = [query.ordinal for query in queries if query.part == "train"]
    limit = settings.examples.limit
    count = min(len(among), most, len(among) if limit is None else limit)
    seeds = set(random.Random(f"{settings.seed}:seeds").sample(among, count))
    return [replace(query, part="seed") if query.ordinal in seeds else query for query in queries]


def _numbered(queries: Sequence[Query]) -> list[Query]:
    """In one order; a seed may be called like a query."""
    return [
        replace(query, ordinal=at, id=f"seed:{query.id}" if query.part == "seed" else query.id)
        for at, query in enumerate(queries)
    ]
