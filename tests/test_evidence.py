"""Which low scores are the evidence of a sentence."""

from __future__ import annotations

from drpo.analysis.evidence import Judged, Match, Words, rank

CLARITY = Judged("Clarity", "", "The main point comes late, behind long sentences.", 2)
EMPATHY = Judged("Empathy", "Feels with whoever asks.", "It is cold.", 3)


def matches(sentence: str, before: str | None = None, *rationales: str) -> list[Match]:
    return Words(rationales).matches(sentence, before, [CLARITY, EMPATHY])


def test_the_name_of_an_aspect_matches_whatever_its_ending() -> None:
    """Empathetic speaks of empathy."""
    clarity, empathy = matches("Be empathetic.")
    assert (clarity.matched, empathy.matched, empathy.named) == (False, True, True)
    assert empathy.shared == ("empathetic",)


def test_two_words_of_a_rationale_match_and_one_does_not() -> None:
    """Words like `the` are none."""
    assert [each.matched for each in matches("Put the main point first.")] == [True, False]
    assert [each.matched for each in matches("What is the point?")] == [False, False]


def test_the_definition_counts_like_the_rationale() -> None:
    """One word of each are two."""
    assert [each.matched for each in matches("A cold reply feels bad.")] == [False, True]


def test_of_a_changed_sentence_what_is_new_counts() -> None:
    """Unless nothing of that matches."""
    whole = matches("Clarity first, with empathy.", "Clarity first.")
    assert [each.matched for each in whole] == [False, True]
    only = matches("Clarity comes first.", "Clarity first.")
    assert [each.matched for each in only] == [True, False]


def test_a_word_of_every_rationale_tells_nothing() -> None:
    """Where there are enough of them to say so."""
    every = ("The main point is clear.",) * 20
    assert [each.matched for each in matches("Put the main point first.", None, *every)] == [
        False,
        False,
    ]
    assert matches("Put the main point first.", None, *every[1:])[0].matched


def test_the_best_evidence_is_first() -> None:
    """A named aspect, then more words in common, then the lower score."""
    seen = [
        (Judged("A", "", "", 1), Match(matched=False, shared=())),
        (Judged("B", "", "", 4), Match(matched=True, shared=("x", "y"), weight=2.0)),
        (Judged("C", "", "", 2), Match(matched=True, shared=("x", "y"), weight=2.0)),
        (Judged("D", "", "", 4), Match(matched=True, shared=("d",), weight=1.0, named=True)),
    ]
    seen.sort(key=lambda each: rank(*each))
    assert [judged.aspect for judged, _ in seen] == ["D", "C", "B", "A"]
