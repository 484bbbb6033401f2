"""One reading of texts: needs in queries, instructions in prompts, parts in answers."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

import pytest
from paraphrases import ASKED, BLIND, BLIND_NEEDED, FRESH, NEEDED, Table
from sandboxes import KNOWN

from drpo.models.sandbox.language import (
    Asked,
    instructions_of,
    lines_heeded,
    needs_of,
    parts_blamed,
    parts_in,
    parts_praised,
    read_unit,
    unmarked,
)
from drpo.models.sandbox.queries import FEWEST_NEEDS, MOST_NEEDS, queries, split_names, worded
from drpo.models.sandbox.truth import truth

OUT_OF_NOWHERE = "The sky is blue."
TOPICS = [topic for topics in KNOWN.topics.values() for topic in topics]
CONFINED = [name for name, known in KNOWN.instructions.items() if known.when]


def specific(text: str) -> list[str]:
    return [asked.name for asked in read_unit(text) if asked.specific]


def share(table: Table, found: Callable[[str, str], bool]) -> float:
    """How many of a table's texts are understood as their class."""
    hits = [found(name, text) for name, texts in table.items() for text in texts]
    return sum(hits) / len(hits)


def asked_for(name: str, text: str) -> bool:
    return name in specific(text)


def needed(name: str, text: str) -> bool:
    return name in needs_of(text) and needs_of(text) != needs_of(OUT_OF_NOWHERE)


# Needs


@pytest.mark.parametrize("split", split_names())
def test_shipped_queries_need_two_to_five(split: str) -> None:
    """Every shipped query has 2 to 5 of the 17 needs, in equal weights that add up to 1."""
    for query in queries(split):
        weights = needs_of(query).values()
        assert FEWEST_NEEDS <= len(weights) <= MOST_NEEDS
        assert len(set(weights)) == 1
        assert sum(weights) == pytest.approx(1)


def test_there_are_seventeen_needs_three_off_pool() -> None:
    """Fourteen are those of the standard pool."""
    assert len(KNOWN.needs) == 17
    assert sum(not need.pool for need in KNOWN.needs.values()) == 3


def test_paraphrased_queries_need_the_same() -> None:
    """Other phrases in another order about another topic make the same need vector."""
    rng = random.Random(1)
    for _ in range(300):
        names = tuple(rng.sample(list(KNOWN.needs), rng.randint(FEWEST_NEEDS, MOST_NEEDS)))
        assert set(needs_of(worded(rng.choice(TOPICS), names, rng))) == set(names)


@pytest.mark.parametrize("topic", TOPICS)
def test_topics_carry_no_need(topic: str) -> None:
    """What a query is about says nothing of what it needs."""
    assert needs_of(topic) == needs_of(OUT_OF_NOWHERE)


@pytest.mark.parametrize("name", KNOWN.needs)
def test_words_of_a_need_are_its_own(name: str) -> None:
    """Each phrase and each paraphrase nobody wrote for it is read as this need and no other."""
    need = KNOWN.needs[name]
    assert len(need.phrases) >= 5
    for text in (*need.phrases, *NEEDED[name]):
        assert needed(name, text), text
        assert len(needs_of(text)) == 1, text


def test_unseen_wordings_of_needs() -> None:
    """Of wordings that no pattern was fitted to, four of five are understood."""
    assert share(BLIND_NEEDED, needed) >= 0.8


# Instructions


@pytest.mark.parametrize("name", KNOWN.instructions)
def test_own_wordings_of_an_instruction(name: str) -> None:
    """Each class has five or more specific wordings, which mean just it, unconfined."""
    says = KNOWN.instructions[name].says
    assert len(set(says)) >= 5
    for text in says:
        assert read_unit(text) == (Asked(name, specific=True),), text


@pytest.mark.parametrize("name", KNOWN.instructions)
def test_paraphrases_of_an_instruction(name: str) -> None:
    """Wordings of people who never saw the patterns mean it too."""
    assert len(ASKED[name]) >= 3
    for text in ASKED[name]:
        assert asked_for(name, text), text


def test_paraphrases_seldom_mean_a_second_thing() -> None:
    """At most one in ten is also taken for something else."""
    assert share(ASKED, lambda _, text: len(specific(text)) > 1) <= 0.1


@pytest.mark.parametrize("table", [BLIND, FRESH], ids=["blind", "fresh"])
def test_unseen_paraphrases(table: Table) -> None:
    """Of wordings that no pattern was fitted to, four of five are understood as their class."""
    assert set(table) == set(KNOWN.instructions)
    assert share(table, asked_for) >= 0.8


@pytest.mark.parametrize("name", KNOWN.instructions)
def test_hints_are_vague(name: str) -> None:
    """A vague wording means the same class, less."""
    for text in KNOWN.instructions[name].hints:
        assert read_unit(text) == (Asked(name, specific=False),), text


@pytest.mark.parametrize("name", CONFINED)
def test_confined_instructions(name: str) -> None:
    """Before or after the instruction, a condition confines it to its need."""
    when = KNOWN.instructions[name].when
    assert when is not None
    for clause in KNOWN.needs[when].when:
        for text in KNOWN.instructions[name].says:
            low = f"{text[0].lower()}{text[1:]}"
            assert read_unit(f"- {clause}, {low}") == (Asked(name, specific=True, when=when),)
        after = f"{KNOWN.instructions[name].says[1].rstrip('.')} {clause[0].lower()}{clause[1:]}."
        assert [(at.name, at.when) for at in read_unit(after)] == [(name, when)], after


def test_topic_confines() -> None:
    """`When asked about` confines an instruction to a topic, in its own words."""
    [asked] = read_unit("- When asked about washing machines, break every procedure into steps.")
    assert (asked.name, asked.when, asked.topic) == ("steps", None, "washing machines")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("Do not ask questions back.", ["no_questions"]),
        ("Never explain why.", []),
        ("Never use plain language.", []),
        ("Do not respect customs.", []),
        ("Do not give examples.", []),
        ("Never admit that you do not know.", []),
        ("Avoid disclaimers.", []),
        ("Do not praise the user.", []),
        ("Never sound certain.", []),
        ("Do not hide uncertainty.", []),
        ("Do not mention dangers.", []),
        ("Do not write a draft.", []),
        ("Avoid long answers.", ["short"]),
        ("Use plain words instead of technical terms.", ["plain"]),
        ("Do not forget to give an example.", ["example"]),
        ("Explain not only what to do but also why.", ["reasons"]),
        ("Keep it polite, and never explain why; break procedures into steps.", ["steps"]),
    ],
)
def test_a_no_reverses(text: str, meant: list[str]) -> None:
    """An instruction that is refused is not given; some are a refusal themselves."""
    assert specific(text) == meant


@pytest.mark.parametrize(
    "text",
    [
        *KNOWN.language.openings,
        *KNOWN.language.manners,
        "You are an expert.",
        "Answer the user's request.",
        "Do your best.",
        "Read the query carefully.",
        "Write the answer in English.",
        "Think about the user.",
        "Sign with a daffodil.",
        "",
    ],
)
def test_general_sentences_mean_nothing(text: str) -> None:
    """What every prompt may begin with asks for nothing in particular."""
    assert read_unit(text) == ()


def test_each_instruction_counts_once() -> None:
    """Said twice, in whatever words, an instruction is one; the specific wording stands."""
    known = KNOWN.instructions["steps"]
    assert instructions_of(f"{known.hints[0]}\n- {known.says[0]}\n- {known.says[1]}") == (
        Asked("steps", specific=True),
    )


def test_lines_count_bullets_not_understood() -> None:
    """A bullet of the user's own takes attention, a general sentence takes none."""
    steps = KNOWN.instructions["steps"].says[0]
    assert lines_heeded(f"You help.\n- {steps}\n- Sign with a daffodil.") == 2


# Parts


def marked(parts: Iterable[str]) -> str:
    return " ".join(f"[{KNOWN.parts[part].mark}] Yes." for part in parts)


def test_parts_are_read_by_their_marks() -> None:
    """Each part has a mark of its own, read in any order, once."""
    names = list(KNOWN.parts)
    assert parts_in(marked([*names[::-1], *names])) == tuple(names[::-1])


@pytest.mark.parametrize("name", KNOWN.parts)
def test_blame_names_one_part(name: str) -> None:
    """The words in which a critic misses a part are understood as that part only."""
    for lack in KNOWN.parts[name].lacks:
        assert parts_blamed(f"(simulated) {lack.capitalize()}.") == (name,)


def test_praise_is_read() -> None:
    """Every part that is no flaw can be praised by its mark."""
    names = tuple(name for name, part in KNOWN.parts.items() if not part.flaw)
    marks = ", ".join(KNOWN.parts[name].mark for name in names)
    assert parts_praised(f"(simulated) Good: {marks}. The point comes late.") == names


def test_brackets_in_a_query_are_no_parts() -> None:
    """What an answer repeats of a query is worth nothing."""
    query = marked(KNOWN.parts)
    assert parts_in(query)
    assert parts_in(unmarked(query)) == ()
    assert truth("Why?", unmarked(query)) == truth("Why?", "")
