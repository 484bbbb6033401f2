"""Makes the provider of each role from its settings, and closes what they share.

The one place that tells the kinds of settings apart. What a kind needs beyond the standard library
is imported where a role is of that kind: the OpenAI packages take half a second, PyTorch several.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from drpo.conf.schema import (
    AnyModelSettings,
    HFEndpointSettings,
    LangchainSettings,
    LocalSettings,
    ModelsSettings,
    OpenAISettings,
    SandboxSettings,
)
from drpo.graph.errors import RunFailed
from drpo.graph.values import ROLES, Role
from drpo.models import local
from drpo.models.keys import api_key, header_values
from drpo.models.prices import FREE
from drpo.models.provider import Call, Completion, Limits, Provider
from drpo.models.sandbox.provider import Sandbox

if TYPE_CHECKING:
    import httpx2


def check_providers(settings: ModelsSettings, trusted: Collection[str] | None = None) -> None:
    """Raises BadInput when a provider lacks what it needs from the user.

    `trusted` are the classes that may be imported; None for whatever the settings name, which is
    for settings that the user's own command made.
    """
    for role in ROLES:
        check_provider(getattr(settings, role), role, trusted)


def check_provider(
    chosen: AnyModelSettings, role: Role, trusted: Collection[str] | None = None
) -> None:
    """The same for one role."""
    match chosen:
        case OpenAISettings() | HFEndpointSettings():
            api_key(chosen)
            header_values(chosen)
        case LocalSettings():
            local.check_local(chosen, role)
        case LangchainSettings():
            from drpo.models import langchain  # noqa: PLC0415 - see above

            langchain.check_langchain(chosen, role, trusted)
        case SandboxSettings():
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
        chosen: AnyModelSettings = getattr(settings, role)
        providers[role] = Silent(
            chosen.provider,
            _parameters(chosen, role),
            multiple=chosen.multiple,
            asks=chosen.asks,
        )
    yield providers


def _parameters(chosen: AnyModelSettings, role: Role) -> Mapping[str, Any]:
    """What of a provider is, beside its name, in the ledger's keys."""
    match chosen:
        case OpenAISettings() | HFEndpointSettings():
            from drpo.models import openai  # noqa: PLC0415 - see above

            return openai.parameters_of(chosen)
        case LocalSettings():
            return local.parameters_of(chosen)
        case LangchainSettings():
            from drpo.models import langchain  # noqa: PLC0415 - see above

            return langchain.parameters_of(chosen)
        case SandboxSettings():
            return Sandbox(chosen, role).parameters


@asynccontextmanager
async def open_providers(
    settings: ModelsSettings, trusted: Collection[str] | None = None
) -> AsyncIterator[Mapping[Role, Provider]]:
    """The provider of every role, `trusted` as above. Raises BadInput or ProviderRefused."""
    async with AsyncExitStack() as stack:
        opening = _Opening(stack, trusted)
        yield {role: await opening.provider(getattr(settings, role), role) for role in ROLES}


@asynccontextmanager
async def open_provider(
    chosen: AnyModelSettings, role: Role, trusted: Collection[str] | None = None
) -> AsyncIterator[Provider]:
    """Of one role by itself, `trusted` as above. Raises BadInput or ProviderRefused."""
    async with AsyncExitStack() as stack:
        yield await _Opening(stack, trusted).provider(chosen, role)


class _Opening:
    """What the providers of a run share: one HTTP client, one thread of local models."""

    def __init__(self, stack: AsyncExitStack, trusted: Collection[str] | None = None) -> None:
        self._stack = stack
        self._trusted = trusted
        self._client: httpx2.AsyncClient | None = None
        self._local: local.LocalModels | None = None

    async def provider(self, chosen: AnyModelSettings, role: Role) -> Provider:
        match chosen:
            case OpenAISettings():
                from drpo.models import openai  # noqa: PLC0415 - see above

                return openai.OpenAIProvider(chosen, await self._http_client())
            case HFEndpointSettings():
                from drpo.models import hf_endpoint  # noqa: PLC0415 - see above

                return await self._stack.enter_async_context(hf_endpoint.endpoint(chosen))
            case LocalSettings():
                if self._local is None:
                    self._local = await self._stack.enter_async_context(local.local_models())
                return await self._local.provider(chosen, role)
            case LangchainSettings():
                from drpo.models import langchain  # noqa: PLC0415 - see above

                made = langchain.check_langchain(chosen, role, self._trusted)
                client = await self._http_client() if langchain.takes_client(made) else None
                return langchain.LangchainProvider(chosen, role, made, client)
            case SandboxSettings():
                return Sandbox(chosen, role)

    async def _http_client(self) -> httpx2.AsyncClient:
        from drpo.models import openai  # noqa: PLC0415 - see above

        if self._client is None:
            self._client = await self._stack.enter_async_context(openai.http_client())
        return self._client
