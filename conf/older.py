"""Brings the stored settings of an older drpo up to date, so that its runs can still be used.

Knows what settings were once called and what they meant before they existed. Reads no files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WORLD = {"world": "noisy", "profile": "rambling"}
"""What the sandbox was before it had worlds comes nearest to this."""


def up_to_date(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The same settings in the words of today."""
    values = dict(settings)
    values["search"] = _renamed(values["search"], "prompt_tokens", "max_prompt_tokens")
    values.setdefault("sandbox", {**WORLD, "seed": values["seed"]})
    values["models"] = {
        role: model if model["provider"] != "sandbox" else {**values["sandbox"], **model}
        for role, model in values["models"].items()
    }
    return values


def _renamed(section: Mapping[str, Any], before: str, after: str) -> dict[str, Any]:
    values = dict(section)
    if before in values:
        values.setdefault(after, values.pop(before))
    return values
