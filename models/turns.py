"""Turns and texts as LangChain's classes take and give them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from drpo.graph.values import Message

_CLASSES = {"system": SystemMessage, "user": HumanMessage, "assistant": AIMessage}


def turns_of(messages: Sequence[Message]) -> list[BaseMessage]:
    """For a chat model."""
    return [_CLASSES[turn.role](content=turn.content) for turn in messages]


def merged_turns(turns: Sequence[BaseMessage]) -> list[BaseMessage]:
    """Without system turns, as `provider.merged`; turns of any kind stay as they are."""
    system = [str(turn.text) for turn in turns if isinstance(turn, SystemMessage)]
    system = [text for text in system if text.strip()]
    rest = [turn for turn in turns if not isinstance(turn, SystemMessage)]
    for at, turn in enumerate(rest):
        if isinstance(turn, HumanMessage) and system:
            if isinstance(turn.content, str):
                content: Any = "\n\n".join((*system, turn.content))
            else:
                content = [{"type": "text", "text": "\n\n".join(system)}, *turn.content]
            rest[at] = turn.model_copy(update={"content": content})
            return rest
    return [*(HumanMessage(text) for text in system), *rest]


def one_text(messages: Sequence[Message]) -> str:
    """For a base model."""
    return "\n\n".join(turn.content for turn in messages)


def storable(text: str) -> str:
    """Without lone surrogates, which cannot be stored as UTF-8."""
    return text.encode("utf-8", "replace").decode()
