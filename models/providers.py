"""Makes the provider of each role from its settings, and closes what they share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from drpo.conf.schema import ModelsSettings, OpenAISettings
from drpo.graph.values import ROLES, Role
from drpo.models.keys import api_key
from drpo.models.provider import Provider
from drpo.models.sandbox.provider import Sandbox

if TYPE_CHECKING:
    import httpx2


def check_providers(settings: ModelsSettings) -> None:
    """Raises BadInput when a provider lacks what it needs from the user."""
    for role in ROLES:
        chosen = getattr(settings, role)
        if isinstance(chosen, OpenAISettings):
            api_key(chosen)
        else:
            Sandbox(chosen, role)


@asynccontextmanager
async def open_providers(
    settings: ModelsSettings,
) -> AsyncIterator[Mapping[Role, Provider]]:
    """The provider of every role; the OpenAI packages are imported only where one needs them."""
    async with AsyncExitStack() as stack:
        client: httpx2.AsyncClient | None = None
        providers: dict[Role, Provider] = {}
        for role in ROLES:
            chosen = getattr(settings, role)
            if isinstance(chosen, OpenAISettings):
                # Half a second of imports that a run on the sandbox need not wait for.
                from drpo.models.openai import (  # noqa: PLC0415 - see above
                    OpenAIProvider,
                    http_client,
                )

                if client is None:
                    client = await stack.enter_async_context(http_client())
                providers[role] = OpenAIProvider(chosen, client)
            else:
                providers[role] = Sandbox(chosen, role)
        yield providers
