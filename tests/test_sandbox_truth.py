"""What answers are worth, and what prompts and examples do to their expected worth."""

from __future__ import annotations

import ast
import itertools
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from sandboxes import KNOWN, PROFILES, ROOT, answer_of, asking_for, bullets, chat

import drpo.models.sandbox.truth as truth_module
from drpo.models.sandbox.expected import drawn_truth, expected_truth
from drpo.models.sandbox.language import needs_of, parts_in
from drpo.models.sandbox.queries import queries
from drpo.models.sandbox.target import Examples, Target, alike
from drpo.models.sandbox.truth import expected_quality, quality, truth
from drpo.models.sandbox.world import dials

TRAIN = queries("train")
CONFINED = [(name, known.when) for name, known in KNOWN.instructions.items() if known.when]
OWN = [
    name for name in KNOWN.instructions if name in KNOWN.parts and KNOWN.instructions[name].hints
]
"""Instructions with a part of the same name, and a vague wording."""


def query_needing(*names: str) -> str:
    """One whose words need just this."""
    text = " ".join(["My bicycle squeaks.", *(KNOWN.needs[name].phrases[0] for name in names)])
    assert set(needs_of(text)) == set(names)
    return text


def gain(profile: str, prompt: str) -> float:
    """Over the root prompt, in expected truth on the training queries."""
    target = Target(profile)
    return expected_truth(target, prompt, TRAIN) - expected_truth(target, ROOT, TRAIN)


# Truth


def test_truth_is_need_times_quality() -> None:
    """On 1-5: 1 plus 4 times the sum of need times quality, here worked out by hand."""
    parts = ("gist", "steps", "plain", "padding")
    worth = 0.0
    for aspect in ("Helpfulness", "Clarity"):
        missing, kept = 1 - KNOWN.quality.floor, 1.0
        for part in parts:
            missing *= 1 - KNOWN.quality.lift[aspect].get(part, 0)
            kept *= 1 - KNOWN.quality.harm[aspect].get(part, 0)
        worth += 0.5 * (1 - missing) * kept
    query = query_needing("Helpfulness", "Clarity")
    assert truth(query, answer_of(*parts)) == pytest.approx(1 + 4 * worth)


def test_truth_stays_on_its_scale() -> None:
    """Whatever an answer is made of, 1 to 5."""
    rng = random.Random(0)
    for query in TRAIN:
        parts = [part for part in KNOWN.parts if rng.random() < 0.5]
        assert 1 <= truth(query, answer_of(*parts)) <= 5


def test_off_pool_needs_carry_truth() -> None:
    """What no pool has an aspect for is worth as much as the rest."""
    query = query_needing("Practicality")
    assert truth(query, answer_of("today")) > truth(query, "") + 1


def test_truth_knows_no_pool_rewarder_or_judge() -> None:
    """It reads the section of quality only, and imports no role."""
    tree = ast.parse(Path(truth_module.__file__).read_text("utf-8"))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name for name in imported if name and name.startswith("drpo.models")} == {
        "drpo.models.sandbox.language",
        "drpo.models.sandbox.world",
    }
    read = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Call)
    }
    assert read & set(type(KNOWN).model_fields) == {"quality"}


@pytest.mark.parametrize("aspect", KNOWN.needs)
def test_returns_diminish(aspect: str) -> None:
    """A part adds less where another already serves the aspect."""
    lifts = KNOWN.quality.lift[aspect]
    assert len(lifts) >= 2
    for one, other in itertools.permutations(lifts, 2):
        alone = quality(aspect, [one]) - quality(aspect, [])
        beside = quality(aspect, [one, other]) - quality(aspect, [other])
        assert 0 < beside < alone


@pytest.mark.parametrize("aspect", KNOWN.needs)
def test_expected_quality_is_exact(aspect: str) -> None:
    """The mean over every set of parts, each with its probability."""
    rng = random.Random(aspect)
    some = [*KNOWN.quality.lift[aspect], *KNOWN.quality.harm.get(aspect, {})][:9]
    chances = {part: rng.random() for part in some}
    mean = 0.0
    for present in itertools.product((False, True), repeat=len(some)):
        parts = [part for part, there in zip(some, present, strict=True) if there]
        probability = math.prod(chances[at] if at in parts else 1 - chances[at] for at in some)
        mean += probability * quality(aspect, parts)
    assert expected_quality(aspect, chances) == pytest.approx(mean)


class Few(Target):
    """Answers have only these parts, with these chances."""

    few: Mapping[str, float] = {
        "gist": 0.7,
        "steps": 0.2,
        "today": 0.5,
        "padding": 0.6,
        "idea": 0.3,
    }

    def chances(self, prompt: str, query: str, examples: Examples = ()) -> dict[str, float]:
        """Whatever is asked."""
        return dict(self.few)


def test_expected_truth_is_exact() -> None:
    """It is the truth of every possible answer's text, weighted with its probability."""
    some = TRAIN[:5]
    mean = 0.0
    for present in itertools.product((False, True), repeat=len(Few.few)):
        parts = [part for part, there in zip(Few.few, present, strict=True) if there]
        chance = math.prod(p if part in parts else 1 - p for part, p in Few.few.items())
        mean += chance * sum(truth(query, answer_of(*parts)) for query in some) / len(some)
    assert expected_truth(Few("terse"), ROOT, some) == pytest.approx(mean)


@pytest.mark.parametrize("profile", PROFILES)
def test_draws_agree_with_expected_truth(profile: str) -> None:
    """The mean of 20 000 drawn answers lies within 4 standard errors."""
    target = Target(profile)
    prompt = asking_for("gist", "limits", "reasons", "draft", "revise", "elaborate")
    mean, error = drawn_truth(target, prompt, TRAIN, draws=20_000, seed=3)
    assert 0 < error < 0.02
    assert abs(mean - expected_truth(target, prompt, TRAIN)) < 4 * error


# The target


@pytest.mark.parametrize("profile", PROFILES)
def test_answers_are_readable_and_marked(profile: str) -> None:
    """The first line speaks of the query, every other one is a marked part in words of its own."""
    for number, query in enumerate(TRAIN[:40]):
        answer = Target(profile).answer(chat(asking_for("steps"), query), random.Random(number))
        opening, *lines = answer.split("\n")
        assert query[:30] in opening
        assert len(lines) == len(parts_in(answer))
        for part, line in zip(parts_in(answer), lines, strict=True):
            assert line in {f"[{KNOWN.parts[part].mark}] {said}" for said in KNOWN.parts[part].says}


@pytest.mark.parametrize("profile", PROFILES)
def test_skills_and_flaws_shape_answers(profile: str) -> None:
    """Under a prompt that asks for nothing, parts come as often as the profile has it."""
    known = KNOWN.target.profiles[profile]
    rng = random.Random(1)
    answers = [Target(profile).answer(chat(ROOT, TRAIN[0]), rng) for _ in range(500)]
    for part, chance in {**known.skill, **known.flaws}.items():
        share = sum(part in parts_in(answer) for answer in answers) / len(answers)
        assert share == pytest.approx(chance, abs=0.09)


def test_profiles_differ() -> None:
    """No two have the same chances under the root prompt."""
    chances = [Target(profile).chances(ROOT, TRAIN[0]) for profile in PROFILES]
    assert all(one != other for one, other in itertools.combinations(chances, 2))


@pytest.mark.parametrize("name", OWN)
def test_specific_beats_vague(name: str) -> None:
    """A specific wording raises the chance of its part, a vague one raises it less."""
    target, known = Target("terse"), KNOWN.instructions[name]
    none, vague, specific = (
        target.chances(prompt, TRAIN[0])[name]
        for prompt in (ROOT, bullets([known.hints[0]]), bullets([known.says[0]]))
    )
    assert none < vague < specific


@pytest.mark.parametrize(("name", "when"), CONFINED)
def test_conditions_confine(name: str, when: str) -> None:
    """A confined instruction changes chances of queries with the need, and of no other."""
    said = KNOWN.instructions[name].says[0]
    prompt = bullets([f"{KNOWN.needs[when].when[0]}, {said[0].lower()}{said[1:]}"])
    for profile in PROFILES:
        target = Target(profile)
        for query in TRAIN[:60]:
            changed = target.chances(prompt, query) != target.chances(ROOT, query)
            assert changed == (when in needs_of(query))


def test_topic_confines() -> None:
    """An instruction for a topic changes nothing elsewhere."""
    prompt = bullets(["When asked about bicycles, break every procedure into numbered steps."])
    target = Target("terse")
    for query, acts in (("My bicycles squeak.", True), ("My piano squeaks.", False)):
        assert (target.chances(prompt, query) != target.chances(ROOT, query)) is acts


def test_attention_is_for_eight() -> None:
    """Up to eight lines are heeded in full, and from there on each one more costs."""
    target = Target("terse")
    assert [target.attention(lines) for lines in (1, 8)] == [1, 1]
    beyond = [target.attention(lines) for lines in (8, 9, 12, 20)]
    assert beyond == sorted(beyond, reverse=True)
    assert len(set(beyond)) == 4


def test_idle_bullets_cost_attention() -> None:
    """Twelve bullets of the user's own weaken the one that helps."""
    steps = KNOWN.instructions["steps"].says[0]
    idle = [f"Mention the number {number}." for number in range(12)]
    assert gain("rambling", bullets([steps, *idle])) < gain("rambling", bullets([steps])) - 0.02
    assert gain("rambling", bullets([steps, *idle[:7]])) == pytest.approx(
        gain("rambling", bullets([steps]))
    )


def test_there_are_two_antagonist_pairs() -> None:
    """Two pairs of instructions get in each other's way."""
    assert len({frozenset(pair) for pair in KNOWN.target.antagonists}) == 2


@pytest.mark.parametrize("pair", KNOWN.target.antagonists)
@pytest.mark.parametrize("profile", PROFILES)
def test_antagonists_weaken_each_other(profile: str, pair: tuple[str, str]) -> None:
    """Asked for together, each is heeded less than alone."""
    target = Target(profile)
    for name in pair:
        alone = target.chances(asking_for(name), TRAIN[0])[name]
        assert target.chances(asking_for(*pair), TRAIN[0])[name] < alone


@pytest.mark.parametrize("profile", PROFILES)
def test_pair_is_worth_it_only_together(profile: str) -> None:
    """`draft` and `revise` each lower expected truth alone, and raise it together."""
    assert KNOWN.target.pair.of == ("draft", "revise")
    assert gain(profile, asking_for("draft")) < 0
    assert gain(profile, asking_for("revise")) < 0
    assert gain(profile, asking_for("draft", "revise")) > 0.05


def test_pair_spares_its_costs() -> None:
    """The flaws that each of the two makes alone do not come where both are asked for."""
    target = Target("terse")
    both = target.chances(asking_for(*KNOWN.target.pair.of), TRAIN[0])
    for name in KNOWN.target.pair.of:
        alone = target.chances(asking_for(name), TRAIN[0])
        for flaw in KNOWN.target.raises[name]:
            assert both[flaw] < alone[flaw]


def test_short_harms_the_terse() -> None:
    """The same instruction lowers expected truth for one profile and raises it for another."""
    assert gain("terse", asking_for("short")) < 0
    assert gain("rambling", asking_for("short")) > 0


@pytest.mark.parametrize("profile", PROFILES)
def test_order_of_instructions_does_not_matter(profile: str) -> None:
    """A prompt's bullets may stand in any order."""
    names = list(KNOWN.instructions)[::4]
    one, other = (asking_for(*order) for order in (names, names[::-1]))
    assert gain(profile, one) == pytest.approx(gain(profile, other))


@pytest.mark.parametrize("profile", PROFILES)
def test_paraphrases_act_alike(profile: str) -> None:
    """Every wording of a class changes expected truth by the same."""
    for known in KNOWN.instructions.values():
        gains = [gain(profile, bullets([said])) for said in known.says]
        assert gains == pytest.approx([gains[0]] * len(gains))


# Examples


def shown(query: str, number: int, *, relevant: bool) -> Examples:
    """The training queries most (or least) like this one, with the best part for each need."""
    others = sorted((at for at in TRAIN if at != query), key=lambda at: alike(at, query))
    chosen = (others[::-1] if relevant else others)[:number]
    return [(at, answer_of(*best_parts(at))) for at in chosen]


def best_parts(query: str) -> list[str]:
    lifts = [KNOWN.quality.lift[aspect] for aspect in needs_of(query)]
    return list(dict.fromkeys(max(lift, key=lambda part: lift[part]) for lift in lifts))


def curve(profile: str, *, relevant: bool) -> Sequence[float]:
    """Expected truth with 0 to 5 examples."""
    target, some = Target(profile), TRAIN[:40]
    return [
        sum(
            expected_truth(target, ROOT, [query], shown(query, number, relevant=relevant))
            for query in some
        )
        / len(some)
        for number in range(6)
    ]


@pytest.mark.parametrize("profile", PROFILES)
def test_relevant_examples_help_up_to_a_number(profile: str) -> None:
    """They help most in the profile's own number, 1 to 3; more of them do harm."""
    best = KNOWN.target.profiles[profile].best_examples
    assert best in (1, 2, 3)
    found = list(curve(profile, relevant=True))
    assert max(found) == found[best]
    assert found[1] > found[0]
    assert found[best:] == sorted(found[best:], reverse=True)


@pytest.mark.parametrize("profile", PROFILES)
def test_irrelevant_examples_harm(profile: str) -> None:
    """Each one more costs, whatever is in it."""
    found = list(curve(profile, relevant=False))
    assert found == sorted(found, reverse=True)
    assert found[0] > found[1] > found[5]


def test_likeness_is_of_needs() -> None:
    """Two queries with the same needs are alike whatever their topic; other needs are not."""
    one = "My bicycle squeaks. I feel awful about it. Please give me the background as well."
    other = "The hens are gone. What are the reasons behind it? It breaks my heart."
    assert alike(one, other) > KNOWN.target.examples.alike
    assert alike(one, "The hens are gone. Give it to me as a table.") < KNOWN.target.examples.alike


# The null world


@pytest.mark.parametrize("profile", PROFILES)
def test_nothing_acts_in_null(profile: str) -> None:
    """No prompt and no example changes a chance."""
    target = Target(profile, dials("null", "target", {})["heeds"])
    for query in TRAIN[:20]:
        plain = target.chances(ROOT, query)
        assert target.chances("", query) == plain
        assert target.chances(asking_for(*KNOWN.instructions), query) == plain
        assert target.chances(ROOT, query, shown(query, 5, relevant=True)) == plain
        for name in KNOWN.instructions:
            assert target.chances(asking_for(name), query) == plain
