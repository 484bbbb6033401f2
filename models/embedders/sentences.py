"""Vectors of a sentence-transformers model in this process, through langchain-huggingface.

Imports nothing heavy and reads no weights before the first text, so that a resumed run whose
vectors are all kept does without. Runs no code of a model and reads only safetensors.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from drpo.conf.schema import SentenceSettings
from drpo.graph.errors import BadInput, ProviderRefused
from drpo.models.local import HUB_NAME

if TYPE_CHECKING:
    from langchain_huggingface import HuggingFaceEmbeddings

EXTRA = ("sentence_transformers", "torch")
"""What `drpo[sentences]` brings."""
PLACE = "retrieval.embedder"


def check_sentences(settings: SentenceSettings) -> None:
    """Raises BadInput where it is plain without reading it that there is no model."""
    if any(find_spec(name) is None for name in EXTRA):
        raise BadInput(f"{PLACE} needs drpo[sentences]: pip install 'drpo[sentences]'")
    place, folder = f"{PLACE}.model={settings.model}", Path(settings.model).expanduser()
    if not folder.is_dir():
        if folder.exists() or not HUB_NAME.fullmatch(settings.model):
            raise BadInput(f"{place}: there is no such folder, and no hub has such a name")
    elif not (folder / "modules.json").is_file():
        raise BadInput(
            f"{place}: the folder has no modules.json, so there is no sentence-transformers "
            "model in it"
        )
    elif not any(folder.rglob("*.safetensors")):
        raise BadInput(
            f"{place}: the folder has no *.safetensors; weights in other formats may hold code "
            "and are not read"
        )


class SentenceEmbedder:
    """Implements `Embedder`."""

    def __init__(self, settings: SentenceSettings) -> None:
        revision = f"@{settings.revision}" if settings.revision else ""
        self.identity = f"sentences {settings.model}{revision}"
        self._settings = settings
        self._model: HuggingFaceEmbeddings | None = None
        # Two event loops of two threads may ask.
        self._lock = threading.Lock()

    async def vectors(self, texts: Sequence[str]) -> list[list[float]]:
        """In a thread. Raises BadInput or ProviderRefused."""
        return await asyncio.to_thread(self._vectors, list(texts))

    def _vectors(self, texts: list[str]) -> list[list[float]]:
        with self._lock:
            if self._model is None:
                check_sentences(self._settings)
                self._model = _read(self._settings)
            return self._model.embed_documents(texts)


def _read(settings: SentenceSettings) -> HuggingFaceEmbeddings:
    # Each takes seconds to import.
    from langchain_huggingface import HuggingFaceEmbeddings  # noqa: PLC0415 - see above
    from safetensors import SafetensorError  # noqa: PLC0415 - see above
    from transformers.utils.logging import (  # noqa: PLC0415 - see above
        disable_progress_bar,
        set_verbosity_error,
    )

    set_verbosity_error()
    disable_progress_bar()
    # They tell each of their tries to reach the hub; what came of them is in the error.
    for name in ("huggingface_hub", "sentence_transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)
    folder = Path(settings.model).expanduser()
    try:
        return HuggingFaceEmbeddings(
            model=str(folder) if folder.is_dir() else settings.model,
            model_kwargs={
                "revision": settings.revision,
                "device": settings.device,
                "trust_remote_code": False,
                "model_kwargs": {"use_safetensors": True},
            },
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        said = " ".join(str(error).split())[:300]
        raise ProviderRefused(f"{PLACE}: model {settings.model!r} cannot be read: {said}") from None
