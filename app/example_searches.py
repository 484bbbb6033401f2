"""What the search of one example works with, out of what its run works with.

Per example one search: its candidates are answers, the target is the identity, the query is fixed.
Does not know where base answers come from, nor how searches run side by side.
"""

from __future__ import annotations

from dataclasses import replace

from drpo.conf.schema import ExamplesSettings, SearchSettings
from drpo.graph.context import Context
from drpo.graph.order import FixedOrder
from drpo.graph.strategies import STRATEGIES
from drpo.graph.values import Query
from drpo.nodes.identity import ANSWER, IdentityTarget

LONGEST_ANSWER = 1_000
"""Tokens: two such examples are what `retrieval.max_tokens` lets in by default."""
MOST_TRIED = 2
"""How many answers that did no better the rewriter is shown."""


def example_search(examples: ExamplesSettings) -> SearchSettings:
    """The settings of each example's search."""
    return SearchSettings(
        strategy="examples",
        width=1,
        rewrites=1,
        # The root's level is no round.
        levels=examples.rounds + 1,
        max_extension=0,
        skip_above=5,
        queries_per_level=1,
        history=MOST_TRIED,
        recycle_queries=True,
        guards=True,
        unscored="leave_out",
        max_prompt_tokens=LONGEST_ANSWER,
    )


def example_context(
    context: Context, examples: ExamplesSettings, query: Query, base_answer: str
) -> Context:
    """`context`, whose order knows the query by its ordinal, for the search of one example.

    One verdict that cannot be read is a whole level here, so failures are not counted level by
    level: a candidate without a reward beats nobody.
    """
    search = example_search(examples)
    return replace(
        context,
        root={ANSWER: base_answer},
        search=search,
        strategy=STRATEGIES[search.strategy],
        order=FixedOrder(context.order.queries, query.ordinal),
        target=IdentityTarget(),
        most_failures=None,
        subject="answer",
    )
