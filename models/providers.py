"""Makes the provider of each role from its settings, and closes what they share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from drpo.conf.schema import ModelsSettings, OpenAISettings
from drpo.graph.values import ROLES, Role
from drpo.models.provider import Provider
from drpo.models.sandbox import Sandbox


@asynccontextmanager
async def open_providers(
    settings: ModelsSettings, seed: int
) -> AsyncIterator[Mapping[Role, Provider]]:
    """The provider of every role; the OpenAI packages are imported only where one needs them."""
    async with AsyncExitStack() as stack:
        client = None
        providers: dict[Role, Provider] = {}
        for role in ROLES:
            chosen = getattr(settings, role)
            if isinstance(chosen, OpenAISettings):
                from drpo.models.openai import OpenAIProvider, http_client

                client = client or await stack.enter_async_context(http_client())
                providers[role] = OpenAIProvider(chosen, client)
            else:
                providers[role] = Sandbox(chosen, role, seed)
        yield providers
