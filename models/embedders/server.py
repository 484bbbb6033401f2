"""Vectors from a server that speaks the OpenAI protocol, through langchain-openai.

Each question has an HTTP client of its own, because there are few and they may come from several
event loops. A text that is too long for the model is cut: its beginning says what it is about.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence

import openai
from langchain_openai import OpenAIEmbeddings
from pydantic import SecretStr

from drpo.conf.schema import EmbeddingServerSettings
from drpo.models.keys import api_key, header_values, secrets_of
from drpo.models.openai import http_client
from drpo.models.openai_errors import explained
from drpo.models.provider import Limits, TransportError, stopped, too_late, wait_s

BATCH = 256
"""Texts of one request at most: some servers take no more."""
BATCH_CHARACTERS = 400_000
"""Of one request at most: api.openai.com takes 300,000 tokens."""
SHORTEST_CUT = 200
"""Characters; a server for which that is too long has another problem."""
LONGEST_BACKOFF_S = 30.0


class EmbeddingServer:
    """Implements `Embedder`."""

    def __init__(self, settings: EmbeddingServerSettings) -> None:
        self.identity = f"openai {settings.model} at {settings.base_url or 'api.openai.com'}"
        self._settings = settings

    async def vectors(self, texts: Sequence[str]) -> list[list[float]]:
        """In as few requests as the server takes.

        Raises BadInput without a key, ProviderStopped or ProviderRefused.
        """
        settings = self._settings
        key, headers = api_key(settings), header_values(settings)
        async with http_client() as client:
            model = OpenAIEmbeddings(
                model=settings.model,
                base_url=settings.base_url,
                api_key=SecretStr(key),
                default_headers=headers or None,
                timeout=settings.timeout_s,
                max_retries=0,
                http_async_client=client,
                chunk_size=BATCH,
                # Texts are sent, and not numbers of tokens, which only OpenAI's own server reads.
                check_embedding_ctx_length=False,
            )
            asking = _Asking(settings, model, secrets_of(settings))
            made = [await asking.batch(batch) for batch in _batches(texts)]
        return [vector for batch in made for vector in batch]


class _Asking:
    """One question, in several requests and tries."""

    def __init__(
        self, settings: EmbeddingServerSettings, model: OpenAIEmbeddings, secrets: Sequence[str]
    ) -> None:
        self._settings = settings
        self._limits = Limits(attempts=settings.attempts)
        self._model = model
        self._secrets = secrets

    async def batch(self, texts: Sequence[str]) -> list[list[float]]:
        """One request, again while the server is busy, broken or away."""
        tries, longest = 0, max(map(len, texts))
        while True:
            try:
                return await self._once([text[:longest] for text in texts])
            except TransportError as problem:
                if problem.ended == "context_overflow" and longest > SHORTEST_CUT:
                    longest //= 2
                    continue
                tries += 1
                # When it is asked again changes no answer, so the run's seed has no say in it.
                pause_s = wait_s(problem, tries, self._limits, random.uniform, LONGEST_BACKOFF_S)
                if pause_s is None:
                    raise stopped("retrieval.embedder", problem, self._limits) from None
                await asyncio.sleep(pause_s)

    async def _once(self, texts: list[str]) -> list[list[float]]:
        try:
            # The SDK's own limit starts anew with every byte that comes.
            async with asyncio.timeout(self._settings.timeout_s):
                made = await self._model.aembed_documents(texts)
        except TimeoutError:
            raise too_late(self._settings.timeout_s) from None
        # The last four: langchain-openai on an error object, or on HTML, with status 200.
        except (openai.APIError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise explained(error, self._settings, (), self._secrets) from None
        if len(made) != len(texts):
            said = f"the server gave {len(made)} vectors for {len(texts)} texts"
            raise TransportError(said, retry=True)
        return made


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    length = 0
    for text in texts:
        if batch and (len(batch) == BATCH or length + len(text) > BATCH_CHARACTERS):
            yield batch
            batch, length = [], 0
        batch.append(text)
        length += len(text)
    if batch:
        yield batch
