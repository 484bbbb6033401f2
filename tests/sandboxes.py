"""What the sandbox is asked in tests: messages of the real templates, prompts of known meaning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from drpo.conf.schema import SandboxSettings
from drpo.graph.values import Aspect, Message, Role, Score, Verdict
from drpo.models.provider import Call
from drpo.models.sandbox.provider import Sandbox
from drpo.models.sandbox.world import world_file
from drpo.nodes.messages import system_and_user
from drpo.nodes.prompts import JinjaTemplates

TEMPLATES = JinjaTemplates()
KNOWN = world_file()
ROOT = "You are a helpful assistant."
POOL = tuple(Aspect(name, need.definition) for name, need in KNOWN.needs.items() if need.pool)
PROFILES = tuple(KNOWN.target.profiles)


def sandbox(role: Role, **settings: Any) -> Sandbox:
    given = {"provider": "sandbox", "model": "sandbox", "temperature": 0.0, "top_p": None}
    given |= {"max_tokens": None, "world": "noisy", "profile": "terse", "seed": 0}
    return Sandbox(SandboxSettings.model_validate(given | settings), role)


async def texts_of(
    box: Sandbox, messages: Sequence[Message], n: int = 1, **call: Any
) -> tuple[str, ...]:
    return (await box.complete(Call(messages=tuple(messages), n=n, **call))).texts


def asking_for(*names: str) -> str:
    """A prompt with a specific bullet for each of these classes."""
    return bullets(KNOWN.instructions[name].says[0] for name in names)


def bullets(said: Iterable[str]) -> str:
    """The root prompt with bullets."""
    return "\n".join([ROOT, "", *(f"- {each}" for each in said)])


def answer_of(*parts: str) -> str:
    """An answer that has these parts."""
    return "\n".join(f"[{KNOWN.parts[part].mark}] {KNOWN.parts[part].says[0]}" for part in parts)


def chat(prompt: str, *turns: str) -> tuple[Message, ...]:
    """The turns are the user's and the assistant's, in turn."""
    system = TEMPLATES.block("target_chat", "system", prompts={"system": prompt})
    said = [Message(("user", "assistant")[at % 2], text) for at, text in enumerate(turns)]
    return (Message("system", system), *said)


def selecting(
    query: str,
    aspects: Sequence[Aspect] = POOL,
    *,
    fewest: int = 2,
    most: int = 5,
    templates: JinjaTemplates = TEMPLATES,
) -> tuple[Message, ...]:
    return system_and_user(
        templates,
        "select_rewards",
        description="",
        aspects=aspects,
        fewest=fewest,
        most=most,
        query=query,
    )


def judging(
    query: str,
    answer: str,
    aspects: Sequence[Aspect] = POOL,
    *,
    description: str = "",
    reference: str | None = None,
    templates: JinjaTemplates = TEMPLATES,
) -> tuple[Message, ...]:
    return system_and_user(
        templates,
        "judge",
        description=description,
        aspects=aspects,
        query=query,
        reference=reference,
        answer=answer,
    )


def evaluation(query: str, answer: str, scores: Sequence[Score]) -> dict[str, Any]:
    """As the rewriter's template is given it."""
    return {
        "query": query,
        "answer": answer,
        "failure": None,
        "scores": scores,
        "unscored": "nobody was asked",
    }


def rewriting(
    prompts: dict[str, str],
    evaluations: Sequence[dict[str, Any]] = (),
    locked: Sequence[str] = (),
    *,
    templates: JinjaTemplates = TEMPLATES,
) -> tuple[Message, ...]:
    return system_and_user(
        templates,
        "rewrite",
        description="",
        locked=locked,
        variables={},
        max_prompt_tokens=1000,
        prompts=prompts,
        history=[{"system": "You help."}],
        evaluations=evaluations,
    )


def rewriting_answer(
    query: str,
    answer: str,
    scores: Sequence[Score],
    tried: Sequence[str] = (),
    *,
    templates: JinjaTemplates = TEMPLATES,
) -> tuple[Message, ...]:
    return system_and_user(
        templates,
        "rewrite_answer",
        description="",
        max_answer_tokens=1000,
        query=query,
        answer=answer,
        verdict=Verdict(tuple(scores), "nobody was asked"),
        tried=tried,
    )
