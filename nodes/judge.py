"""Asks the judge for a score and rationale per selected aspect of one sample.

A sample that failed, or a query without a readable selection, is unscored, with the reason,
without asking anybody.
"""

from __future__ import annotations

from functools import partial

from langgraph.runtime import Runtime

from drpo.graph.context import Context, Place
from drpo.graph.requests import Answer, Request
from drpo.graph.state import EvaluationState, EvaluationUpdate
from drpo.graph.values import Message, Sample, Selection, Verdict
from drpo.nodes.messages import asked_again, system_and_user
from drpo.nodes.parsing import flaw_of_verdict, read_verdicts

SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["verdict"],
    "properties": {
        "verdict": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["aspect", "rationale", "score"],
                "properties": {
                    "aspect": {"type": "string"},
                    "rationale": {"type": "string"},
                    "score": {"type": "integer", "enum": [1, 2, 3, 4, 5]},
                },
            },
        }
    },
}


async def judge(state: EvaluationState, runtime: Runtime[Context]) -> EvaluationUpdate:
    """Store the verdict on one sample."""
    context = runtime.context
    place = Place(state["level"], state["candidate"], state["query"], state.get("repeat", 0))
    selection = await context.store.selection(place.query)
    unscored = _unscored(state["sample"], selection)
    if selection is None or unscored is not None:
        answer = Answer(Verdict((), unscored))
    else:
        answer = await context.caller.ask(request(place, state["sample"], selection, context))
    await context.store.add_verdict(place, answer)
    return {}


def _unscored(sample: Sample, selection: Selection | None) -> str | None:
    if sample.failure is not None:
        return sample.failure
    if selection is None:
        return "the query has no selection"
    return None if selection.aspects else f"no aspects to judge by: {selection.reason}"


def request(
    place: Place, sample: Sample, selection: Selection, context: Context
) -> Request[Verdict]:
    """What the judge is asked about one sample."""
    query = context.order.queries[place.query]
    system, user = system_and_user(
        context.templates,
        "judge",
        description=context.task.description,
        aspects=selection.aspects,
        query=query.text,
        reference=query.reference,
        answer=sample.text,
    )
    if context.judge.rubric is not None:
        rubric = context.templates.block("rubric", "system", rubric=context.judge.rubric)
        system = Message("system", f"{system.content}\n\n{rubric}")
    return Request(
        role="judge",
        level=place.level,
        candidate=place.candidate,
        query=place.query,
        messages=(system, user),
        n=context.judge.samples,
        parse=partial(read_verdicts, aspects=selection.aspects),
        flaw=partial(flaw_of_verdict, aspects=selection.aspects),
        again=asked_again(context.templates),
        schema=SCHEMA,
    )
