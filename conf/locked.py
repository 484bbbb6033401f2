"""Reads `[[...]]` in a root prompt: marks of a sentence that every rewrite has to keep.

The marks are no part of the prompt. Does not know what a rewrite is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_MARK = re.compile(r"(\[\[|\]\])")


def unmarked(text: str) -> tuple[str, list[str]]:
    """The text without its marks, and the sentences between them.

    Raises ValueError for marks that do not pair up, or hold nothing.
    """
    pieces = _MARK.split(text)
    plain = "".join(pieces[::2])
    if pieces[1::2] != ["[[", "]]"] * (len(pieces) // 4) or _MARK.search(plain):
        raise ValueError("every [[ needs one ]] after it, and none inside")
    sentences = [piece.strip() for piece in pieces[2::4]]
    if not all(sentences):
        raise ValueError("there is nothing between [[ and ]]")
    return plain, sentences


def missing(sentences: Iterable[str], prompts: Iterable[str]) -> str | None:
    """The first sentence that is in none of the prompts, whatever the white space."""
    text = _spaced("\n".join(prompts))
    return next((each for each in sentences if _spaced(each) not in text), None)


def with_locked(task: Any, sentences: Sequence[str]) -> Any:
    """Raw settings of the task with more locked sentences, no one twice."""
    if not sentences or not isinstance(task, Mapping):
        return task
    locked = task.get("locked") or ()
    if isinstance(locked, str) or not isinstance(locked, Sequence):
        return task
    return {**task, "locked": list(dict.fromkeys([*locked, *sentences]))}


def _spaced(text: str) -> str:
    return " ".join(text.split())
