"""Which queries are searched with, choose the challenger and confirm its gain."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from drpo.conf.schema import DataSettings, ValidationSettings
from drpo.graph.errors import BadInput
from drpo.graph.values import Message, Query
from drpo.queries import load_queries, own_queries
from drpo.splits import near_duplicates, part_hash, split_queries

DEFAULT = ValidationSettings()
ENDS = ("arn", "ello", "ist", "unk")
WORDS = tuple(start + end for start in "bcdfghklmnprst" for end in ENDS)


def texts(count: int, seed: int = 1) -> list[str]:
    """All different."""
    rng = random.Random(seed)
    return [f"{' '.join(rng.sample(WORDS, 8))} {number}" for number in range(count)]


def groups(*given: str) -> list[list[int]]:
    return near_duplicates(own_queries(given))


def parts(queries: list[Query]) -> Counter[str]:
    return Counter(query.part for query in queries)


def test_every_query_gets_one_part_and_stays_what_it_is() -> None:
    """Same order, same ordinals, same texts; shares as set."""
    given = own_queries(texts(50))
    split = split_queries(given, DEFAULT, 1)
    assert parts(split) == {"train": 20, "select": 10, "confirm": 20}
    assert [(q.ordinal, q.id, q.messages) for q in split] == [
        (q.ordinal, q.id, q.messages) for q in given
    ]


def test_the_split_depends_on_queries_shares_and_seed_alone() -> None:
    """The same again; another with another seed."""
    given = own_queries(texts(50))
    assert split_queries(given, DEFAULT, 1) == split_queries(given, DEFAULT, 1)
    assert split_queries(given, DEFAULT, 1) != split_queries(given, DEFAULT, 2)


def test_near_duplicates_are_in_one_part() -> None:
    """Whatever the seed."""
    plain = texts(30)
    pairs = [variant for text in plain for variant in (text, text.replace(" ", ", ") + ", please!")]
    for seed in range(10):
        split = split_queries(own_queries(pairs), DEFAULT, seed)
        for first, second in zip(split[::2], split[1::2], strict=True):
            assert first.part == second.part


@pytest.mark.parametrize(
    "variant",
    [
        "how do i boil AN egg",
        "How do I boil an egg properly?",
        "How can I boil an egg?",
        "how do I  boil an \uff45gg ?",
        "I: how do an egg boil",
    ],
)
def test_what_counts_as_the_same_question(variant: str) -> None:
    """Case, punctuation, width, order, and a word more or less among other queries."""
    assert groups("How do I boil an egg?", variant, *texts(20))[0] == [0, 1]


@pytest.mark.parametrize(
    "other",
    ["How do I mend a bicycle?", "How do I boil my grandmother's old linen tablecloth?"],
)
def test_what_counts_as_another_question(other: str) -> None:
    """The same frame is not the same question."""
    assert groups("How do I boil an egg?", other, *texts(20))[0] == [0]


def test_a_frame_around_every_query_makes_no_duplicates() -> None:
    """Words that all queries have tell nothing, however many they are."""
    frame = "You are given a review by a customer. Say whether it is good or bad, and why: "
    assert len(groups(*(frame + text for text in texts(60)))) == 60


def test_likeness_goes_on_through_others() -> None:
    """A is like B and B like C: all three are in one part."""
    first = "red green blue black white grey brown pink"
    second = first.replace("red", "gold")
    third = second.replace("pink", "tan")
    assert groups(first, second, third, *texts(30))[0] == [0, 1, 2]


def test_languages_without_spaces() -> None:
    """Letters stand in for words."""
    first, second = "怎么做西红柿炒鸡蛋才好吃。", "请问怎么做西红柿炒鸡蛋好吃"
    other = "北京到上海坐火车要几个小时"
    assert groups(first, second, other, *texts(20))[:2] == [[0, 1], [2]]


def test_queries_without_words() -> None:
    """Are different where their signs are."""
    assert groups("?!", "...", "🙂 🙂")[:3] == [[0], [1], [2]]


def test_a_conversation_counts_by_all_its_turns() -> None:
    """The same last turn in another conversation is another query."""
    start, other = texts(2)
    asked = [Message("assistant", "I see."), Message("user", "Why?")]
    given = [
        Query(0, "a", (Message("user", start), *asked)),
        Query(1, "b", (Message("user", other), *asked)),
        Query(2, "c", (Message("user", start.upper()), *asked)),
    ]
    rest = own_queries(texts(20, 2))
    assert near_duplicates(given + rest)[:2] == [[0, 2], [1]]


def test_the_shipped_and_the_simulated_queries_are_all_different() -> None:
    """Although those of the sandbox are built of the same sentences."""
    for path in ("builtin:train", "builtin:held_out", "sandbox:train", "sandbox:held_out"):
        queries = load_queries(DataSettings(path=path), 1)
        assert len(near_duplicates(queries)) == len(queries), path


def test_large_groups_are_searched_with() -> None:
    """The test takes each query for one of its own, and they would count several times."""
    plain = texts(44)
    same = [f"{plain[0]} {number}" for number in range(100, 106)]
    for seed in range(10):
        split = split_queries(own_queries(same + plain[1:]), DEFAULT, seed)
        assert {query.part for query in split[:6]} == {"train"}
        assert parts(split)["confirm"] == round(49 * 0.4)


def test_seeds_of_examples_stay_seeds_and_what_is_like_them_confirms_nothing() -> None:
    """The target is shown them with their answers."""
    plain = texts(40)
    seeds = [Query(at, f"s{at}", (Message("user", plain[at]),), part="seed") for at in range(5)]
    given = seeds + own_queries(f"{text} please" for text in plain)
    for seed in range(10):
        split = split_queries(given, DEFAULT, seed)
        assert split[:5] == seeds
        assert {query.part for query in split[5:10]} == {"train"}
        assert parts(split) == {"seed": 5, "train": 16, "select": 8, "confirm": 16}


@pytest.mark.parametrize(
    ("count", "select", "confirm"), [(11, 0.2, 0.4), (40, 0.2, 0.1), (6, 0.1, 0.8), (1, 0.2, 0.4)]
)
def test_too_few_queries_are_refused(count: int, select: float, confirm: float) -> None:
    """In one line that says what is allowed."""
    settings = ValidationSettings(select=select, confirm=confirm)
    with pytest.raises(BadInput, match=r"at least 1, 1 and 5; give more queries") as refused:
        split_queries(own_queries(texts(count)), settings, 1)
    assert "\n" not in str(refused.value)


def test_many_queries_that_are_all_alike_are_too_few() -> None:
    """What counts is how many are different."""
    [plain] = texts(1)
    with pytest.raises(BadInput, match="100 queries, 1 of them different"):
        split_queries(own_queries(f"{plain}{'!' * at}" for at in range(100)), DEFAULT, 1)


def test_twelve_different_queries_are_enough() -> None:
    """Five of them confirm."""
    split = split_queries(own_queries(texts(12)), DEFAULT, 1)
    assert parts(split) == {"train": 5, "select": 2, "confirm": 5}


def test_the_hash_of_a_part_does_not_depend_on_order() -> None:
    """But on every text, and on the part."""
    split = split_queries(own_queries(texts(50)), DEFAULT, 1)
    turned = list(reversed(split))
    assert part_hash(split, "confirm") == part_hash(turned, "confirm")
    assert part_hash(split, "confirm") != part_hash(split, "train")
    fewer = [query for query in split if query.part != "confirm"] + [
        query for query in split if query.part == "confirm"
    ][1:]
    assert part_hash(fewer, "confirm") != part_hash(split, "confirm")


def test_thousands_of_queries_are_split() -> None:
    """Only those that share a rare word are compared, which is why this ends soon."""
    rng = random.Random(1)
    vocabulary = [f"w{int(rng.paretovariate(0.5)) % 30_000}" for _ in range(50_000)]
    given = own_queries(
        f"Please answer as briefly as you can: {number} {' '.join(rng.choices(vocabulary, k=20))}"
        for number in range(4_000)
    )
    assert parts(split_queries(given, DEFAULT, 1))["confirm"] == 1_600


def test_a_long_text_is_known_by_a_sample_of_its_words() -> None:
    """Two versions of it are alike, two different ones are not."""
    rng = random.Random(1)
    first, other = ([f"w{rng.randrange(100_000)}" for _ in range(3_000)] for _ in range(2))
    changed = [*first[:1_000], "changed", *first[1_200:]]
    given = (" ".join(words) for words in (first, changed, other))
    assert groups(*given, *texts(20))[:2] == [[0, 1], [2]]
