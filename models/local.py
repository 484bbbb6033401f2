"""A model in this process: a folder of weights, or a name on the Hugging Face hub.

Concurrent calls become batches. Roles that name the same weights share them. Imports nothing
heavy before a model is opened, so that checks and the ledger do without the extra `local`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drpo.conf.schema import LocalSettings
from drpo.graph.errors import BadInput, ProviderRefused
from drpo.graph.values import Message, Role
from drpo.models.batching import Batcher, Drawing, Row, Worker
from drpo.models.prices import FREE
from drpo.models.provider import Call, Completion, Limits, TransportError, merged

if TYPE_CHECKING:
    from drpo.models.generation import LocalModel

EXTRA = ("torch", "transformers", "accelerate")
"""What `drpo[local]` brings."""
HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


def parameters_of(settings: LocalSettings) -> Mapping[str, Any]:
    """All that shapes an answer."""
    return {
        "model": settings.model,
        "revision": settings.revision,
        "dtype": settings.dtype,
        "quantization": settings.quantization,
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "max_tokens": settings.max_tokens,
        "format": settings.format,
        "json_schema": settings.json_schema,
    }


def check_local(settings: LocalSettings, role: Role) -> None:
    """Raises BadInput where it is plain without reading them that weights cannot be had."""
    if any(find_spec(name) is None for name in EXTRA):
        raise BadInput(f"models.{role} needs drpo[local]: pip install 'drpo[local]'")
    if settings.quantization is not None and find_spec("bitsandbytes") is None:
        raise BadInput(
            f"models.{role}.quantization={settings.quantization} needs bitsandbytes: "
            "pip install bitsandbytes"
        )
    place, folder = f"models.{role}.model={settings.model}", Path(settings.model).expanduser()
    if not folder.is_dir():
        if folder.exists() or not HUB_NAME.fullmatch(settings.model):
            raise BadInput(f"{place}: there is no such folder, and no hub has such a name")
    elif not (folder / "config.json").is_file():
        raise BadInput(f"{place}: the folder has no config.json, so there is no model in it")
    elif not any(folder.glob("*.safetensors")):
        raise BadInput(
            f"{place}: the folder has no *.safetensors; weights in other formats may hold code "
            "and are not read"
        )


class LocalProvider:
    """One role on one model."""

    name = "huggingface"
    price = FREE

    def __init__(self, settings: LocalSettings, model: LocalModel, batcher: Batcher) -> None:
        self.multiple = settings.multiple
        self.parameters = parameters_of(settings)
        self.limits = Limits(asks=settings.asks)
        self._settings = settings
        self._batcher = batcher
        self._takes_system = settings.format == "text" or model.takes_system
        self._merges = False

    def leave_out(self, parameter: str) -> None:
        """The system role, which some chat templates do not have, is all that it can do without."""
        self._merges = self._merges or parameter == "system"

    async def complete(self, call: Call) -> Completion:
        """Text `i` is the one that sample index `call.sample + i` has by itself.

        A schema is not enforced. Raises TransportError.
        """
        messages = merged(call.messages) if self._merges else call.messages
        if not self._takes_system and any(turn.role == "system" for turn in messages):
            raise TransportError(
                f"the chat template of {self._settings.model!r} has no system role: the prompt "
                "goes into the first user turn",
                retry=False,
                parameter="system",
            )
        drawing = Drawing(
            format=self._settings.format,
            temperature=self._settings.temperature,
            top_p=self._settings.top_p,
            max_tokens=call.room or self._settings.max_tokens,
            stop=tuple(filter(None, call.stop)),
        )
        seeds = [_seed(call.messages, call.sample + index) for index in range(call.n)]
        rows = [Row(messages=messages, seed=seed, drawing=drawing) for seed in seeds]
        written = await asyncio.gather(*(self._batcher.ask(row) for row in rows))
        return Completion(
            texts=tuple(each.text for each in written),
            finish_reasons=tuple(each.finish_reason for each in written),
            prompt_tokens=written[0].prompt_tokens,
            completion_tokens=sum(each.completion_tokens for each in written),
        )


class LocalModels:
    """The models of a run, each one read once."""

    def __init__(self, worker: Worker, stack: AsyncExitStack) -> None:
        self._worker = worker
        self._stack = stack
        self._read: dict[Sequence[Any], LocalModel] = {}

    async def provider(self, settings: LocalSettings, role: Role) -> LocalProvider:
        """Reads the model unless another role has. Raises BadInput or ProviderRefused."""
        check_local(settings, role)
        model = await self._model(settings, role)
        if settings.format == "chat" and not model.has_template:
            raise ProviderRefused(
                f"model {settings.model!r} has no chat template: set models.{role}.format=text"
            )
        batcher = Batcher(
            model.answer,
            self._worker,
            size=settings.batch_size,
            wait_s=settings.batch_wait_ms / 1000,
        )
        await self._stack.enter_async_context(batcher.running())
        return LocalProvider(settings, model, batcher)

    async def _model(self, settings: LocalSettings, role: Role) -> LocalModel:
        weights = (
            settings.model,
            settings.revision,
            settings.dtype,
            settings.device,
            settings.quantization,
            settings.trust_remote_code,
        )
        if weights not in self._read:
            self._read[weights] = await self._worker.start(_read, settings, role)
        return self._read[weights]

    async def close(self) -> None:
        """Gives the memory of all of them back."""
        while self._read:
            _, model = self._read.popitem()
            await self._worker.start(model.close)


@asynccontextmanager
async def local_models() -> AsyncIterator[LocalModels]:
    """Meanwhile models can be had; afterwards their memory is free, and their thread has ended."""
    worker = Worker()
    try:
        async with AsyncExitStack() as stack:
            models = LocalModels(worker, stack)
            stack.push_async_callback(models.close)
            yield models
    finally:
        worker.close()


def _read(settings: LocalSettings, role: Role) -> LocalModel:
    """In the worker thread, because the imports alone take seconds."""
    from drpo.models.generation import LocalModel, Unloadable  # noqa: PLC0415 - see above

    try:
        return LocalModel(settings)
    except Unloadable as error:
        raise ProviderRefused(f"{role}: {error}") from None


def _seed(messages: Sequence[Message], sample: int) -> int:
    known = json.dumps([*([turn.role, turn.content] for turn in messages), sample])
    return int.from_bytes(hashlib.sha256(known.encode()).digest()[:7])
