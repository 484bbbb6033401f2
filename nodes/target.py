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
        self._templates = templates
        self._style = style
        self._retriever = retriever

    async def run(self, prompts: Prompts, query: Query, place: Place) -> Answer[Sample]:
        """The model's answer to `query` under `prompts`."""
        shown = await self._retriever.examples(query) if self._retriever is not None else ()
        return await self._caller.ask(self.request(prompts, query, place, shown))

    def request(
        self, prompts: Prompts, query: Query, place: Place, examples: Sequence[Example] = ()
    ) -> Request[Sample]:
        """What the model is asked."""
        written = self._chat if self._style == "chat" else self._text
        messages = written(prompts, query, examples)
        return Request(
            role="target",
            level=place.level,
            candidate=place.candidate,
            query=place.query,
            sample=place.sample,
            messages=messages,
            parse=partial(read_sample, fine=self._fine),
            stop=self._stop(),
            fine=self._fine,
        )

    def _chat(
        self, prompts: Prompts, query: Query, examples: Sequence[Example]
    ) -> tuple[Message, ...]:
        def turn(role: Literal["user", "assistant"], example: Example) -> Message:
            block = f"example_{role}"
            return Message(role, self._templates.block("target_chat", block, example=example))

        system = self._templates.block("target_chat", "system", prompts=prompts)
        shown = [turn(role, each) for each in examples for role in ("user", "assistant")]
        return (Message("system", system), *shown, *query.messages)

    def _text(
        self, prompts: Prompts, query: Query, examples: Sequence[Example]
    ) -> tuple[Message, ...]:
        text = self._templates.block(
            "target_text", "text", prompts=prompts, examples=examples, turns=query.messages
        )
        return (Message("user", text),)

    def _stop(self) -> tuple[str, ...]:
        if self._style == "chat":
            return ()
        lines = self._templates.block("target_text", "stop").splitlines()
        return tuple(line for line in lines if line.strip())


def read_sample(reply: Reply, *, fine: Container[Outcome] = FINE) -> Sample:
    """The answer as it came; one that did not end well is a failure with its reason."""
    outcome, reason = reply.ended()
    text = reply.texts[0] if reply.texts else ""
    if outcome in fine and text.strip():
        return Sample(text)
    hint = " (models.target.max_tokens, .accept_truncated)" if outcome == "truncated" else ""
    return Sample("", f"no answer of the target: {reason or 'it is empty'}{hint}")
