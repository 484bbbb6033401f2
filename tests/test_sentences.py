from __future__ import annotations

import pytest

from drpo.sentences import Pair, likeness, match, pieces, sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Be brief. be kind! Ask?", ["Be brief.", "be kind!", "Ask?"]),
        ("- One. Two?\n\n* Three\n1. Four", ["- One.", "Two?", "* Three", "1. Four"]),
        ("Use e.g. Python, i.e. Code. Done", ["Use e.g. Python, i.e. Code.", "Done"]),
        ("Ask Dr. Smith. Say no. Then go.", ["Ask Dr. Smith.", "Say no.", "Then go."]),
        ("The U.S. Army, No. 5 etc. and so on.", ["The U.S. Army, No. 5 etc. and so on."]),
        ("Wait ... then say \u201cGo.\u201d Now.", ["Wait ... then say \u201cGo.\u201d", "Now."]),
        ("Version 3.5 is out.", ["Version 3.5 is out."]),
        ("---\n***\n# Rules\n  Be   brief", ["# Rules", "Be brief"]),
        (
            "\u8bf7\u7b80\u77ed\u3002\u4e0d\u8981\uff01",
            ["\u8bf7\u7b80\u77ed\u3002", "\u4e0d\u8981\uff01"],
        ),
        ("", []),
    ],
)
def test_a_prompt_is_cut_into_its_sentences(text: str, expected: list[str]) -> None:
    """Bullets and lines end one; abbreviations and figures do not."""
    assert sentences(text) == expected


def test_a_line_that_an_editor_broke_is_one_sentence() -> None:
    """A short line is one of its own, also in small letters."""
    text = "You are an assistant to whom people bring requests\nof any kind. Be kind.\nask\nact"
    whole = "You are an assistant to whom people bring requests of any kind."
    assert sentences(text) == [whole, "Be kind.", "ask", "act"]


def kinds(pairs: list[Pair]) -> list[tuple[str, str | None, str | None]]:
    return [(pair.kind, pair.before, pair.after) for pair in pairs]


def test_each_sentence_finds_what_it_was() -> None:
    """Kept wherever it stands, changed where most words stayed, else brought or removed."""
    before = ["Be kind.", "Explain every step to the user.", "Tell a joke."]
    after = ["Cite sources.", "Explain every single step to the user.", "- Be  kind."]
    assert kinds(match(before, after)) == [
        ("brought", None, "Cite sources."),
        ("changed", "Explain every step to the user.", "Explain every single step to the user."),
        ("removed", "Tell a joke.", None),
        ("kept", "Be kind.", "- Be  kind."),
    ]


def test_places_tell_repeated_sentences_apart() -> None:
    """Every sentence of both is there once."""
    pairs = match(["A b.", "A b.", "C d."], ["C d.", "A b."])
    assert [(pair.at_before, pair.at_after) for pair in pairs] == [(2, 0), (0, 1), (1, None)]


def test_the_most_alike_goes_first() -> None:
    """A worse partner does not take it away, though it comes earlier."""
    before = ["Answer each question with care and at length."]
    after = ["Answer each question in one line.", "Answer each question with care and in detail."]
    assert [pair.kind for pair in match(before, after)] == ["brought", "changed"]


def test_likeness_counts_words_in_order() -> None:
    """Two of three words and two of four: 4 of 7."""
    assert likeness("be very kind", "be kind to users") == pytest.approx(4 / 7)
    assert likeness("!", "?") == 0.0


def test_pieces_give_both_sentences_back() -> None:
    """Kept and removed ones are the old sentence, kept and brought ones the new one."""
    old, new = "- Explain it to the user.", "- Explain it well to users."
    found = pieces(old, new)
    assert "".join(p.text for p in found if p.kind != "brought") == "Explain it to the user."
    assert "".join(p.text for p in found if p.kind != "removed") == "Explain it well to users."
    assert [p.text for p in found if p.kind == "kept"] == ["Explain it ", "to ", "."]


def test_a_long_prompt_without_an_end_takes_no_long_time() -> None:
    """Ten thousand words in one line are one sentence."""
    assert len(sentences("word " * 10_000)) == 1
    assert len(sentences("." * 20_000 + " a. " * 5_000)) > 1
