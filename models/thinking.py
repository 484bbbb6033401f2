"""What a model thought aloud before its answer, told apart from the answer (FAULTS M11)."""

from __future__ import annotations

import re
from typing import Literal

_OPENING = re.compile(r"\s*<(think|thinking|reasoning)>", re.IGNORECASE)
_TAGS = ("<think>", "<thinking>", "<reasoning>")
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


class Aloud:
    """Bits of a text as they come, less what is thought before the answer.

    Knows only thinking that the text opens itself: what a chat template opened is told apart when
    it is closed, and then it is out.
    """

    def __init__(self) -> None:
        self._held = ""
        self._state: Literal["beginning", "thinking", "thought", "answering"] = "beginning"

    def answer(self, bit: str) -> str:
        """What of the text so far is answer and was not given before."""
        if self._state == "answering":
            return bit
        self._held += bit
        if self._state == "beginning":
            self._begin()
        if self._state == "thinking":
            closed = _CLOSING.search(self._held)
            if closed is None:
                return ""
            self._held, self._state = self._held[closed.end() :], "thought"
        if self._state == "thought":
            self._held = self._held.lstrip()
            self._state = "answering" if self._held else "thought"
        return self._given() if self._state == "answering" else ""

    def rest(self) -> str:
        """What was held back at the end because it might have been the beginning of thinking."""
        return self._given() if self._state == "beginning" else ""

    def _begin(self) -> None:
        if _OPENING.match(self._held):
            self._state = "thinking"
            return
        said = self._held.lstrip().lower()
        if not any(tag.startswith(said) for tag in _TAGS):
            self._state = "answering"

    def _given(self) -> str:
        given, self._held = self._held, ""
        return given
