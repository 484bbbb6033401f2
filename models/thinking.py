"""What a model thought aloud before its answer, told apart from the answer (FAULTS M11)."""

from __future__ import annotations

import re

_OPENING = re.compile(r"\s*<(think|thinking|reasoning)>", re.IGNORECASE)
_CLOSING = re.compile(r"</(?:think|thinking|reasoning)>", re.IGNORECASE)


def apart(text: str) -> tuple[str, str]:
    """Thinking and answer.

    Some chat templates open the thinking in the prompt, so that the text only closes it. One that
    is never closed is all thinking. A tag within an answer is part of it.
    """
    opened = _OPENING.match(text)
    closed = _CLOSING.search(text)
    if opened is None and (closed is None or _opens(text[: closed.start()])):
        return "", text
    begin = opened.end() if opened else 0
    if closed is None:
        return text[begin:].strip(), ""
    return text[begin : closed.start()].strip(), text[closed.end() :].lstrip()


def _opens(before: str) -> bool:
    return re.search(r"<(?:think|thinking|reasoning)>", before, re.IGNORECASE) is not None
