"""Prompts as sentences, in any script, and what each was in an older prompt."""

from __future__ import annotations

import random
from collections.abc import Sequence
from difflib import SequenceMatcher

import pytest

from drpo.analysis.sentences import (
    ALIKE,
    CONTAINED,
    FEWEST_WORDS,
    NEW,
    SHORTEST_RUN,
    Link,
    equal,
    links,
    match,
    pieces,
    sentences,
    words_of,
)


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


def of_all_pairs(new: Sequence[str], old: Sequence[str]) -> list[Link]:
    """The definition, in full: every sentence held against every other."""
    kept = equal(new, old)
    found = {at: Link(was, same=True) for at, was in kept.items()}
    pairs = [
        (-matched(text, before).ratio(), at, was)
        for at, text in enumerate(new)
        for was, before in enumerate(old)
    ]
    for alike, at, was in sorted(pairs):
        if -alike >= ALIKE and at not in found and was not in {link.old for link in found.values()}:
            found[at] = Link(was)
    for at in set(range(len(new))) - found.keys():
        shares = [(contained(new[at], before), -was) for was, before in enumerate(old)]
        best, was = max(shares, default=(0.0, 0))
        found[at] = Link(-was) if best >= CONTAINED else NEW
    return [found[at] for at in range(len(new))]


def matched(one: str, other: str) -> SequenceMatcher[str]:
    return SequenceMatcher(None, words_of(one), words_of(other), autojunk=False)


def contained(one: str, other: str) -> float:
    shorter = min(len(words_of(one)), len(words_of(other)))
    sizes = [block.size for block in matched(one, other).get_matching_blocks()]
    whole = sum(size for size in sizes if size >= SHORTEST_RUN)
    return whole / shorter if shorter >= FEWEST_WORDS else 0.0


@pytest.mark.parametrize("words", [2, 4, 8, 30])
@pytest.mark.parametrize("longest", [4, 9, 25])
def test_what_is_found_is_what_all_pairs_give(words: int, longest: int) -> None:
    """Though few are compared; of sentences drawn, reworded, cut in two and put together."""
    rng = random.Random(f"{words}:{longest}")

    def drawn() -> list[str]:
        return rng.choices([f"w{each}" for each in range(words)], k=rng.randint(1, longest))

    def reworded(text: list[str], other: list[str]) -> list[str]:
        text = [*text[: rng.randint(1, len(text))], *rng.choice([[], other, drawn()])]
        text[rng.randrange(len(text))] = drawn()[0]
        return text

    for _ in range(100):
        old = [drawn() for _ in range(rng.randint(1, 9))]
        new = [reworded(rng.choice(old), old[0]) for _ in range(6)] + [drawn(), drawn(), old[0]]
        rng.shuffle(new)
        texts = [[" ".join(each) for each in every] for every in (new, old)]
        assert links(*texts) == of_all_pairs(*texts)


def test_a_diff_has_every_sentence() -> None:
    """Kept wherever it stands, changed, added; a removed one follows its predecessor."""
    before = ["Be kind.", "Explain every step to the user.", "Tell a joke."]
    after = ["Cite sources.", "Explain every single step to the user.", "Be kind."]
    assert [(pair.kind, pair.before, pair.after) for pair in match(before, after)] == [
        ("added", None, "Cite sources."),
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
    """Kept and removed ones are the old sentence, kept and added ones the new one."""
    old, new = "Explain it to the user.", "Explain it well to users."
    found = pieces(old, new)
    assert "".join(piece.text for piece in found if piece.kind != "added") == old
    assert "".join(piece.text for piece in found if piece.kind != "removed") == new
