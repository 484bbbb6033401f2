"""Alignments: their stages, what each stage may see, how they stop and go on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from conftest import Here
from sqlite_utils import Database

import drpo
from drpo.checkpoints.doctor import examine
from drpo.checkpoints.reader import summary
from drpo.checkpoints.runs import run_paths
from drpo.kinds import plan_of
from drpo.provenance import artifact_of_run
from drpo.settings import compose_settings
from drpo.why import unfounded, why

SMALL = (
    "data.limit=40",
    "search=greedy",
    "search.levels=3",
    "search.queries_per_level=2",
    "examples.limit=3",
    "examples.rounds=2",
)
"""16 queries to search with, three of which become seeds, 8 to choose by, 16 to confirm on."""


def align(runs: Path, *overrides: str) -> dict[str, Any]:
    """What a small alignment tells of itself."""
    return dict(drpo.align_blocking(*SMALL, *overrides, runs=runs).summary)


@pytest.fixture(scope="module")
def aligned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One, for the tests that only look at it."""
    return align(tmp_path_factory.mktemp("runs"))


def paid(told: dict[str, Any]) -> dict[str, int]:
    """Calls to models, by role."""
    return {role: count["new"] for role, count in told["calls"].items()}


def rows(told: dict[str, Any], sql: str) -> list[dict[str, Any]]:
    """Of its file."""
    db = Database(told["path"])
    found = list(db.query(sql))
    db.close()
    return found


def test_it_compares_four_arms_and_tests_one(aligned: dict[str, Any]) -> None:
    """Nothing of the alignment, each half, and all of it; on the queries of `confirm`."""
    found = aligned["findings"]["confirm"]
    names = [arm["name"] for arm in found["arms"]]
    assert names == ["nothing", "examples only", "prompt only", "both"]
    assert found["tested"] in names[1:]
    means = {arm["name"]: arm["mean"] for arm in found["arms"]}
    assert found["estimate"] == pytest.approx(means[found["tested"]] - means["nothing"])
    assert found["queries"] == 16
    assert (found["reading"], found["exploratory"]) == (1, False)
    assert [*aligned["findings"]["truth"]] == names


def test_no_stage_sees_the_queries_of_another(aligned: dict[str, Any]) -> None:
    """Neither in samples nor in what the rewriter is shown."""
    seen = rows(
        aligned,
        "select distinct candidate.search, arm.part as arm, query.part from sample"
        " join candidate on candidate.id = sample.candidate"
        " join query on query.ordinal = sample.query"
        " left join arm on arm.candidate = sample.candidate",
    )
    places = {(min(each["search"], 2), each["arm"], each["part"]) for each in seen}
    assert places == {
        (0, None, "train"),
        (1, "select", "select"),
        (1, "confirm", "confirm"),
        (2, None, "seed"),
    }


def test_each_query_is_judged_by_one_selection_for_all_arms(aligned: dict[str, Any]) -> None:
    """The rewarder is asked once per query and run."""
    [asked] = rows(
        aligned,
        "select count(*) as calls, count(distinct query) as queries from call"
        " where role = 'rewarder'",
    )
    assert asked["calls"] == asked["queries"] == len(rows(aligned, "select * from selection"))


def test_what_the_judge_reads_does_not_name_the_arm(aligned: dict[str, Any]) -> None:
    """Prompt and examples are not among it."""
    asked = rows(
        aligned,
        "select group_concat(body, ' ') as said from call, json_each(call.messages)"
        " join text on sha256 = json_extract(json_each.value, '$[1]')"
        " where role = 'judge' and candidate in (select candidate from arm) group by call.key",
    )
    hidden = [
        aligned["best"]["prompts"]["system"],
        *(each["answer"] for each in aligned["examples"]),
    ]
    assert asked
    assert not any(text in each["said"] for each in asked for text in hidden)


def test_examples_are_the_best_answers_of_their_searches(aligned: dict[str, Any]) -> None:
    """Never worse than where they began."""
    assert len(aligned["examples"]) == 3
    assert all(each["reward"] >= each["before"] for each in aligned["examples"])
    kinds = [row["kind"] for row in rows(aligned, "select kind from search order by number")]
    assert kinds == ["prompt", "arms", "example", "example", "example"]


def test_its_estimate_holds(aligned: dict[str, Any]) -> None:
    """The most calls are never exceeded."""
    calls = sum(paid(aligned).values())
    said = aligned["estimate"]["total"]["calls"]
    assert said["low"] <= calls <= said["high"]


def test_its_file_is_sound_and_small(aligned: dict[str, Any]) -> None:
    """Superseded checkpoints of every search are gone."""
    assert all(found.ok for found in examine(Path(aligned["path"])))
    threads = rows(aligned, "select thread_id, count(*) as n from checkpoints group by thread_id")
    assert len(threads) == 5
    assert {each["n"] for each in threads} == {1}


def test_it_is_shown_without_a_curve(aligned: dict[str, Any], here: Here) -> None:
    """What to use, how it was chosen, what was confirmed, and what it is really worth."""
    folder = str(Path(aligned["path"]).parent)
    shown = here("show", "--runs", folder).stdout
    for said in ("Prompt to use", "<- chosen", "<- tested", "Gain over the root on 16 queries"):
        assert said in shown
    assert "really worth in the simulated world" in shown
    assert "path value" not in shown
    listed = here("show", "--view", "examples", "--runs", folder).stdout
    assert listed.count("== example") == 3
    assert json.loads(here("show", "--view", "examples", "--json", "--runs", folder).stdout)


def test_the_same_confirm_queries_a_second_time_are_exploratory(tmp_path: Path, here: Here) -> None:
    """Whatever was changed meanwhile; other queries are not."""
    runs = tmp_path / "runs"
    quick = ("examples.limit=0", "validation.challengers=1")
    align(runs, *quick)
    again = align(runs, *quick, "search.rewrites=1")["findings"]["confirm"]
    assert (again["reading"], again["exploratory"]) == (2, True)
    assert "EXPLORATORY" in here("show").stdout
    other = align(runs, *quick, "seed=5")["findings"]["confirm"]
    assert (other["reading"], other["exploratory"]) == (1, False)


def test_where_nothing_has_an_effect_the_root_stays(tmp_path: Path, here: Here) -> None:
    """And is what the artifact would hold."""
    told = align(tmp_path / "runs", "sandbox.world=null", "seed=1")
    assert told["findings"]["confirm"]["real"] is False
    assert told["deployed"]["prompts"] == {"system": "You are a helpful assistant."}
    assert told["deployed"]["with_examples"] is False
    assert "No real gain: the root stays." in here("show").stdout


def test_without_examples_there_are_two_arms(tmp_path: Path) -> None:
    """And with one challenger nothing has to be chosen, or paid for."""
    told = align(tmp_path / "runs", "retrieval.k=0", "validation.challengers=1")
    names = [arm["name"] for arm in told["findings"]["confirm"]["arms"]]
    assert names == ["nothing", "prompt only"]
    assert told["examples"] == []
    assert rows(told, "select * from arm where part = 'select'") == []


def test_given_examples_are_not_optimized(tmp_path: Path) -> None:
    """They are what the target is shown."""
    file = tmp_path / "examples.jsonl"
    file.write_text('{"query": "What is jam?", "answer": "Cooked fruit."}\n', "utf-8")
    told = align(tmp_path / "runs", f"retrieval.path={file}", "retrieval.k=1")
    assert [each["answer"] for each in told["examples"]] == ["Cooked fruit."]
    assert rows(told, "select * from search where kind = 'example'") == []
    assert len(told["findings"]["confirm"]["arms"]) == 4


def test_what_is_like_a_given_example_confirms_nothing(tmp_path: Path) -> None:
    """The target is shown its answer, or nearly."""
    settings = compose_settings([*SMALL, "retrieval.k=1"])
    before = [q for q in plan_of(settings, aligns=True).queries if q.part == "confirm"]
    file = tmp_path / "examples.jsonl"
    file.write_text(json.dumps({"query": before[0].text.upper(), "answer": "So."}), "utf-8")
    shown = compose_settings([*SMALL, f"retrieval.path={file}"])
    parts = {q.text: q.part for q in plan_of(shown, aligns=True).queries}
    assert parts[before[0].text] == "train"
    assert [*parts.values()].count("confirm") == 16


def test_repeated_samples_are_averaged_per_query(tmp_path: Path) -> None:
    """The unit is the query, however often it is answered."""
    told = align(
        tmp_path / "runs", "retrieval.k=0", "validation.challengers=1", "validation.samples=2"
    )
    [count] = rows(
        told, "select count(*) as n, max(sample) as last from sample where candidate >= 1000000"
    )
    assert count == {"n": 2 * 16 * 2, "last": 1}
    assert told["findings"]["confirm"]["queries"] == 16


def test_a_budget_stops_it_in_any_stage_and_it_goes_on(aligned: dict[str, Any], here: Here) -> None:
    """To the same end, paying for nothing twice."""
    total = sum(paid(aligned).values())
    assert here("align", *SMALL, "budget.calls=9").returncode == 4
    for limit in range(9, total, 60):
        assert here("resume", f"budget.calls={limit}").returncode == 4
    ended = here("resume", "budget.calls=null", "--json")
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert paid(told) == paid(aligned)
    for name in ("findings", "deployed", "examples", "tree_sha256"):
        assert told[name] == aligned[name]


POINTS = (
    "after ledger insert",
    "before checkpoint",
    "before ledger insert",
    "after task writes",
    "after checkpoint",
)


def test_ten_kills_over_all_stages_end_in_the_same(aligned: dict[str, Any], tmp_path: Path) -> None:
    """`kill -9` at named points of every stage; nothing finished is lost or asked again."""
    total = sum(paid(aligned).values())
    words, kills = ["align", *SMALL], 0
    environment = {**os.environ, "DRPO_RUNS": str(tmp_path)}
    while True:
        point = POINTS[kills % len(POINTS)]
        times = total // 20 if "ledger" in point else 1
        command = [sys.executable, "-m", "benchmarks.killing", point, str(times), "--", *words]
        ended = subprocess.run(
            command,
            cwd=Path(__file__).parents[1],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if ended.returncode != -9:
            break
        kills += 1
        words = ["resume"]
    assert ended.returncode == 0, ended.stderr
    assert kills >= 10
    told = summary(run_paths(tmp_path)[0])
    assert paid(told) == paid(aligned)
    for name in ("findings", "deployed", "examples", "tree_sha256"):
        assert told[name] == aligned[name]
    killed, whole = (artifact_of_run(Path(each["path"])) for each in (told, aligned))
    assert killed.provenance.unfounded == whole.provenance.unfounded
    assert killed.content_sha256 == whole.content_sha256


def test_why_is_told_of_the_prompt_to_use(aligned: dict[str, Any]) -> None:
    """Whatever the search returned."""
    told = why(Path(aligned["path"]))
    assert (told["chosen"], told["candidate"]) == ("deployed", aligned["deployed"]["candidate"])
    listed = artifact_of_run(Path(aligned["path"])).provenance.unfounded
    assert [each.model_dump() for each in listed or ()] == [asdict(e) for e in unfounded(told)]


def test_its_artifact_is_what_was_confirmed(aligned: dict[str, Any]) -> None:
    """With the result of the one test, and only the examples that were a part of it."""
    artifact = artifact_of_run(Path(aligned["path"]))
    assert dict(artifact.prompts) == aligned["deployed"]["prompts"]
    assert bool(artifact.examples) == aligned["deployed"]["with_examples"]
    confirm, found = artifact.provenance.confirm, aligned["findings"]["confirm"]
    assert confirm is not None
    assert (confirm.estimate, confirm.p, confirm.n) == (found["estimate"], found["p"], 16)
    assert confirm.real == found["real"]
    assert artifact.provenance.status == "done"


def test_without_a_real_gain_the_artifact_is_the_root(tmp_path: Path) -> None:
    """By itself, and it says so."""
    artifact = artifact_of_run(Path(align(tmp_path, "validation.min_gain=4")["path"]))
    assert dict(artifact.prompts) == {"system": "You are a helpful assistant."}
    assert artifact.examples == ()
    assert artifact.provenance.confirm is not None
    assert not artifact.provenance.confirm.real


def test_examples_by_themselves(tmp_path: Path, here: Here) -> None:
    """`task=examples` is the first stage alone."""
    words = (
        "task=examples",
        "examples.path=builtin:seeds",
        "examples.limit=2",
        "examples.rounds=1",
    )
    ended = here("optimize", *words)
    assert ended.returncode == 0, ended.stderr
    assert "2 examples" in ended.stdout
    told = json.loads(here("show", "--json").stdout)
    assert told["kind"] == "examples"
    assert len(told["examples"]) == 2
    assert here("resume").returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("align", "task=examples"), "leave it out"),
        (("align", "search.review=true"), "only a search by itself"),
        (("align", "data.limit=6"), "validation: 6 queries"),
        (("align", "validation.select=0.6", "validation.confirm=0.5"), "below 1"),
        (("align", "examples.path=builtin:none"), "examples.path=builtin:none"),
        (("optimize", "task=examples", "retrieval.path=x.jsonl"), "leave one out"),
        (("optimize", "task=examples", "examples.limit=0"), "none to optimize"),
    ],
)
def test_c6_what_cannot_be_aligned_is_refused(
    words: tuple[str, ...], said: str, here: Here, tmp_path: Path
) -> None:
    """One line, exit code 2, nothing written."""
    ended = here(*words)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not run_paths(tmp_path / "runs")


@pytest.mark.parametrize("verb", ["fork", "replay"])
def test_only_a_search_can_be_forked_or_replayed(
    verb: str, aligned: dict[str, Any], here: Here
) -> None:
    """An alignment is more than one."""
    ended = here(verb, "--runs", str(Path(aligned["path"]).parent))
    assert ended.returncode == 2
    assert "only such a search" in ended.stderr


def test_it_says_what_the_data_can_show_before_anything_is_paid_for(here: Here) -> None:
    """In an estimate, too."""
    for verb in ("align", "estimate"):
        more = ("--align",) if verb == "estimate" else ()
        said = here(verb, *SMALL, *more)
        assert "16 to confirm on, which can show a gain of" in said.stderr + said.stdout


def test_m9_a_judge_that_says_nothing_pauses_every_stage(tmp_path: Path, here: Here) -> None:
    """And is asked again once it is mended: here by what it says to the same questions."""
    words = ("models.judge.dials={na: 1}", "examples.rounds=1")
    ended = here("align", *SMALL, *words)
    assert ended.returncode == 5, ended.stderr
    assert "3 of 3 examples of level 0 failed" in ended.stderr
    assert here("resume").returncode == 5
    calls = json.loads(here("show", "--json").stdout)["calls"]
    assert calls["judge"]["new"] == 12


def test_examples_of_another_run_are_taken_by_its_file(
    aligned: dict[str, Any], tmp_path: Path
) -> None:
    """A finished stage need not be paid for again."""
    words = (f"retrieval.path={aligned['path']}", "validation.challengers=1")
    told = align(tmp_path / "runs", *words)
    assert [each["answer"] for each in told["examples"]] == [
        each["answer"] for each in aligned["examples"]
    ]
    assert rows(told, "select * from search where kind = 'example'") == []


def test_stages_of_another_run_with_the_same_questions_are_free(
    aligned: dict[str, Any], tmp_path: Path
) -> None:
    """Out of its ledger."""
    told = align(tmp_path / "runs", f"ledger.reuse={aligned['path']}", "validation.min_gain=1")
    assert sum(paid(told).values()) == 0
    assert told["findings"]["confirm"]["estimate"] == aligned["findings"]["confirm"]["estimate"]
