"""Queries: the shipped ones, a user's files, and what is wrong with a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from drpo.conf.schema import DataSettings
from drpo.graph.errors import BadInput
from drpo.graph.values import Message, Query
from drpo.queries import LONGEST_QUERY, load_queries, load_seeds, own_queries

TAGS = [
    "everyday",
    "facts",
    "writing",
    "code",
    "reasoning",
    "feelings",
    "culture",
    "limits",
    "harmful",
]


def load(path: Path | str, seed: int = 0, **options: object) -> list[Query]:
    return load_queries(DataSettings.model_validate({"path": str(path)} | options), seed)


@pytest.mark.parametrize(("name", "fewest"), [("train", 60), ("held_out", 40)])
def test_the_shipped_queries_cover_every_tag(name: str, fewest: int) -> None:
    """Enough of them, each tag among them, each text once."""
    queries = load(f"builtin:{name}")
    assert len(queries) >= fewest
    assert {tag for query in queries for tag in query.tags} == set(TAGS)
    assert len({query.text for query in queries}) == len(queries)


def test_no_held_out_query_is_trained_on() -> None:
    """The two sets share no text."""
    train, held_out = ({q.text for q in load(f"builtin:{n}")} for n in ("train", "held_out"))
    assert not train & held_out


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", '{"text": "One?"}\n\n{"id": 7, "text": " Two? ", "tags": ["x"]}\n'),
        ("a.jsonl", '\ufeff{"text": "One?"}\r\n{"id": "7", "text": "Two?", "tags": "x"}'),
        ("a.csv", 'id,text,tags\n,One?,\n7,Two?,"x"\n'),
        ("a.txt", "One?\n\n  Two?\n"),
    ],
)
def test_each_format_is_read(name: str, text: str, tmp_path: Path) -> None:
    """JSONL, CSV and plain lines, with BOM, blank lines, numbers as ids."""
    path = tmp_path / name
    path.write_text(text, "utf-8")
    assert [query.text for query in load(path)] == ["One?", "Two?"]


def test_several_turns_are_kept(tmp_path: Path) -> None:
    """The last one is the user's."""
    turns = [
        {"role": r, "content": c} for r, c in [("user", "a"), ("assistant", "b"), ("user", "c")]
    ]
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"messages": turns}))
    [query] = load(path)
    assert query.messages[-1] == Message("user", "c")
    assert query.text == "user: a\n\nassistant: b\n\nuser: c"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", '{"text": "One?", "reference": " 1, say. "}\n{"text": "Two?"}'),
        ("a.jsonl", '{"messages": [{"role": "user", "content": "One?"}], "reference": "1, say."}'),
        ("a.csv", 'text,reference\nOne?,"1, say."\nTwo?,\n'),
    ],
)
def test_a_query_may_have_a_reference_answer(name: str, text: str, tmp_path: Path) -> None:
    """Beside text or turns; the others have none."""
    path = tmp_path / name
    path.write_text(text)
    first, *others = load(path)
    assert (first.text, first.reference) == ("One?", "1, say.")
    assert all(query.reference is None for query in others)


def test_queries_from_python_keep_their_reference_answer() -> None:
    """And plain texts have none."""
    given = Query(7, "a", (Message("user", "One?"),), reference="1")
    assert [query.reference for query in own_queries([given, "Two?"])] == ["1", None]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", b"", "no queries"),
        ("a.jsonl", b"[1]", "line 1"),
        ("a.jsonl", b'{"text": "a"}\n{oops', "line 2"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "a"}', "the same query as in line 1"),
        ("a.jsonl", b'{"id": 1, "text": "a"}\n{"id": 1, "text": "b"}', "the same id"),
        ("a.jsonl", b'{"text": ""}', "text"),
        ("a.jsonl", b'{"query": "a"}', "line 1: there is no field 'query'; allowed are id, text"),
        ("a.jsonl", b'{"text": "\\ud800"}', "line 1"),
        ("a.jsonl", b'{"messages": [{"role": "assistant", "content": "a"}]}', "user's"),
        ("a.jsonl", b'{"text": "' + b"x" * (LONGEST_QUERY + 1) + b'"}', "at most"),
        ("a.jsonl", b'{"text": "\xff"}', "not UTF-8"),
        ("a.csv", b"query\na\n", "column 'query'.* allowed are text"),
        (
            "a.csv",
            b"text,reference,note\na,b,c\n",
            "column 'note'.* reference and answer",
        ),
        ("a.csv", b"id\n1\n", "no column 'text'"),
        ("a.csv", b'id,"text\n1,a\n', "line 1: .*quotation mark"),
        ("a.csv", b'text\n"a\n', "line 2: .*quotation mark"),
        ("a.csv", b"text," + b"x" * 140_000 + b"\n", "line 1: field larger"),
        ("a.csv", b"text," + b"x" * 10_000 + b"\n", "line 1: column 'xxx"),
        ("a.csv", b"text\na, b\n", "line 2: .*more fields.*quotation marks"),
        ("a.csv", b"text,text\na,b\n", "line 1: there are two columns 'text'"),
        ("a.jsonl", b'{"text": "a", "reference": ""}', "reference"),
        ("a.txt", b"a\na\n", "the same query"),
        ("a.yaml", b"a", ".jsonl, .csv, .txt"),
        ("a.jsonl", b"[" * 100_000, "not JSON"),
    ],
)
def test_c6_a_bad_file_is_one_line_that_names_it(
    name: str, content: bytes, says: str, tmp_path: Path
) -> None:
    """What, where, and what is allowed."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BadInput, match=says) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("path", ["builtin:nix", "nix.jsonl", "."])
def test_a_missing_file_is_bad_input(path: str) -> None:
    """Whatever is wrong with the name."""
    with pytest.raises(BadInput, match=r"data\.path"):
        load(path)


def test_a_limit_draws_by_the_seed() -> None:
    """The same queries for the same seed."""
    first, again, other = (
        [query.id for query in load("builtin:train", seed, limit=10)] for seed in (1, 1, 2)
    )
    assert first == again != other
    assert len(first) == 10


def test_tags_choose() -> None:
    """Queries with one of them."""
    found = load("builtin:train", tags=["code", "facts"])
    assert found
    assert all({"code", "facts"} & set(query.tags) for query in found)


def seeds(seed: int = 0, path: str = "builtin:seeds", limit: int | None = None) -> list[Query]:
    return load_seeds(path, limit, seed)


def test_there_are_sixteen_seeds_of_our_own() -> None:
    """As many as the paper has, without answers, and no queries of the other sets."""
    found = seeds()
    assert len(found) == 16
    assert {query.part for query in found} == {"seed"}
    assert [query.ordinal for query in found] == list(range(16))
    assert all(query.answer is None for query in found)
    others = {q.text for name in ("train", "held_out") for q in load(f"builtin:{name}")}
    assert not others & {query.text for query in found}


def test_a_limit_draws_seeds_by_the_seed() -> None:
    """None with 0, whatever the path is."""
    first, again, other = ([q.id for q in seeds(seed, limit=5)] for seed in (1, 1, 2))
    assert first == again != other
    assert len(first) == 5
    assert seeds(limit=0, path="nix.jsonl") == []
    assert len(seeds(limit=99)) == 16


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", '{"text": "One?", "answer": " 1 "}\n{"text": "Two?"}'),
        ("a.csv", "text,answer\nOne?,1\nTwo?,\n"),
    ],
)
def test_a_query_may_have_a_base_answer(name: str, text: str, tmp_path: Path) -> None:
    """In files, and from Python."""
    path = tmp_path / name
    path.write_text(text, "utf-8")
    found = seeds(path=str(path))
    assert [query.answer for query in found] == ["1", None]
    assert [query.answer for query in own_queries(found)] == ["1", None]


@pytest.mark.parametrize(
    ("path", "content", "says"),
    [
        ("builtin:nix", None, r"examples\.path=.*builtin:seeds"),
        ("sandbox:nix", None, r"examples\.path=.*sandbox:train"),
        ("nix.jsonl", None, r"examples\.path=nix"),
        ("a.yaml", b"a", r"examples\.path=.*\.jsonl, \.csv, \.txt"),
        ("a.jsonl", b"", r"examples\.path=.*no queries"),
        ("a.jsonl", b'{"text": "a", "answer": ""}', "line 1: answer"),
    ],
)
def test_bad_seeds_are_one_line_that_names_them(
    path: str, content: bytes | None, says: str, tmp_path: Path
) -> None:
    """As bad queries are, by their own setting."""
    if content is not None:
        (tmp_path / path).write_bytes(content)
        path = str(tmp_path / path)
    with pytest.raises(BadInput, match=says) as caught:
        seeds(path=path)
    assert "\n" not in str(caught.value)
