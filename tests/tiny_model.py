"""A chat model of random weights with a tokenizer of its own, made on the spot in a second."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

Template = Literal["full", "refuses_system", "drops_system", "none"]
TURNS = "{{ '<|' + turn.role + '|>' + turn.content + '<|end|>' }}"
SYSTEM: dict[Template, str] = {
    "full": TURNS,
    "refuses_system": "{{ raise_exception('System role not supported') }}",
    "drops_system": "",
}
SPECIAL = ("<|pad|>", "<|begin|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
CORPUS = (
    "You are a helpful assistant. Answer with care, and in plain words.",
    "# Query\nHow do I cook rice?\n\n# Answer\nRinse it, add water, and wait.",
    "The quick brown fox jumps over the lazy dog, 0123456789 times!",
)


def tiny_model(
    folder: Path,
    *,
    template: Template = "full",
    vocabulary: int = 384,
    width: int = 32,
    layers: int = 2,
    context: int = 2048,
    seed: int = 0,
) -> Path:
    """`folder`, with the model in it."""
    logging.disable_progress_bar()
    tokenizer = _tokenizer(vocabulary)
    if template != "none":
        tokenizer.chat_template = _template(template)
    tokenizer.save_pretrained(folder)
    shape = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=width * 3,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        bos_token_id=SPECIAL.index("<|begin|>"),
        eos_token_id=SPECIAL.index("<|end|>"),
        pad_token_id=SPECIAL.index("<|pad|>"),
        initializer_range=0.4,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        LlamaForCausalLM(shape).save_pretrained(folder)
    return folder


def _template(kind: Template) -> str:
    return (
        "{{ bos_token }}{% for turn in messages %}{% if turn.role == 'system' %}"
        + SYSTEM[kind]
        + "{% else %}"
        + TURNS
        + "{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )


def _tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """Byte-level, as Llama 3's: every text has tokens, and a sentence begins with `<|begin|>`."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(CORPUS, trainer)
    raw.post_processor = processors.TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", SPECIAL.index("<|begin|>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<|begin|>", eos_token="<|end|>", pad_token="<|pad|>"
    )
