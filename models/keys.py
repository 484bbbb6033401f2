"""Keys of paid servers: read from the environment where they are needed, never stored."""

from __future__ import annotations

import os

from drpo.conf.schema import OpenAISettings
from drpo.graph.errors import BadInput


def api_key(settings: OpenAISettings) -> str:
    """The key out of its environment variable. Raises BadInput when that is not set."""
    key = os.environ.get(settings.api_key_env, "")
    if not key:
        raise BadInput(
            f"model {settings.model!r} needs a key: set the environment variable "
            f"{settings.api_key_env} (any value for a local server that wants none)"
        )
    return key
