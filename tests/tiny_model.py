"""A chat model of random weights with a tokenizer of its own, made on the spot in a second.

`python tests/tiny_model.py FOLDER --shape small` makes one by itself.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
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
SHAPES: Mapping[str, Mapping[str, float]] = {
    "tiny": {
        "vocab_size": 384,
        "hidden_size": 32,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "initializer_range": 0.4,
    },
    "small": {
        "vocab_size": 384,
        "hidden_size": 256,
        "intermediate_size": 768,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "initializer_range": 0.1,
    },
    "8b": {
        "vocab_size": 128_256,
        "hidden_size": 4096,
        "intermediate_size": 14_336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
    },
}
"""`8b` is Llama 3's."""


def tiny_model(
    folder: Path,
    *,
    template: Template = "full",
    shape: str = "tiny",
    context: int = 2048,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> Path:
    """`folder`, with the model in it."""
    logging.disable_progress_bar()
    tokenizer = _tokenizer()
    if template != "none":
        tokenizer.chat_template = _template(template)
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        max_position_embeddings=context,
        bos_token_id=SPECIAL.index("<|begin|>"),
        eos_token_id=SPECIAL.index("<|end|>"),
        pad_token_id=SPECIAL.index("<|pad|>"),
        dtype=dtype,
        **SHAPES[shape],
    )
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(0)
        LlamaForCausalLM._from_config(config).save_pretrained(folder)
    return folder


def tiny_sentence_model(folder: Path) -> Path:
    """`folder`, with a sentence-transformers model in it, the mean over such a model's tokens."""
    # It takes seconds to import, and the tests of chat models do without it.
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    with tempfile.TemporaryDirectory() as words_folder:
        words = Transformer(str(tiny_model(Path(words_folder))))
    made = SentenceTransformer(modules=[words, Pooling(words.get_embedding_dimension())])
    made.save(str(folder), create_model_card=False)
    return folder


def _template(kind: Template) -> str:
    return (
        "{{ bos_token }}{% for turn in messages %}{% if turn.role == 'system' %}"
        + SYSTEM[kind]
        + "{% else %}"
        + TURNS
        + "{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )


def _tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level, as Llama 3's: every text has tokens, and a sentence begins with `<|begin|>`."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=384,
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


def main() -> None:
    """One model in one folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    dtype = getattr(torch, given.dtype)
    tiny_model(given.folder, shape=given.shape, dtype=dtype, device=given.device)


if __name__ == "__main__":
    main()
