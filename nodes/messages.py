"""Builds the two turns that rewarder, judge and rewriter are asked with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drpo.graph.context import Templates
from drpo.graph.values import Message


def asked_again(templates: Templates) -> Callable[[str, str], tuple[Message, ...]]:
    """The turns that follow on a reply that cannot be used: itself, and what is wrong with it."""

    def turns(text: str, reason: str) -> tuple[Message, ...]:
        said = templates.block("again", "user", reason=reason)
        return (Message("assistant", text), Message("user", said))

    return turns


def system_and_user(templates: Templates, name: str, **values: Any) -> tuple[Message, ...]:
    """The blocks `system` and `user` of template `name`, filled with data."""
    return (
        Message("system", templates.block(name, "system", **values)),
        Message("user", templates.block(name, "user", **values)),
    )
