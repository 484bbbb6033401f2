"""Builds the two turns that rewarder, judge and rewriter are asked with."""

from __future__ import annotations

from typing import Any

from drpo.graph.context import Templates
from drpo.graph.values import Message


def system_and_user(templates: Templates, name: str, **values: Any) -> tuple[Message, ...]:
    """The blocks `system` and `user` of template `name`, filled with data."""
    return (
        Message("system", templates.block(name, "system", **values)),
        Message("user", templates.block(name, "user", **values)),
    )
