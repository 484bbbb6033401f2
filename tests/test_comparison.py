from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from conftest import Here
from planted import Planted, plant

import drpo
from drpo.checkpoints.runs import create_run
from drpo.comparison import Side, comparison, origin, sides
from drpo.explorer.documents import overview
from drpo.graph.errors import BadInput
from drpo.settings import compose_settings

ROOT = Planted(0, None, "Be kind. Explain it to the user.", {0: {"Depth": 2.0}})
WARM = Planted(1, 0, "Be kind. Explain it all to the user.", {1: {"Depth": 3.0}, 2: {"Depth": 4.0}})
CURT = Planted(1, 0, "Be curt.\n- Be kind.", {1: {"Depth": 5.0}, 2: {"Depth": "N/A"}})
SKIP = Planted(2, 2, CURT.prompt, {0: {"Depth": 4.0}}, "skip")
TREE = [ROOT, WARM, CURT, SKIP]


async def test_prompts_are_compared_by_sentence(tmp_path: Path) -> None:
    """Kept, changed word by word, added, removed."""
    path = await plant(tmp_path, TREE)
    told = comparison(Side(path, 0), Side(path, 1))["prompts"]["system"]
    assert told["counts"] == {"kept": 1, "changed": 1, "added": 0, "removed": 0}
    [_, changed] = told["sentences"]
    assert (changed["before"], changed["after"]) == (
        "Explain it to the user.",
        "Explain it all to the user.",
    )
    added = [piece["text"].strip() for piece in changed["pieces"] if piece["kind"] == "added"]
    assert added == ["all"]
    other = comparison(Side(path, 0), Side(path, 2))["prompts"]["system"]
    assert [each["kind"] for each in other["sentences"]] == ["added", "kept", "removed"]


async def test_scores_are_of_shared_queries(tmp_path: Path) -> None:
    """Query 1 was scored under both, 5 against 3; query 2 not; query 0 is of a skip alone."""
    path = await plant(tmp_path, TREE)
    told = comparison(Side(path, 1), Side(path, 2))["scores"]
    assert [each["query"] for each in told["queries"]] == ["q1", "q2"]
    assert (told["a"], told["b"], told["difference"]) == (3.0, 5.0, 2.0)
    assert (told["compared"], told["unscored"]) == (1, 1)
    assert told["answered"] == {"a": 2, "b": 3}


async def test_what_repeats_a_prompt_answers_for_it(tmp_path: Path) -> None:
    """The skip was asked the root's query, so the two can be compared."""
    path = await plant(tmp_path, TREE)
    told = comparison(Side(path, 0), Side(path, 2))["scores"]
    assert [(each["query"], each["difference"]) for each in told["queries"]] == [("q0", 2.0)]


async def test_runs_are_compared_along_their_best_paths(tmp_path: Path) -> None:
    """By the text of the query; another selection is in no mean; settings and cost are told."""
    one = await plant(tmp_path, TREE, best=1, texts=["x", "the same", "other"])
    tree = [ROOT, Planted(1, 0, "Be wise.", {1: {"Depth": 5.0}, 2: {"Care": 5.0}})]
    other = await plant(tmp_path, tree, "seed=7", best=1, texts=["y", "the same", "other"])
    told = comparison(Side(one), Side(other))
    assert told["scores"]["of_paths"]
    assert [each["text"] for each in told["scores"]["queries"]] == ["the same", "other"]
    assert (told["scores"]["compared"], told["scores"]["other_selection"]) == (1, 1)
    assert told["scores"]["difference"] == 2.0
    assert {"setting": "seed", "a": 0, "b": 7} in told["settings"]
    assert told["b"]["cost"]["calls"] == 0


async def test_words_name_two_sides(tmp_path: Path) -> None:
    """RUN, RUN:CANDIDATE, :CANDIDATE of the same run; one alone goes with what it came from."""
    path = await plant(tmp_path, TREE)
    run = path.stem
    assert sides([f"{run}:1", ":2"], tmp_path) == (Side(path, 1), Side(path, 2))
    assert sides([f"{run}:3"], tmp_path) == (Side(path, 2), Side(path, 3))
    assert sides([run], tmp_path) == sides([], tmp_path) == (Side(path, 0), Side(path))
    assert sides([":1", run], tmp_path) == (Side(path, 1), Side(path))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([":0"], "has no parent"),
        ([":9"], "there is no candidate 9"),
        ([":1", ":9"], "there is no candidate 9"),
        ([":x"], "comes the id of a candidate"),
        ([":"], "comes the id of a candidate"),
        ([":\u0663"], "comes the id of a candidate"),
        ([":" + "9" * 40], "comes the id of a candidate"),
        ([":0", ":1", ":2"], "compares two"),
        (["zzz"], "begins with 'zzz'"),
    ],
)
async def test_a_bad_side_is_one_line(
    tmp_path: Path, here: Here, words: list[str], said: str
) -> None:
    """What, and what is allowed."""
    await plant(tmp_path / "runs", TREE)
    shown = here("show", *words, "--view", "diff")
    assert shown.returncode == 2
    assert said in shown.stderr
    assert shown.stderr.count("\n") == 1


def test_a_run_without_a_prompt(tmp_path: Path) -> None:
    """It has finished no level."""
    settings = compose_settings([]).model_dump_json()
    run = create_run(tmp_path, settings=settings, fingerprint={}, queries=[], version="test")
    with pytest.raises(BadInput, match="finished no level"):
        comparison(Side(run.path), Side(run.path))
    with pytest.raises(BadInput, match="finished no level"):
        comparison(Side(run.path, 0), Side(run.path, 0))


def test_an_alignment_is_compared_by_what_it_deployed(tmp_path: Path) -> None:
    """Not by the best of its search, where that did not prove itself."""
    small = ("data.limit=40", "search=greedy", "search.levels=2", "search.queries_per_level=1")
    overrides = ("examples.limit=0", "validation.min_gain=4")
    done = drpo.align_blocking(*small, *overrides, runs=tmp_path)
    told = comparison(Side(done.path, 1), Side(done.path))
    assert (told["b"]["candidate"], told["b"]["deployed"]) == (0, True)
    assert origin(Side(done.path)) == Side(done.path, 0)


async def test_a_run_that_found_its_root_alone_says_so(tmp_path: Path, here: Here) -> None:
    """One line in place of an empty comparison; the JSON is as ever."""
    path = await plant(tmp_path / "runs", TREE[:1], best=0)
    shown = here("show", "--view", "diff")
    assert shown.returncode == 0
    assert " ".join(shown.stdout.split()) == (
        "Nothing to compare: both sides are candidate 0 (root, best so far) of run "
        f"{path.stem[:8]}. `--view tree` has the others."
    )
    told = json.loads(here("show", "--view", "diff", "--json").stdout)
    assert told["a"] == told["b"]


@pytest.mark.parametrize(("status", "so_far"), [("paused", " so far"), ("done", "")])
async def test_only_a_run_that_is_done_has_its_best_prompt_for_good(
    status: str, so_far: str, tmp_path: Path, here: Here
) -> None:
    """In every view that speaks of it."""
    path = await plant(tmp_path / "runs", TREE, best=3)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("update run set status = ?", [status])
    for view, said in (
        ("summary", f"Best prompt{so_far} (candidate 3"),
        ("why", f"the best prompt{so_far}."),
        ("diff", f"candidate 3 (best{so_far}, level"),
    ):
        assert said in " ".join(here("show", "--view", view).stdout.split())
    assert overview(path)["called"] == f"best prompt{so_far}"


async def test_text_is_readable_and_harmless(tmp_path: Path, here: Here) -> None:
    """Eighty columns, no escape sequence, no markup, word marks; the JSON has the same."""
    evil = "\x1b[2Jgo [bold]x[/bold] \u202e " + "word " * 60
    tree = [
        Planted(0, None, f"Explain it to the user. {evil}", {0: {"Depth": 2.0}}),
        Planted(1, 0, f"Explain it all to the user. Twice. {evil}", {0: {"Depth": 4.0}}),
    ]
    await plant(tmp_path / "runs", tree, best=1, texts=[evil])
    said = here("show", "--view", "diff").stdout
    assert "\x1b" not in said
    assert "\u202e" not in said
    assert "[bold]x[/bold]" in said
    assert "Explain it{+ all+} to the user." in said
    assert "+ Twice." in said
    assert "difference +2.00" in said
    assert max(map(len, said.splitlines())) <= 80
    assert json.loads(here("show", "--view", "diff", "--json").stdout)["scores"]["difference"] == 2


async def test_two_runs_show_settings_and_cost(tmp_path: Path, here: Here) -> None:
    """Where there are two."""
    one = await plant(tmp_path / "runs", TREE, best=1)
    other = await plant(tmp_path / "runs", TREE, "search.width=9", best=1)
    said = here("show", one.stem, other.stem, "--view", "diff").stdout
    assert "search.width" in said
    assert "tokens" in said
    assert "No query in common" not in said
