"""A transformers model in this process: read through langchain-huggingface, asked batch by batch.

Every row is independent of its neighbours: masked padding, a random generator of its own, its own
end. Needs the extra `local`; knows nothing of asyncio, and runs in whatever thread calls it.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from logging import ERROR, getLogger
from pathlib import Path
from typing import Any, Literal

import torch
from jinja2 import TemplateError
from langchain_huggingface import HuggingFacePipeline
from safetensors import SafetensorError
from transformers import (
    BitsAndBytesConfig,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    StoppingCriteria,
    StoppingCriteriaList,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)
from transformers.utils import logging

from drpo.conf.schema import LocalSettings
from drpo.graph.values import Message
from drpo.models.batching import Drawing, OutOfMemory, Row, Wanted, Written
from drpo.models.provider import TransportError
from drpo.models.turns import one_text

PROBE = "Probe of the system role"
FULL = ("out of memory", "not enough memory", "can't allocate memory")
"""How PyTorch's allocators say so; only CUDA's has a class of its own."""


class Unloadable(Exception):
    """No model can be had from there; the text is one line."""


class LocalModel:
    """Weights and tokenizer, on their device."""

    def __init__(self, settings: LocalSettings) -> None:
        """Raises Unloadable."""
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        # It tells each of its tries to reach the hub; what came of them is in `Unloadable`.
        getLogger("huggingface_hub").setLevel(ERROR)
        self.name = settings.model
        # Only the loader is langchain's: its `generate` gives texts alone, without token counts,
        # finish reasons, stop sequences or a seed for each row (langchain-huggingface 1.2.3).
        pipeline = _pipeline(settings).pipeline
        self._model: Any = pipeline.model
        self._tokenizer: Any = pipeline.tokenizer
        self._own: GenerationConfig = self._model.generation_config
        # Its penalties would count the padding of a row, which depends on its neighbours.
        self._model.generation_config = GenerationConfig(pad_token_id=0)
        self._ends = _end_tokens(self._own.eos_token_id, self._tokenizer.eos_token_id)
        self._context = _context(self._model.config, self._tokenizer)
        self.has_template = bool(self._tokenizer.chat_template)
        """Whether it can chat at all."""
        self.takes_system = self.has_template and self._shows_system()
        """Whether its chat template has a place for a system turn."""

    def close(self) -> None:
        """Gives its memory back; it cannot answer any more."""
        del self._model, self._tokenizer
        _free_memory()

    def answer(self, rows: Sequence[Row], wanted: Wanted) -> Sequence[Written | TransportError]:
        """One batch, whose rows have their drawing in common. Raises OutOfMemory."""
        prompts = [self._prompt(row) for row in rows]
        asked = [at for at, prompt in enumerate(prompts) if not isinstance(prompt, TransportError)]
        answers: list[Any] = list(prompts)
        if asked:
            tokens = [answers[at] for at in asked]
            written = self._written([rows[at] for at in asked], tokens, wanted)
            for at, answer in zip(asked, written, strict=True):
                answers[at] = answer
        return answers

    def _prompt(self, row: Row) -> list[int] | TransportError:
        try:
            tokens = self._tokens(row)
        except (TemplateError, ValueError, TypeError) as error:
            return TransportError(
                f"the chat template refuses the turns: {_line(error)}", retry=False
            )
        if len(tokens) >= self._context:
            return TransportError(
                f"context length exceeded: the prompt has {len(tokens)} tokens, model "
                f"{self.name!r} takes fewer than {self._context}",
                retry=False,
                ended="context_overflow",
            )
        return tokens

    def _tokens(self, row: Row) -> list[int]:
        if row.drawing.format == "text":
            text = one_text(row.messages)
        else:
            text = self._templated(row.messages)
        # A chat template writes the token of the beginning itself.
        special = row.drawing.format == "text"
        return list(self._tokenizer(text, add_special_tokens=special)["input_ids"])

    def _templated(self, messages: Sequence[Message]) -> str:
        turns = [{"role": turn.role, "content": turn.content} for turn in messages]
        return str(
            self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        )

    def _shows_system(self) -> bool:
        """Some templates refuse a system turn, others drop it without a word (FAULTS M12)."""
        try:
            return PROBE in self._templated((Message("system", PROBE), Message("user", "Hello.")))
        except TemplateError:
            return False

    def _written(
        self, rows: Sequence[Row], prompts: Sequence[list[int]], wanted: Wanted
    ) -> Sequence[Written | TransportError]:
        try:
            return self._generated(rows, prompts, wanted)
        except (RuntimeError, MemoryError) as error:
            full = isinstance(error, MemoryError) or any(said in str(error) for said in FULL)
            reason = _line(error)
        except (ValueError, IndexError, TypeError) as error:
            full, reason = False, _line(error)
        # Only here, where the error no longer holds the tensors of the batch.
        _free_memory()
        if full:
            raise OutOfMemory(reason)
        problem = f"model {self.name!r} cannot answer: {reason}"
        return [TransportError(problem, retry=False) for _ in rows]

    def _generated(
        self, rows: Sequence[Row], prompts: Sequence[list[int]], wanted: Wanted
    ) -> Sequence[Written]:
        drawing, width = rows[0].drawing, max(len(prompt) for prompt in prompts)
        tokens = torch.zeros((len(rows), width), dtype=torch.long)
        mask = torch.zeros_like(tokens)
        for at, prompt in enumerate(prompts):
            tokens[at, width - len(prompt) :] = torch.tensor(prompt)
            mask[at, width - len(prompt) :] = 1
        room = [min(drawing.max_tokens, self._context - len(prompt)) for prompt in prompts]
        ends = _Ends(
            self._tokenizer,
            width=width,
            room=room,
            tokens=self._ends,
            stop=drawing.stop,
            wanted=wanted,
        )
        out = self._model.generate(
            input_ids=tokens.to(self._model.device),
            attention_mask=mask.to(self._model.device),
            max_new_tokens=max(room),
            do_sample=False,
            logits_processor=self._processors(drawing, [row.seed for row in rows]),
            stopping_criteria=StoppingCriteriaList([ends]),
        )
        said = out[:, width:].tolist()
        return [
            ends.written(at, len(prompt), said[at][: ends.lengths[at]])
            for at, prompt in enumerate(prompts)
        ]

    def _processors(self, drawing: Drawing, seeds: Sequence[int]) -> LogitsProcessorList:
        """Nothing at temperature 0, where `generate` takes the likeliest token."""
        temperature, top_p = drawing.temperature, drawing.top_p
        if temperature is None:
            own = self._own.temperature
            temperature = (1.0 if own is None else own) if self._own.do_sample else 0.0
        if top_p is None and self._own.do_sample:
            top_p = self._own.top_p
        processors = LogitsProcessorList()
        if temperature > 0:
            processors.append(TemperatureLogitsWarper(float(temperature)))
            if top_p is not None and top_p < 1:
                processors.append(TopPLogitsWarper(float(top_p)))
            processors.append(_Draws(seeds, self._model.device))
        return processors


class _Draws(LogitsProcessor):  # type: ignore[misc]  # mypy skips transformers
    """Noise under which the likeliest token is a draw from the distribution (Gumbel's trick).

    `generate` draws with one random generator for the whole batch, so that an answer would depend
    on its neighbours; here each row has its own, seeded. Of all ways to draw from a seed this one
    minds least the last bits of a score, which do depend on the shape of a batch.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        self._random = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def __call__(
        self,
        input_ids: torch.Tensor,  # noqa: ARG002 - transformers gives it
        scores: torch.Tensor,
    ) -> torch.Tensor:
        """The scores, with Gumbel noise: minus the logarithm of an exponential draw."""
        noise = torch.empty_like(scores)
        for row, random in zip(noise, self._random, strict=True):
            row.exponential_(generator=random)
        # A draw of 0 would make an excluded token, whose score is -inf, not a number.
        return scores - noise.clamp_(min=torch.finfo(noise.dtype).tiny).log_()


class _Ends(StoppingCriteria):  # type: ignore[misc]  # mypy skips transformers
    """Ends each row by itself: at an end token, a stop sequence, or where its room is used up."""

    def __init__(
        self,
        tokenizer: Any,
        *,
        width: int,
        room: Sequence[int],
        tokens: frozenset[int],
        stop: Sequence[str],
        wanted: Wanted,
    ) -> None:
        self.lengths = list(room)
        """Tokens of each row."""
        self._open = set(range(len(room)))
        self._stopped: set[int] = set()
        self._tokenizer = tokenizer
        self._width = width
        self._tokens = tokens
        self._stop = stop
        self._wanted = wanted
        # A token has at least one byte, but for those that say nothing; some of them fit, too.
        self._tail = max((len(text.encode()) for text in stop), default=0) + 8
        self._completing: dict[int, bool] = {}

    def __call__(
        self,
        input_ids: torch.Tensor,
        scores: Any,  # noqa: ARG002 - transformers gives it
        **kwargs: Any,  # noqa: ARG002 - likewise
    ) -> Any:
        """Which rows have ended; all of them where nobody wants them any more."""
        said = input_ids.shape[1] - self._width
        last = input_ids[:, -1].tolist()
        over = {row for row in self._open if last[row] in self._tokens}
        if self._stop:
            completing = [row for row in self._open - over if self._may_complete(last[row])]
            over |= self._at_stop(input_ids, completing, said)
        self._stopped |= over
        over |= {row for row in self._open if said >= self.lengths[row]}
        for row in over:
            self.lengths[row] = said
        self._open -= over
        wanted = self._wanted()
        ended = [row not in self._open or not wanted for row in range(len(last))]
        return torch.tensor(ended, device=input_ids.device)

    def _may_complete(self, token: int) -> bool:
        """Whether a stop sequence may be complete with this token.

        Reading the last tokens of every row at every step took a third of the time of a batch.
        """
        if token not in self._completing:
            text = _decoded(self._tokenizer, [token])
            # A part of a character reads as U+FFFD, and some tokenizers drop a leading space.
            self._completing[token] = "\ufffd" in text or any(
                stop[-1] in text or stop[-1].isspace() for stop in self._stop
            )
        return self._completing[token]

    def _at_stop(self, input_ids: torch.Tensor, rows: list[int], said: int) -> set[int]:
        tails = input_ids[rows, -min(said, self._tail) :].tolist() if rows else []
        texts = [_decoded(self._tokenizer, tail) for tail in tails]
        return {
            row
            for row, text in zip(rows, texts, strict=True)
            if any(stop in text for stop in self._stop)
        }

    def written(self, row: int, prompt_tokens: int, tokens: list[int]) -> Written:
        """The answer of one row, without what ended it."""
        spoken = tokens[:-1] if tokens and tokens[-1] in self._tokens else tokens
        text = _decoded(self._tokenizer, spoken)
        for stop in self._stop:
            text = text.split(stop, 1)[0]
        reason: Literal["stop", "length"] = "stop" if row in self._stopped else "length"
        return Written(
            text=text,
            finish_reason=reason,
            prompt_tokens=prompt_tokens,
            completion_tokens=len(tokens),
        )


def _free_memory() -> None:
    """What is no longer used, the device's cache included."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _pipeline(settings: LocalSettings) -> HuggingFacePipeline:
    folder = Path(settings.model).expanduser()
    options: dict[str, Any] = {
        "dtype": settings.dtype,
        "use_safetensors": True,
        "trust_remote_code": settings.trust_remote_code,
        "local_files_only": folder.is_dir(),
    }
    if settings.revision is not None:
        options["revision"] = settings.revision
    if settings.quantization is not None:
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_8bit=settings.quantization == "8bit",
            load_in_4bit=settings.quantization == "4bit",
        )
    try:
        return HuggingFacePipeline.from_model_id(
            str(folder) if folder.is_dir() else settings.model,
            task="text-generation",
            device_map=settings.device or ("cuda" if torch.cuda.is_available() else "cpu"),
            model_kwargs=options,
        )
    except (
        OSError,
        ValueError,
        KeyError,
        RuntimeError,
        ImportError,
        AttributeError,
        SafetensorError,
    ) as error:
        if "trust_remote_code" in str(error):
            reason = "it comes with Python code, which is run only where trust_remote_code is true"
        else:
            reason = _line(error)
        raise Unloadable(f"model {settings.model!r} cannot be read: {reason}") from None


def _end_tokens(*known: Any) -> frozenset[int]:
    lists = (each if isinstance(each, list) else [each] for each in known)
    return frozenset(int(token) for some in lists for token in some if token is not None)


def _context(config: Any, tokenizer: Any) -> int:
    """Tokens of prompt and answer together; tokenizers without a limit have 10^30."""
    position = getattr(config.get_text_config(), "max_position_embeddings", None)
    return min(int(tokenizer.model_max_length), position or int(tokenizer.model_max_length))


def _decoded(tokenizer: Any, tokens: Sequence[int]) -> str:
    return str(
        tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    )


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
