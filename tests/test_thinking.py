"""What a model thought aloud is told apart from what it answered."""

from __future__ import annotations

import pytest

from drpo.models.thinking import Aloud, apart


@pytest.mark.parametrize(
    ("text", "thinking", "answer"),
    [
        ("Plain.", "", "Plain."),
        ("", "", ""),
        ("<think>hm</think>Yes.", "hm", "Yes."),
        ("\n <think>\nhm\n</think>\n\nYes.\n", "hm", "Yes.\n"),
        ("<THINKING>hm</THINKING> Yes.", "hm", "Yes."),
        ("<reasoning>hm</reasoning>Yes.", "hm", "Yes."),
        ("<think></think>Yes.", "", "Yes."),
        ("hm, well</think>\nYes.", "hm, well", "Yes."),
        ("</think>Yes.", "", "Yes."),
        ("<think>hm, and no end", "hm, and no end", ""),
        ("<think>hm</think>", "hm", ""),
        ("<think>a</think>b<think>c</think>", "a", "b<think>c</think>"),
        ("Use <think>x</think> tags.", "", "Use <think>x</think> tags."),
        ("Write <think> first.", "", "Write <think> first."),
    ],
)
def test_m11_thinking_is_told_apart(text: str, thinking: str, answer: str) -> None:
    """In tags, after a closing one alone, without an end; what stands within an answer stays."""
    assert apart(text) == (thinking, answer)


@pytest.mark.parametrize(
    ("bits", "answer"),
    [
        (["Yes", ", of", " course."], "Yes, of course."),
        (["<th", "ink>hm", "</thi", "nk>\n", "\nYes", " <b>."], "Yes <b>."),
        ([" ", "\n<THINKING>", "a</think", "ing>Yes."], "Yes."),
        (["<think>never", " closed"], ""),
        (["<th"], "<th"),
        (["<table>", " is HTML"], "<table> is HTML"),
        (["Use <think>", " tags"], "Use <think> tags"),
        ([], ""),
    ],
)
def test_m11_a_stream_has_no_thinking(bits: list[str], answer: str) -> None:
    """Wherever the bits begin and end."""
    aloud = Aloud()
    assert "".join([*map(aloud.answer, bits), aloud.rest()]) == answer
