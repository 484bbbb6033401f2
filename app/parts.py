"""Puts together what the nodes of a search work with, out of settings and queries.

Asks nobody and opens nothing: who answers, and what is remembered, is given.
"""

from __future__ import annotations

from collections.abc import Sequence

from drpo.conf.schema import Settings
from drpo.graph.build import build_evaluation
from drpo.graph.context import Caller, Context, Retriever, Store
from drpo.graph.errors import BadInput
from drpo.graph.order import SeededOrder
from drpo.graph.strategies import STRATEGIES
from drpo.graph.values import Query
from drpo.nodes.prompts import JinjaTemplates
from drpo.nodes.target import ChatTarget


def order_of(settings: Settings, queries: Sequence[Query]) -> SeededOrder:
    """The order of the queries to search with. Raises BadInput for too few for one level."""
    wanted = settings.search.queries_per_level
    among = [query.ordinal for query in queries if query.part == "train"]
    # A run that only optimizes examples has none.
    if among and len(among) < wanted:
        raise BadInput(
            f"search.queries_per_level={wanted}: there are only {len(among)} queries to search "
            f"with; allowed are 1 to {len(among)}"
        )
    return SeededOrder(
        queries,
        per_level=wanted,
        seed=settings.seed,
        shuffle=settings.data.shuffle,
        recycle=settings.search.recycle_queries,
        among=among,
    )


def context_for(
    settings: Settings,
    queries: Sequence[Query],
    caller: Caller,
    store: Store,
    retriever: Retriever | None = None,
) -> Context:
    """What the nodes of a search work with, the target being a chat model."""
    templates = JinjaTemplates(settings.prompts.folder)
    return Context(
        root=settings.root,
        task=settings.task,
        search=settings.search,
        rewards=settings.rewards,
        judge=settings.judge,
        strategy=STRATEGIES[settings.search.strategy],
        order=order_of(settings, queries),
        caller=caller,
        target=ChatTarget(
            caller,
            templates,
            settings.models.target.format,
            accept_truncated=settings.models.target.accept_truncated,
            retriever=retriever,
        ),
        store=store,
        templates=templates,
        evaluation=build_evaluation(),
        most_failures=settings.budget.failures,
    )
