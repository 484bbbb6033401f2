"""Turns and texts as LangChain's classes take and give them."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from drpo.graph.values import Message

_CLASSES = {"system": SystemMessage, "user": HumanMessage, "assistant": AIMessage}


def turns_of(messages: Sequence[Message]) -> list[BaseMessage]:
    """For a chat model."""
    return [_CLASSES[turn.role](content=turn.content) for turn in messages]


def one_text(messages: Sequence[Message]) -> str:
    """For a base model."""
    return "\n\n".join(turn.content for turn in messages)


def storable(text: str) -> str:
    """Without lone surrogates, which cannot be stored as UTF-8."""
    return text.encode("utf-8", "replace").decode()
