"""Likeness of words, by BM25: needs no model, no network and no time.

Words without a meaning of their own do not count, unless a text has no others. Scripts that put no
spaces between words are taken by pairs of characters.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Iterator, Sequence

import bm25s
from bm25s.stopwords import STOPWORDS_EN_PLUS

_UNSPACED = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f"  # Burmese
    "\u1780-\u17ff"  # Khmer
    "\u3040-\u30ff"  # Japanese
    "\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese
)
_PIECES = re.compile(f"([{_UNSPACED}]+)|[^{_UNSPACED}]+")
_EMPTY = frozenset(STOPWORDS_EN_PLUS)

# It sets itself to tell everything.
logging.getLogger("bm25s").setLevel(logging.WARNING)


class LexicalLikeness:
    """Implements `Likeness`."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._count = len(texts)
        self._index = bm25s.BM25()
        tokens = [list(tokens_of(text)) for text in texts]
        self._known = {token for each in tokens for token in each}
        # Without any token there is nothing to build an index of.
        if self._known:
            self._index.index(tokens, show_progress=False)

    async def prepare(self) -> None:
        """Nothing is left to do."""

    async def to(self, text: str) -> Sequence[float]:
        """0 for a text that has no word in common with `text`."""
        asked = [token for token in tokens_of(text) if token in self._known]
        if not asked:
            return [0.0] * self._count
        return [float(score) for score in self._index.get_scores(asked)]


def tokens_of(text: str) -> list[str]:
    """The words that count, in order, in small letters."""
    words = list(_words(unicodedata.normalize("NFKC", text).casefold()))
    return [word for word in words if word not in _EMPTY] or words


def _words(text: str) -> Iterator[str]:
    # Not by `\w`, which knows no combining marks and so breaks the words of Hindi and Thai.
    spaced = "".join(each if unicodedata.category(each)[0] in "LMN" else " " for each in text)
    for word in spaced.split():
        for piece in _PIECES.finditer(word):
            run = piece[0]
            if piece[1] is None or len(run) == 1:
                yield run
            else:
                yield from (run[at : at + 2] for at in range(len(run) - 1))
