"""Concurrent calls to a local model, against one static batch and against one call after another.

`python -m benchmarks.local_batching [--model FOLDER | --shape small] [--device cpu]`

`--shape 8b` makes a Llama of 8 billion random weights, which wants a GPU and 16 GB of disk.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from langchain_huggingface import HuggingFacePipeline
from transformers.utils import logging

from drpo.conf.schema import LocalSettings
from drpo.graph.values import Message
from drpo.models.local import LocalProvider, local_models
from drpo.models.provider import Call

MAKER = Path(__file__).parents[1] / "tests" / "tiny_model.py"
WORDS = "How do I cook rice for a dozen people in one small pot, and what if it burns?"


def calls(count: int) -> list[Call]:
    """Prompts of different lengths."""
    system = Message("system", "You are a helpful assistant. Answer with care, in plain words.")
    return [
        Call(messages=(system, Message("user", f"{at}: {WORDS[: 20 + at % 50]}")))
        for at in range(count)
    ]


class Ways:
    """The same questions, asked in three ways; each gives its texts."""

    def __init__(self, provider: LocalProvider, pipeline: HuggingFacePipeline, tokens: int) -> None:
        self._provider = provider
        self._pipeline = pipeline
        self._options = {"max_new_tokens": tokens, "do_sample": False, "return_full_text": False}
        self._options |= {"add_special_tokens": False}

    async def provider(self, asked: Sequence[Call]) -> list[str]:
        """At once, through drpo's provider."""
        done = await asyncio.gather(*(self._provider.complete(call) for call in asked))
        return [each.texts[0] for each in done]

    async def static(self, asked: Sequence[Call]) -> list[str]:
        """As one batch that is known beforehand, through HuggingFacePipeline."""
        return await self._batches(asked, len(asked))

    async def single(self, asked: Sequence[Call]) -> list[str]:
        """One after another, through HuggingFacePipeline."""
        return await self._batches(asked, 1)

    async def _batches(self, asked: Sequence[Call], size: int) -> list[str]:
        self._pipeline.batch_size = size
        prompts = [self._prompt(call) for call in asked]
        options: dict[str, Any] = {**self._options, "batch_size": size}
        result = await self._pipeline.agenerate(prompts, pipeline_kwargs=options)
        return [generations[0].text for generations in result.generations]

    def _prompt(self, call: Call) -> str:
        turns = [{"role": turn.role, "content": turn.content} for turn in call.messages]
        tokenizer = self._pipeline.pipeline.tokenizer
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))


async def measured(folder: str, given: argparse.Namespace) -> Mapping[str, list[float]]:
    """Requests per second of each way, round by round; the first, uncounted one warms up."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    settings = LocalSettings(
        provider="huggingface",
        model=folder,
        device=given.device,
        dtype=given.dtype,
        max_tokens=given.tokens,
        batch_size=given.requests,
    )
    pipeline = HuggingFacePipeline.from_model_id(
        folder, "text-generation", device_map=given.device, model_kwargs={"dtype": given.dtype}
    )
    asked, rates = calls(given.requests), dict[str, list[float]]()
    async with local_models() as models:
        ways = Ways(await models.provider(settings, "target"), pipeline, given.tokens)
        for turn in range(given.rounds + 1):
            texts = {}
            for name in ("provider", "static", "single"):
                some = asked[: given.singles] if name == "single" else asked
                began = time.perf_counter()
                texts[name] = await getattr(ways, name)(some)
                if turn:
                    took = time.perf_counter() - began
                    rates.setdefault(name, []).append(len(some) / took)
            if turn == 0:
                pairs = zip(texts["provider"], texts["static"], strict=True)
                same = sum(one == other for one, other in pairs)
                print(f"{same} of {len(asked)} texts are those of the static batch")
    return rates


def table(rates: Mapping[str, list[float]], tokens: int) -> None:
    """A line a way; ratios are medians of the rounds' own, because machines have moods."""
    print(f"{'':>10} requests/s  fastest  tokens/s at most  provider is x times as fast")
    for name, each in rates.items():
        ratios = [one / other for one, other in zip(rates["provider"], each, strict=True)]
        print(
            f"{name:>10} {statistics.median(each):>10.2f} {max(each):>8.2f}"
            f" {statistics.median(each) * tokens:>17.0f}"
            f"  {statistics.median(ratios):>8.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )


def main() -> None:
    """Makes the model unless one is given, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="folder, or name on the hub")
    parser.add_argument("--shape", choices=("tiny", "small", "8b"), default="small")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--threads", type=int, help="of PyTorch")
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--singles", type=int, default=16, help="requests one after another")
    parser.add_argument("--tokens", type=int, default=64, help="of every answer, at most")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    if given.shape == "8b" and not torch.cuda.is_available():
        parser.error("--shape 8b wants a GPU")
    if given.threads:
        torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as folder:
        if given.model is None:
            made = ["--shape", given.shape, "--device", given.device]
            made += ["--dtype", "bfloat16" if given.shape == "8b" else "float32"]
            subprocess.run([sys.executable, str(MAKER), folder, *made], check=True)
        table(asyncio.run(measured(given.model or folder, given)), given.tokens)


if __name__ == "__main__":
    main()
