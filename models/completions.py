"""What becomes of a completion: a record with tokens, cost and outcome; a reply without thinking.

Pure functions between what a provider gives, what the ledger keeps and what a node reads.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from drpo.graph.requests import Reply, Request
from drpo.models.ledger import Attempt, CallRecord, outcome_of
from drpo.models.provider import Call, Completion, Provider
from drpo.models.thinking import apart
from drpo.models.turns import storable

CHARACTERS_PER_TOKEN = 4


MOST_TOKENS = 1_000_000_000
"""Of one call; a server that counts more miscounts."""


def tidied(completion: Completion) -> Completion:
    """Without what a server cannot mean: counts that are none, halves of characters.

    A count that cannot be is no count, so that it is estimated (FAULTS B2).
    """
    least = 1 if any((*completion.texts, *completion.thinking)) else 0
    asked = _counted(completion.prompt_tokens, least)
    cached = _counted(completion.cached_tokens, 0) or 0
    return replace(
        completion,
        texts=tuple(map(storable, completion.texts)),
        thinking=tuple(map(storable, completion.thinking)),
        finish_reasons=tuple(map(storable, completion.finish_reasons)),
        prompt_tokens=asked,
        completion_tokens=_counted(completion.completion_tokens, least),
        cached_tokens=min(cached, asked or 0),
    )


def _counted(said: object, least: int) -> int | None:
    if isinstance(said, float) and said.is_integer():
        said = int(said)
    if not isinstance(said, int) or isinstance(said, bool):
        return None
    return said if least <= said <= MOST_TOKENS else None


def reply_of(record: CallRecord) -> Reply:
    """The raw reply, its thinking still in it."""
    completion = record.completion
    return Reply(completion.texts, completion.finish_reasons, record.completion_tokens)


def ended(reason: str, call: Call) -> Completion:
    """What a server that answers with an error meant to say."""
    return Completion(
        texts=("",) * call.n,
        finish_reasons=(reason,) * call.n,
        prompt_tokens=0,
        completion_tokens=0,
    )


def without_thinking(reply: Reply) -> Reply:
    """What is judged and put into prompts (FAULTS M11)."""
    return replace(reply, texts=tuple(apart(text)[1] for text in reply.texts))


def record_of(
    key: str,
    request: Request[Any],
    provider: Provider,
    completion: Completion,
    attempts: list[Attempt],
) -> CallRecord:
    """What the ledger keeps; tokens that the server did not count are estimated, and marked."""
    asked, said = completion.prompt_tokens, completion.completion_tokens
    estimated = asked is None or said is None
    asked = estimate(*(m.content for m in request.messages)) if asked is None else asked
    said = estimate(*completion.texts, *completion.thinking) if said is None else said
    price, cached = provider.price, completion.cached_tokens
    cost_usd = None if price is None else price.cost_usd(asked, said, cached)
    return CallRecord(
        key=key,
        request=request,
        provider=provider,
        completion=completion,
        prompt_tokens=asked,
        completion_tokens=said,
        tokens_estimated=estimated,
        cost_usd=cost_usd,
        attempts=attempts,
        outcome=outcome_of(without_thinking(Reply(completion.texts, completion.finish_reasons))),
    )


def estimate(*texts: str) -> int:
    """Tokens of texts."""
    return -(-sum(len(text) for text in texts) // CHARACTERS_PER_TOKEN)
