"""What a model's tokens cost: the user's own prices, else those of `conf/prices.yaml`.

The list is OpenAI's at a date, and holds for api.openai.com alone; a server of one's own has no
price that is not set.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

from omegaconf import OmegaConf

from drpo.conf.schema import AnyModelSettings, OpenAISettings, RemoteSettings

OTHER_SERVER = ("OPENAI_API_BASE", "OPENAI_BASE_URL")
"""With one of these the SDK asks another server, though `base_url` is null."""
_DATE = re.compile(r"-\d{4}-\d{2}-\d{2}$")


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens."""

    prompt: float
    cached: float
    """Of prompt tokens that the server had cached."""
    completion: float

    def cost_usd(self, prompt: float, completion: float, cached: float = 0) -> float:
        """Of so many tokens; `cached` is the part of `prompt` that was cached."""
        fresh = (prompt - cached) * self.prompt
        return (fresh + cached * self.cached + completion * self.completion) / 1_000_000


FREE = Price(0.0, 0.0, 0.0)
"""Of simulated models."""


def price_of(settings: AnyModelSettings) -> Price | None:
    """The price of a role's model; None where it is unknown."""
    if not isinstance(settings, RemoteSettings):
        return FREE
    listed, prompt, completion = _listed(settings), settings.price_in, settings.price_out
    if listed is None and (prompt is None or completion is None):
        return None
    listed = listed or Price(0.0, 0.0, 0.0)
    if prompt is not None:
        listed = replace(listed, prompt=prompt, cached=prompt)
    if settings.price_cached is not None:
        listed = replace(listed, cached=settings.price_cached)
    return listed if completion is None else replace(listed, completion=completion)


def is_listed(settings: AnyModelSettings) -> bool:
    """Whether any part of the role's price is the list's, and not the user's own."""
    if not isinstance(settings, RemoteSettings) or _listed(settings) is None:
        return False
    return settings.price_in is None or settings.price_out is None


def listed_at() -> str:
    """When the listed prices were written down."""
    return str(_file()["date"])


def _listed(settings: RemoteSettings) -> Price | None:
    if not isinstance(settings, OpenAISettings):
        return None
    if settings.base_url is not None or any(os.environ.get(name) for name in OTHER_SERVER):
        return None
    models = _file()["models"]
    found = models.get(settings.model) or models.get(_DATE.sub("", settings.model))
    return found and Price(found["in"], found.get("cached_in", found["in"]), found["out"])


@cache
def _file() -> Mapping[str, Any]:
    text = (files("drpo.conf") / "prices.yaml").read_text("utf-8")
    values: Any = OmegaConf.to_container(OmegaConf.create(text))
    return dict(values)
