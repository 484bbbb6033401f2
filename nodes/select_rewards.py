"""Finds the aspects by which answers to one query are judged, once per query and run.

With static rewards nobody is asked. Does not know which candidates will be judged by them.
"""

from __future__ import annotations

from functools import partial

from langgraph.runtime import Runtime

from drpo.conf.schema import RewardsSettings
from drpo.graph.context import Context
from drpo.graph.requests import Answer, Request
from drpo.graph.state import QueryTask, SearchUpdate
from drpo.graph.values import Aspect, Selection
from drpo.nodes.messages import asked_again, system_and_user
from drpo.nodes.parsing import flaw_of_selection, read_selection

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["analysis", "reason", "aspects"],
    "properties": {
        "analysis": {
            "type": "object",
            "additionalProperties": False,
            "required": ["topic", "intent", "ambiguities", "form", "challenges"],
            "properties": {
                name: {"type": "string"}
                for name in ("topic", "intent", "ambiguities", "form", "challenges")
            },
        },
        "reason": {"type": "string"},
        "aspects": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["name", "definition"],
                "properties": {"name": {"type": "string"}, "definition": {"type": "string"}},
            },
        },
    },
}


async def select_rewards(state: QueryTask, runtime: Runtime[Context]) -> SearchUpdate:
    """Store the selection for one query, unless the run has it already."""
    context = runtime.context
    if await context.store.selection(state["query"]) is None:
        if context.rewards.kind == "static":
            answer = Answer(_static(context.rewards))
        else:
            answer = await context.caller.ask(request(state, context))
        await context.store.add_selection(state["query"], answer)
    return {}


def _static(rewards: RewardsSettings) -> Selection:
    aspects = tuple(Aspect(name, rewards.aspects[name]) for name in rewards.fixed)
    return Selection(aspects, "static rewards: the same aspects for every query")


def request(state: QueryTask, context: Context) -> Request[Selection]:
    """What the rewarder is asked about one query."""
    rewards = context.rewards
    pool = tuple(Aspect(name, definition) for name, definition in rewards.aspects.items())
    return Request(
        role="rewarder",
        level=state["level"],
        candidate=None,
        query=state["query"],
        messages=system_and_user(
            context.templates,
            "select_rewards",
            description=context.task.description,
            aspects=pool,
            fewest=rewards.fewest,
            most=rewards.most,
            query=context.order.queries[state["query"]].text,
        ),
        parse=partial(read_selection, pool=pool, fewest=rewards.fewest, most=rewards.most),
        flaw=partial(flaw_of_selection, pool=pool, fewest=rewards.fewest),
        again=asked_again(context.templates),
        schema=SCHEMA,
    )
