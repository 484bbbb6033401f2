"""Keys of paid servers: read from the environment where they are needed, never stored."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from drpo.conf.schema import (
    FROM_ENVIRONMENT,
    EmbeddingServerSettings,
    HFEndpointSettings,
    OpenAISettings,
)
from drpo.graph.errors import BadInput

Served = OpenAISettings | HFEndpointSettings | EmbeddingServerSettings
"""What has a server that wants a key."""

NO_KEY = "none"
"""Sent to a server on this machine when there is no key: most of them want none."""


def api_key(settings: Served) -> str:
    """The key out of its environment variable. Raises BadInput when that is not set."""
    key = os.environ.get(settings.api_key_env, "").strip()
    if key:
        return _sendable(key, settings.api_key_env)
    if is_local(settings.base_url):
        return NO_KEY
    raise BadInput(
        f"model {settings.model!r} needs a key: set the environment variable "
        f"{settings.api_key_env}, or write {settings.api_key_env}=... into a file .env here"
    )


def header_values(settings: Served) -> dict[str, str]:
    """The headers, read from the environment where they say so. Raises BadInput."""
    return read_headers(settings.headers, f"model {settings.model!r}")


def read_headers(headers: Mapping[str, str], whose: str) -> dict[str, str]:
    """As `header_values`, of anything else that is sent headers."""
    values = {}
    for header, value in headers.items():
        name = value.removeprefix(FROM_ENVIRONMENT)
        if name == value:
            values[header] = value
            continue
        found = os.environ.get(name, "").strip()
        if not found:
            raise BadInput(
                f"header {header!r} of {whose}: set the environment variable "
                f"{name}, or write {name}=... into a file .env here"
            )
        values[header] = _sendable(found, name)
    return values


def variables(settings: Served) -> list[str]:
    """Of the environment, whose values the server is sent."""
    headers = settings.headers.values()
    named = [each for each in headers if each.startswith(FROM_ENVIRONMENT)]
    return [settings.api_key_env, *(each.removeprefix(FROM_ENVIRONMENT) for each in named)]


def secrets_of(settings: Served) -> tuple[str, ...]:
    """What no message may hold: the key, and the headers that are read from the environment."""
    values, shown = header_values(settings), settings.headers
    hidden = [value for name, value in values.items() if value != shown[name]]
    return tuple(each for each in (api_key(settings), *hidden) if each != NO_KEY)


def _sendable(value: str, name: str) -> str:
    if not (value.isascii() and value.isprintable()):
        raise BadInput(
            f"the environment variable {name} holds what no header can: a line break, or a "
            "character that is not ASCII"
        )
    return value


def is_local(base_url: str | None) -> bool:
    """Whether the server is on this machine."""
    try:
        host = urlsplit(base_url or "").hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
