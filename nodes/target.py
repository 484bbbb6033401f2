"""The chat model as a target: its prompt is the candidate's `system` text, and examples follow it.

Base models see one text with stop sequences instead of turns. Does not judge what comes back.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from functools import partial
from typing import Literal

from drpo.graph.context import Caller, Place, Retriever, Templates
from drpo.graph.requests import Answer, Outcome, Reply, Request
from drpo.graph.values import Example, Message, Prompts, Query, Sample

FINE: frozenset[Outcome] = frozenset({"ok", "refusal"})
"""What of the target is an answer: a refusal is one, to be judged (FAULTS M1)."""
CUT: frozenset[Outcome] = frozenset({"truncated"})
"""Where the user says so, also this."""


class Wording:
    """How prompts, examples and a conversation become what the model is sent."""

    def __init__(self, templates: Templates, style: Literal["chat", "text"] = "chat") -> None:
        """Base models take `text`."""
        self.style: Literal["chat", "text"] = style
        self._templates = templates

    def messages(
        self, prompts: Prompts, turns: Sequence[Message], examples: Sequence[Example]
    ) -> tuple[Message, ...]:
        """All of it, `turns` being those of the query."""
        if self.style == "chat":
            return (*self.head(prompts, examples), *turns)
        text = self._templates.block(
            "target_text", "text", prompts=prompts, examples=examples, turns=turns
        )
        return (Message("user", text),)

    def head(self, prompts: Prompts, examples: Sequence[Example]) -> tuple[Message, ...]:
        """For a chat model, what comes before the turns of the query."""

        def turn(role: Literal["user", "assistant"], example: Example) -> Message:
            block = f"example_{role}"
            return Message(role, self._templates.block("target_chat", block, example=example))

        system = self._templates.block("target_chat", "system", prompts=prompts)
        shown = [turn(role, each) for each in examples for role in ("user", "assistant")]
        return (Message("system", system), *shown)

    def stop(self) -> tuple[str, ...]:
        """Where a base model has to stop."""
        if self.style == "chat":
            return ()
        lines = self._templates.block("target_text", "stop").splitlines()
        return tuple(line for line in lines if line.strip())


class ChatTarget:
    """Asks the target role for one answer."""

    def __init__(
        self,
        caller: Caller,
        templates: Templates,
        style: Literal["chat", "text"] = "chat",
        *,
        accept_truncated: bool = False,
        retriever: Retriever | None = None,
    ) -> None:
        """Without a retriever, no examples."""
        self._fine = FINE | CUT if accept_truncated else FINE
        self._caller = caller
        self._wording = Wording(templates, style)
        self._retriever = retriever

    async def run(self, prompts: Prompts, query: Query, place: Place) -> Answer[Sample]:
        """The model's answer to `query` under `prompts`."""
        shown = await self._retriever.examples(query) if self._retriever is not None else ()
        return await self._caller.ask(self.request(prompts, query, place, shown))

    def request(
        self, prompts: Prompts, query: Query, place: Place, examples: Sequence[Example] = ()
    ) -> Request[Sample]:
        """What the model is asked."""
        return Request(
            role="target",
            level=place.level,
            candidate=place.candidate,
            query=place.query,
            sample=place.sample,
            messages=self._wording.messages(prompts, query.messages, examples),
            parse=partial(read_sample, fine=self._fine),
            stop=self._wording.stop(),
            fine=self._fine,
        )


def read_sample(reply: Reply, *, fine: Container[Outcome] = FINE) -> Sample:
    """The answer as it came; one that did not end well is a failure with its reason."""
    outcome, reason = reply.ended()
    text = reply.texts[0] if reply.texts else ""
    if outcome in fine and text.strip():
        return Sample(text)
    hint = " (models.target.max_tokens, .accept_truncated)" if outcome == "truncated" else ""
    return Sample("", f"no answer of the target: {reason or 'it is empty'}{hint}")
