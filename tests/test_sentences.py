"""Prompts as sentences, in any script, and what each was in an older prompt."""

from __future__ import annotations

import pytest

from drpo.sentences import NEW, Link, links, match, pieces, sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Be kind. Be brief!", ["Be kind.", "Be brief!"]),
        ("Be kind\nBe brief", ["Be kind", "Be brief"]),
        ("Use e.g. tables. Ask Dr. Low or J. Doe.", ["Use e.g. tables.", "Ask Dr. Low or J. Doe."]),
        ("Version 4.5 is out. See it.", ["Version 4.5 is out.", "See it."]),
        ('Say "no." Then stop. "Why?" is fine.', ['Say "no."', "Then stop.", '"Why?" is fine.']),
        (
            "- one\n* two\n1. three\n2) four\n(a) five\n# Six",
            ["one", "two", "three", "four", "five", "Six"],
        ),
        ("This goes on\nin the next line. End.", ["This goes on in the next line.", "End."]),
        ("- This goes on\n  in the next line.\n- End.", ["This goes on in the next line.", "End."]),
        ("# heading\nbody", ["heading", "body"]),
        ("First\n\nsecond", ["First", "second"]),
        ("これはペンです。はい\uff01そうです", ["これはペンです。", "はい\uff01", "そうです"]),
        ("نعم\u061f لا.", ["نعم\u061f", "لا."]),
        ("यह है\u0964 वह है\u0964", ["यह है\u0964", "वह है\u0964"]),
        ("Wait... what? Yes.", ["Wait... what?", "Yes."]),
        (" \n\t\n", []),
        ("-\n- \n---\n", []),
    ],
)
def test_a_prompt_is_split(text: str, expected: list[str]) -> None:
    """By full stops and lines; items lose their markers, and wrapped lines are joined."""
    assert sentences(text) == expected


OLD = [
    "Be kind to everybody who asks.",
    "Put the point first in short sentences.",
    "Never guess: say what you do not know, and where one could look it up instead.",
]


def test_a_moved_sentence_is_the_same() -> None:
    """Wherever it stands now."""
    assert links([OLD[2], OLD[0]], OLD) == [Link(2, same=True), Link(0, same=True)]


def test_a_reworded_sentence_is_changed_and_another_one_is_new() -> None:
    """Most of the words are the same, in the same order."""
    new = ["Put the point first, in short and plain sentences.", "Name two causes of it."]
    assert links(new, OLD) == [Link(1), NEW]


def test_the_most_alike_is_the_one_that_was_reworded() -> None:
    """Each was one sentence at most."""
    new = ["Be kind and fair to everybody who needs you.", "Be kind to everybody who asks you."]
    assert links(new, OLD) == [NEW, Link(0)]


def test_a_sentence_that_was_split_was_changed_twice() -> None:
    """Both parts were in it."""
    new = ["Never guess: say what you do not know.", "Tell where one could look it up instead."]
    assert links(new, OLD) == [Link(2), Link(2)]


def test_equal_sentences_are_paired_in_order() -> None:
    """One more of them is new."""
    assert links(["So.", "So."], ["So.", "Then."]) == [Link(0, same=True), NEW]


def test_sentences_without_spaces_are_held_against_one_another() -> None:
    """By characters."""
    assert links(["質問には必ず簡潔に答えてください。"], ["質問には簡潔に答えてください。"]) == [
        Link(0)
    ]


def test_a_diff_has_every_sentence() -> None:
    """Kept wherever it stands, changed, brought; a removed one follows its predecessor."""
    before = ["Be kind.", "Explain every step to the user.", "Tell a joke."]
    after = ["Cite sources.", "Explain every single step to the user.", "Be kind."]
    assert [(pair.kind, pair.before, pair.after) for pair in match(before, after)] == [
        ("brought", None, "Cite sources."),
        ("changed", "Explain every step to the user.", "Explain every single step to the user."),
        ("removed", "Tell a joke.", None),
        ("kept", "Be kind.", "Be kind."),
    ]


def test_what_was_split_is_in_a_diff_with_both_parts() -> None:
    """And what stood behind it once."""
    after = ["Never guess: say what you do not know.", "Tell where one could look it up instead."]
    pairs = match([*OLD, "Bye."], after)
    assert [pair.kind for pair in pairs] == ["removed", "removed", "changed", "removed", "changed"]


def test_pieces_give_both_sentences_back() -> None:
    """Kept and removed ones are the old sentence, kept and brought ones the new one."""
    old, new = "Explain it to the user.", "Explain it well to users."
    found = pieces(old, new)
    assert "".join(piece.text for piece in found if piece.kind != "brought") == old
    assert "".join(piece.text for piece in found if piece.kind != "removed") == new
