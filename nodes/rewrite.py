"""Asks the rewriter for new prompts in place of one surviving candidate's, or for a new answer.

It reads the candidate's prompts, its ancestors', its samples and verdicts; of an answer also what
was tried before in its place. Whether a rewrite is any good is not known here: `admit` guards,
`evaluate` judges.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from langgraph.runtime import Runtime

from drpo.graph.context import Context
from drpo.graph.requests import TOO_LONG, Answer, Request
from drpo.graph.state import RewriteTask, SearchUpdate
from drpo.graph.values import Candidate, Evaluation, Message, Prompts, Rewrite
from drpo.nodes.guards import variables
from drpo.nodes.identity import ANSWER
from drpo.nodes.messages import asked_again, system_and_user
from drpo.nodes.parsing import flaw_of_rewrite, read_rewrites


async def rewrite(state: RewriteTask, runtime: Runtime[Context]) -> SearchUpdate:
    """Store M rewrites of one candidate; one that cannot be read has its reason instead.

    Where a person has written the first of them, the rewriter is not asked.
    """
    context = runtime.context
    *ancestors, parent = await context.store.path(state["candidate"], context.search.history + 1)
    first = parent.first_item(state["level"], context.search.rewrites)
    if await context.store.is_written(parent.id, first):
        return {}
    earlier = [each.prompts for each in ancestors]
    if context.subject == "answer":
        earlier = await _tried(parent, first, ancestors, context)
    evaluations = await context.store.evaluations([parent.id])
    answer = await context.caller.ask(
        request(state["level"], parent, earlier, evaluations, context)
    )
    if earlier and any(said.failure == TOO_LONG for said in answer.value):
        # What the rewriter can best do without (FAULTS L9).
        shorter = request(state["level"], parent, (), evaluations, context)
        answer = await context.caller.ask(shorter)
    rewrites = _as_many_as(context.search.rewrites, answer.value)
    await context.store.add_rewrites(parent.id, first, Answer(rewrites, answer.calls))
    return {}


async def _tried(
    parent: Candidate, first: int, ancestors: Sequence[Candidate], context: Context
) -> list[Prompts]:
    """The last rewrites of an answer that is still the best, oldest first.

    One that was carried on goes by several ids.
    """
    same = [each for each in ancestors if each.prompts == parent.prompts]
    said = [each for old in same for each in await context.store.rewrites(old.id, 0)]
    said += [each for each in await context.store.rewrites(parent.id, 0) if each.item < first]
    tried = [each.prompts for each in said if each.prompts is not None]
    return tried[-context.search.history :] if context.search.history else []


def _as_many_as(wanted: int, said: tuple[Rewrite, ...]) -> tuple[Rewrite, ...]:
    lacking = Rewrite(None, f"the rewriter sent only {len(said)} of {wanted}")
    return said[:wanted] + (lacking,) * (wanted - len(said))


def request(
    level: int,
    current: Candidate,
    earlier: Sequence[Prompts],
    evaluations: Sequence[Evaluation],
    context: Context,
) -> Request[tuple[Rewrite, ...]]:
    """What the rewriter is asked about one candidate, with its ancestors' prompts, oldest first.

    Of an answer `earlier` is what was tried in its place.
    """
    # A parent may be rewritten at several levels; without it the ledger would repeat itself.
    sample = current.first_item(level, context.search.rewrites)
    if context.subject == "answer":
        # Nor would it know one that was carried on from the one it repeats.
        sample = (level - 1) * context.search.rewrites
        messages = _of_answer(current, earlier, evaluations, context)
    else:
        messages = _of_prompts(current, earlier, evaluations, context)
    return Request(
        role="rewriter",
        level=level,
        candidate=current.id,
        query=None,
        messages=messages,
        parse=partial(read_rewrites, names=tuple(current.prompts), current=dict(current.prompts)),
        flaw=partial(flaw_of_rewrite, names=tuple(current.prompts), current=dict(current.prompts)),
        again=asked_again(context.templates),
        sample=sample,
        n=context.search.rewrites,
        schema=schema(current.prompts),
    )


def _of_prompts(
    current: Candidate,
    history: Sequence[Prompts],
    evaluations: Sequence[Evaluation],
    context: Context,
) -> tuple[Message, ...]:
    return system_and_user(
        context.templates,
        "rewrite",
        description=context.task.description,
        locked=context.task.locked,
        **_limits(context),
        prompts=current.prompts,
        history=history,
        evaluations=[_shown(evaluation, context) for evaluation in evaluations],
    )


def _of_answer(
    current: Candidate,
    tried: Sequence[Prompts],
    evaluations: Sequence[Evaluation],
    context: Context,
) -> tuple[Message, ...]:
    [evaluation] = evaluations
    return system_and_user(
        context.templates,
        "rewrite_answer",
        description=context.task.description,
        max_answer_tokens=context.search.max_prompt_tokens if context.search.guards else None,
        query=context.order.queries[evaluation.query].text,
        answer=current.prompts[ANSWER],
        verdict=evaluation.verdict,
        tried=[prompts[ANSWER] for prompts in tried],
    )


def _limits(context: Context) -> dict[str, Any]:
    """What the guards hold a rewrite to; without guards there is nothing to tell."""
    if not context.search.guards:
        return {"variables": {}, "max_prompt_tokens": None}
    named = {name: variables(text) for name, text in context.root.items()}
    return {
        "variables": {name: found for name, found in named.items() if found},
        "max_prompt_tokens": context.search.max_prompt_tokens,
    }


def _shown(evaluation: Evaluation, context: Context) -> dict[str, Any]:
    return {
        "query": context.order.queries[evaluation.query].text,
        "answer": evaluation.sample.text,
        "failure": evaluation.sample.failure,
        "scores": evaluation.verdict.scores,
        "unscored": evaluation.verdict.unscored,
    }


def schema(names: Iterable[str]) -> dict[str, Any]:
    """JSON schema of a rewrite of the prompts with these names."""
    texts = {name: {"type": "string"} for name in names}
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["analysis", "prompts"],
        "properties": {
            "analysis": {"type": "string"},
            "prompts": {
                "type": "object",
                "additionalProperties": False,
                "required": list(texts),
                "properties": texts,
            },
        },
    }
