"""Why each sentence of a prompt is there: exact where it is known, complete where it is not."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conftest import Here
from scripted import ScriptedCaller, searched
from sqlite_utils import Database

import drpo
from benchmarks.import_reference import import_run
from drpo.artifact import artifact_text
from drpo.checkpoints import lineage
from drpo.checkpoints.runs import run_paths
from drpo.fork import fork
from drpo.graph.errors import BadInput, RunPaused
from drpo.graph.requests import Request
from drpo.prompt_page import page_of
from drpo.provenance import artifact_of_run
from drpo.review import NO_CHANGES, Changes
from drpo.why import ALL_PERFECT, NO_SCORE, NO_VERDICT, OF_ROOT, UNMATCHED, unfounded, why

REFERENCE = Path(__file__).parents[2] / "shared" / "reference"
FILES = ("gpt-3.5-turbo", "llama2-7b", "llama3-8b-instruct", "mistral-7b-v0.1")
HOSTILE = "Obey \x1b[31mred\u202e <script>alert(1)</script> [bold]`x`"

Said = Mapping[str, tuple[int, str]]
"""By aspect: its score, and why."""
PERFECT = '[{"aspect":"Warmth","value":5.0,"rationale":"Good.","unscored":null}]'
FINE = "Nothing to complain of."
PROMPTS = {
    0: "You are an assistant.\n- Write English.",
    1: "You are an assistant.\n- Write English.\n- Put the point first.\n"
    "- Acknowledge the grief of whoever mourns.",
    3: "You are an assistant.\n- Acknowledge the grief of whoever mourns.\n"
    "- Put the point first, and name the causes.",
    4: "You are an assistant.\n1. Write English.\n2. Acknowledge the grief of whoever mourns.\n"
    "3. Put the point first, and name the causes.\n\nAdd a pinch of salt.",
}
"""By candidate, what the rewriter wrote; candidate 2 is a skip."""
JUDGED: Mapping[int, Said] = {
    0: {
        "Brevity": (2, "The point drowns; it should come first."),
        "Warmth": (3, "It does not acknowledge the grief."),
        "Origins": (5, FINE),
    },
    1: {"Brevity": (5, FINE), "Warmth": (5, FINE), "Origins": (5, FINE)},
    2: {"Brevity": (4, "Fine."), "Warmth": (5, FINE), "Origins": (1, "It names no causes.")},
    3: {"Brevity": (5, FINE), "Warmth": (2, "It is cold."), "Origins": (4, "It is all right.")},
    4: {"Brevity": (3, FINE), "Warmth": (4, FINE), "Origins": (5, FINE)},
}


@dataclass
class Planted(ScriptedCaller):
    """Every prompt, score and rationale is known."""

    written: Mapping[int, str] = field(default_factory=lambda: PROMPTS)
    judged: Mapping[int, Said] = field(default_factory=lambda: JUDGED)
    name: str = "system"
    others: Mapping[str, str] = field(default_factory=dict)
    """Prompts that every rewrite has beside the one of this name."""

    def _texts(self, request: Request[Any]) -> tuple[str, ...]:
        if request.role == "judge" and request.candidate is not None:
            said = self.judged[request.candidate]
            rows = [{"aspect": a, "score": s, "rationale": r} for a, (s, r) in said.items()]
            return (json.dumps({"verdict": rows}),)
        if request.role == "rewriter" and request.candidate is not None:
            child = min(each for each in self.written if each > request.candidate)
            return (json.dumps({"prompts": {**self.others, self.name: self.written[child]}}),)
        return super()._texts(request)


def planted(**changed: Any) -> Planted:
    names = [{"name": name, "definition": f"About {name}."} for name in JUDGED[0]]
    selection = json.dumps({"reason": "because", "aspects": names})
    return Planted(scores=lambda *_: 5, selection=selection, **changed)


async def ran(caller: Planted, folder: Path, *words: str) -> Path:
    """One line of candidates, one query a level."""
    root = folder.parent / "root.md"
    root.write_text(caller.written[0], "utf-8")
    more = ("search.width=1", "search.rewrites=1", "search.levels=5", "search.max_extension=0")
    await searched(caller, folder, *more, f"root=@{root}", *words)
    [path] = run_paths(folder)
    return path


def execute(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(statement)


def origins(told: Any) -> dict[str, tuple[str, int, int, int | None, str | None]]:
    """By sentence: kind, level, candidate, parent, and what it was."""
    keys = ("origin", "level", "candidate", "parent", "before")
    return {s["text"]: tuple(s[key] for key in keys) for s in told["prompts"]["system"]}


def evidence(told: Any) -> dict[str, list[tuple[str, float, bool]]]:
    """By sentence: aspect, score and whether it is matched, the best first."""
    return {
        s["text"]: [(e["aspect"], e["score"], e["matched"]) for e in s["evidence"]]
        for s in told["prompts"]["system"]
    }


async def test_every_sentence_has_the_candidate_that_brought_or_changed_it(tmp_path: Path) -> None:
    """Over a skip: kept, moved, changed, gone and added back, new."""
    told = why(await ran(planted(), tmp_path))
    assert (told["candidate"], told["level"], told["path"]) == (4, 4, [0, 1, 2, 3, 4])
    assert origins(told) == {
        "You are an assistant.": ("root", 0, 0, None, None),
        "Write English.": ("rewrite", 4, 4, 3, None),
        "Acknowledge the grief of whoever mourns.": ("rewrite", 1, 1, 0, None),
        "Put the point first, and name the causes.": ("rewrite", 3, 3, 2, "Put the point first."),
        "Add a pinch of salt.": ("rewrite", 4, 4, 3, None),
    }
    back = {s["text"]: s["returned"] for s in told["prompts"]["system"] if s["returned"]}
    assert back == {"Write English.": {"level": 2, "candidate": 2}}


async def test_its_evidence_is_the_aspect_that_it_answers(tmp_path: Path) -> None:
    """Two sentences of one level have different aspects; what is seen and not matched is listed."""
    told = why(await ran(planted(), tmp_path))
    unmatched = [("Warmth", 2.0, False), ("Origins", 4.0, False)]
    assert evidence(told) == {
        "You are an assistant.": [],
        "Write English.": unmatched,
        "Acknowledge the grief of whoever mourns.": [
            ("Warmth", 3.0, True),
            ("Brevity", 2.0, False),
        ],
        "Put the point first, and name the causes.": [
            ("Origins", 1.0, True),
            ("Brevity", 4.0, False),
        ],
        "Add a pinch of salt.": unmatched,
    }
    earlier = evidence(why(run_paths(tmp_path)[0], 1))
    assert earlier["Put the point first."] == [("Brevity", 2.0, True), ("Warmth", 3.0, False)]


async def test_each_score_comes_with_all_that_the_rewriter_saw(tmp_path: Path) -> None:
    """Query, answer and rationale; and what the aspect scored before, after and since."""
    told = why(await ran(planted(), tmp_path))
    [first, _] = told["prompts"]["system"][3]["evidence"]
    assert first == {
        "query": "q2",
        "query_text": "question 2",
        "sample": 0,
        "answer": "answer of 2 to 2",
        "aspect": "Origins",
        "score": 1.0,
        "rationale": "It names no causes.",
        "matched": True,
        "shared": ["name", "causes"],
        "before": 1.0,
        "after": 4.0,
        "since": 4.5,
    }


async def test_it_names_what_the_rewriters_requests_held_and_nothing_else(tmp_path: Path) -> None:
    """Every low score of a request, each of several queries of a level."""
    caller = planted()
    told = why(await ran(caller, tmp_path, "search.queries_per_level=3", "search.levels=3"))
    asked = {request.candidate: request.messages[-1].content for request in caller.of("rewriter")}
    seen = 0
    for sentence in told["prompts"]["system"]:
        for each in sentence["evidence"]:
            seen += 1
            request = asked[sentence["parent"]]
            for text in (each["query_text"], each["answer"], each["rationale"]):
                assert text in request
    assert seen == 2 * 2 * 3


async def test_another_candidate_can_be_asked_for(tmp_path: Path) -> None:
    """And one that there is not is named."""
    path = await ran(planted(), tmp_path)
    assert (why(path)["chosen"], why(path, 1)["chosen"]) == ("best", "asked for")
    assert why(path, 0)["prompts"]["system"][0]["unfounded"] == OF_ROOT
    with pytest.raises(BadInput, match=r"candidate 9: .* allowed are 0 to 4"):
        why(path, 9)


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        (f"update verdict set scores = '{PERFECT}' where candidate = 3", ALL_PERFECT),
        ("delete from verdict where candidate = 3", NO_VERDICT),
        ("update verdict set scores = '[]', unscored = 'odd'", f"{NO_SCORE}: odd"),
    ],
)
async def test_a_sentence_without_evidence_says_why(
    statement: str, reason: str, tmp_path: Path
) -> None:
    """Nothing below 5, nothing scored, or nothing at all."""
    path = await ran(planted(), tmp_path)
    execute(path, statement)
    salt = why(path)["prompts"]["system"][-1]
    assert (salt["evidence"], salt["unfounded"]) == ([], reason)


async def test_every_prompt_by_its_name(tmp_path: Path) -> None:
    """Each has a line of its own."""
    written = {0: "Be exact.", 1: "Be exact.\nShow warmth."}
    caller = planted(written=written, name="tool", others={"system": "Be kind."})
    root = "root={system: 'Be kind.', tool: 'Be exact.'}"
    path = await ran(caller, tmp_path, "search.levels=2", root)
    told = why(path)["prompts"]
    assert [s["origin"] for s in told["system"]] == ["root"]
    assert [s["origin"] for s in told["tool"]] == ["root", "rewrite"]
    assert told["tool"][1]["evidence"][0]["aspect"] == "Warmth"


async def test_what_a_person_wrote_in_a_fork_is_theirs(tmp_path: Path) -> None:
    """And what they left as it was is not."""
    whole = await drpo.optimize("experiment=smoke", runs=tmp_path)
    mine = tmp_path / "mine.md"
    mine.write_text("You are a helpful assistant.\nCount to ten.", "utf-8")
    forked = fork(whole.path, candidate=1, edit=mine)
    ended = await drpo.resume(forked.id, runs=tmp_path)
    first, second = why(ended.path, 1)["prompts"]["system"]
    assert (first["origin"], second["origin"]) == ("root", "person")
    assert second["author"]
    assert second["unfounded"] == f"written by {second['author']}, a person"


async def test_what_a_person_added_in_a_review_is_theirs(tmp_path: Path) -> None:
    """Their prompt joins the rewrites of a survivor."""
    words = ("experiment=smoke", "search.review=true")
    with pytest.raises(RunPaused):
        await drpo.optimize(*words, runs=tmp_path)
    [path] = run_paths(tmp_path)
    adding = Changes(edits={}, drops=(), adds=["Count to ten."])
    for changes in (adding, NO_CHANGES):
        try:
            await drpo.resume(path.stem, runs=tmp_path, changes=changes)
            break
        except RunPaused:
            continue
    added = next(n for n in range(9) if why(path, n)["prompts"]["system"][-1]["author"])
    [sentence] = why(path, added)["prompts"]["system"]
    assert (sentence["text"], sentence["origin"]) == ("Count to ten.", "person")


async def test_i4_it_is_shown_at_80_columns_and_as_text_alone(here: Here, tmp_path: Path) -> None:
    """Whatever models wrote."""
    said = dict.fromkeys(JUDGED[0], (2, f"{HOSTILE} {'long ' * 99}"))
    caller = planted(
        written={0: "Be.", 1: f"Be.\n- {HOSTILE}.", 2: "Be still."}, judged={0: said, 1: said}
    )
    await ran(caller, tmp_path / "runs", "search.levels=2")
    shown = here("show", "--view", "why")
    assert shown.returncode == 0, shown.stderr
    assert "\x1b" not in shown.stdout
    assert "\u202e" not in shown.stdout
    assert "<script>alert(1)</script> [bold]`x`" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80


async def test_it_tells_a_person_and_a_program(here: Here, tmp_path: Path) -> None:
    """The same facts."""
    path = await ran(planted(), tmp_path / "runs")
    shown = " ".join(here("show", "--view", "why").stdout.split())
    for said in (
        "Candidate 4 of level 4, the best prompt so far.",
        "level 3, candidate 3: changed by the rewrite of 2",
        "was: Put the point first.",
        "Origins 1 of 5 (before 1.00, after 4.00), by: name, causes",
        "query q2: question 2",
        "candidate 2 of level 2 had it",
        "seen, not matched",
        "5 sentences: 2 with evidence, 2 that match no score, 1 of the root",
    ):
        assert said in shown
    assert json.loads(here("show", "--view", "why", "--json").stdout) == why(path)
    other = here("show", "--view", "why", "--candidate", "1", "--json").stdout
    assert json.loads(other) == why(path, 1)


def test_a_candidate_is_for_this_view_alone(here: Here) -> None:
    """Other views would not heed it."""
    assert here("optimize", "experiment=smoke").returncode == 0
    refused = here("show", "--candidate", "1")
    assert refused.returncode == 2
    assert "--view why" in refused.stderr


async def test_i2_the_page_lists_the_sentences_without_evidence(tmp_path: Path) -> None:
    """By reason; a text that an answer planted is about no low score."""
    artifact = artifact_of_run(await ran(planted(), tmp_path))
    page = page_of(artifact).partition("## Sentences without evidence")[2]
    listed = page.partition("\n## ")[0]
    assert re.findall(r"^`(.*)`:$|^- `(.*)`$", listed, re.MULTILINE) == [
        (OF_ROOT, ""),
        ("", "You are an assistant."),
        (UNMATCHED, ""),
        ("", "Write English."),
        ("", "Add a pinch of salt."),
    ]
    assert artifact_text(artifact) == artifact_text(artifact_of_run(run_paths(tmp_path)[0]))


async def test_i2_where_every_sentence_has_evidence_the_page_says_so(tmp_path: Path) -> None:
    """Nothing is left to list."""
    caller = planted(written={0: "Be.", 1: "Acknowledge the grief.", 2: "-"})
    page = page_of(artifact_of_run(await ran(caller, tmp_path, "search.levels=2")))
    assert "There are none" in page.partition("## Sentences without evidence")[2]


async def test_a_line_is_read_by_key(tmp_path: Path) -> None:
    """However many candidates a run has: no table is read whole."""
    path = await ran(planted(), tmp_path)
    asked: list[str] = []
    with closing(sqlite3.connect(path)) as connection:
        connection.set_trace_callback(asked.append)
        db = Database(connection)
        steps = [step.id for step in lineage.line(db, 4)]
        found = list(lineage.judgements(db, steps))
        ordinals = sorted({each.query for each in found})
        assert len(lineage.queries(db, ordinals)) == len(ordinals) == 5
        assert len(lineage.definitions(db, ordinals)) == 15
        assert lineage.answer(db, 4, 4, 0) == "answer of 4 to 4"
        connection.set_trace_callback(None)
        statements = [each for each in asked if "json_each" in each or "where" in each]
        assert len(statements) >= 5
        for statement in statements:
            plan = connection.execute(f"explain query plan {statement}").fetchall()
            scanned = {row[3] for row in plan if row[3].startswith("SCAN")}
            tables = r"SCAN (candidate|rewrite|verdict|sample|text|query|selection)\b"
            assert not [each for each in scanned if re.match(tables, each)]


@pytest.fixture(scope="module", params=FILES)
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recorded run of the paper's own code, as a run of ours."""
    file = REFERENCE / f"{request.param}.json"
    if not file.exists():
        pytest.skip(f"the recorded runs are not here: {REFERENCE}")
    return import_run(file, tmp_path_factory.mktemp("runs")).path


def test_every_sentence_of_a_recorded_run_has_evidence_or_a_mark(recorded: Path) -> None:
    """Each score is one that the rewriter was shown, at the level above the candidate's."""
    told = why(recorded)
    with closing(sqlite3.connect(recorded)) as db:
        for sentence in told["prompts"]["system"]:
            assert bool(sentence["evidence"]) != bool(sentence["unfounded"])
            assert sentence["candidate"] in told["path"]
            assert told["path"].index(sentence["candidate"]) == sentence["level"]
            for each in sentence["evidence"]:
                [(shown,)] = db.execute(
                    "select group_concat(body, ' ') from rewrite join call on call.key = call,"
                    " json_each(messages) join text on sha256 = json_extract(value, '$[1]')"
                    " where rewrite.parent = ? and item = 0",
                    [sentence["parent"]],
                )
                assert each["rationale"] in shown
                assert f"{each['aspect']}: {each['score']:g} of 5" in shown
    assert len(unfounded(told)) < len(told["prompts"]["system"])
