"""Makes the provider of each role from its settings, and closes what they share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from drpo.conf.schema import ModelsSettings, OpenAISettings
from drpo.graph.errors import RunFailed
from drpo.graph.values import ROLES, Role
from drpo.models.keys import api_key, header_values
from drpo.models.prices import FREE
from drpo.models.provider import Call, Completion, Limits, Provider
from drpo.models.sandbox.provider import Sandbox

if TYPE_CHECKING:
    import httpx2


def check_providers(settings: ModelsSettings) -> None:
    """Raises BadInput when a provider lacks what it needs from the user."""
    for role in ROLES:
        chosen = getattr(settings, role)
        if isinstance(chosen, OpenAISettings):
            api_key(chosen)
            header_values(chosen)
        else:
            Sandbox(chosen, role)


class Silent:
    """Known by name and parameters, so that the ledger can be asked; never asked itself."""

    price = FREE

    def __init__(
        self, name: str, parameters: Mapping[str, Any], *, multiple: bool, asks: int
    ) -> None:
        self.name = name
        self.parameters = parameters
        self.multiple = multiple
        self.limits = Limits(asks=asks)

    def leave_out(self, parameter: str) -> None:
        """As the model that it stands in for did without."""
        self.multiple = self.multiple and parameter != "n"

    async def complete(self, call: Call) -> Completion:
        """Raises RunFailed, always."""
        raise RunFailed(f"the ledger has no answer to {call.messages[-1].content[:60]!r}")


@asynccontextmanager
async def silent_providers(settings: ModelsSettings) -> AsyncIterator[Mapping[Role, Provider]]:
    """In place of `open_providers` where nothing but the ledger may answer; needs no key."""
    providers: dict[Role, Provider] = {}
    for role in ROLES:
        chosen = getattr(settings, role)
        if isinstance(chosen, OpenAISettings):
            from drpo.models.openai import NAME, parameters_of  # noqa: PLC0415 - see below

            known = (NAME, parameters_of(chosen))
        else:
            sandbox = Sandbox(chosen, role)
            known = (sandbox.name, sandbox.parameters)
        providers[role] = Silent(*known, multiple=chosen.multiple, asks=chosen.asks)
    yield providers


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
