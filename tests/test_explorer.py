"""The Explorer's documents, its page and its report, as far as no browser is needed."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import Here

import drpo
from drpo.checkpoints import reader
from drpo.checkpoints.runs import reading
from drpo.explorer import documents
from drpo.explorer.page import embedded, page
from drpo.explorer.report import BLOCK, report
from drpo.graph.errors import BadInput
from drpo.graph.values import CANDIDATES_PER_SEARCH


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a search on the sandbox."""
    runs = tmp_path_factory.mktemp("runs")
    return drpo.optimize_blocking("experiment=smoke", runs=runs).path


@pytest.fixture(scope="module")
def aligned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an alignment on the sandbox."""
    words = ("search=greedy", "search.levels=2", "data.limit=40", "examples.limit=2")
    return drpo.align_blocking(*words, runs=tmp_path_factory.mktemp("runs")).path


def parts(html: str) -> dict[str, str]:
    """What the elements of the page hold, by id; the script by its name."""
    found = dict(re.findall(r'<script type="[a-z/]+" id="(\w+)">(.*?)</script>', html, re.DOTALL))
    [script] = re.findall(r'<script type="module">(.*?)</script>', html, re.DOTALL)
    [style] = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    return found | {"script": script, "style": style}


def unpacked(packed: str, place: list[int]) -> Any:
    begin, end = place
    return json.loads(gzip.decompress(base64.b64decode(packed[begin:end])))


def test_the_tree_has_every_candidate_column_by_column(run: Path) -> None:
    """With the places, values and fates that the other views tell."""
    tree = documents.overview(run)["tree"]
    nodes = reader.tree(run)
    assert tree["id"] == [node["candidate"] for node in nodes]
    assert tree["parent"] == [node["parent"] for node in nodes]
    assert [tree["origins"][at] for at in tree["origin"]] == [node["origin"] for node in nodes]
    assert tree["value"] == [
        None if node["path_value"] is None else pytest.approx(node["path_value"], abs=1e-4)
        for node in nodes
    ]
    for node, fate in zip(nodes, tree["fate"], strict=True):
        assert (node["beam_rank"] is not None) == (fate in ("kept", "skipped"))
    assert tree["returned"] == [documents.run_row(run) and reader.summary(run)["best"]["candidate"]]


def test_a_candidate_tells_what_the_trace_tells(run: Path) -> None:
    """Decisions, answers, verdicts, rewrites and calls; each text once in its block."""
    for node in reader.trace(run):
        block = documents.candidates(run, [node["candidate"]])
        one = block["candidates"][node["candidate"]]
        texts = block["texts"]
        assert {name: texts[at] for name, at in one["prompts"].items()} == node["prompts"]
        said = [f"{each['action']}: {each['reason']}" for each in one["decisions"]]
        assert said == node["decisions"]
        told = [
            (block["queries"][each["query"]]["id"], texts[each["answer"]], each["scores"])
            for each in one["samples"]
        ]
        assert told == [
            (each["query"], each["answer"], each["scores"]) for each in node["verdicts"]
        ]
        assert [each["key"] for each in node["calls"]] == one["calls"]
        assert set(one["calls"]) <= set(block["calls"])
        assert len(set(texts)) == len(texts)


def test_every_call_of_a_candidate_is_told_with_one(run: Path) -> None:
    """Also the ones of which nothing came; a parent's count does not hold its children's."""
    trace = reader.trace(run)
    with reading(run) as db:
        placed = {
            row["key"] for row in db.query("select key from call where candidate is not null")
        }
        [(key,)] = db.execute("select call from rewrite where parent = 0 limit 1").fetchall()
    told = {node["candidate"]: {each["key"] for each in node["calls"]} for node in trace}
    assert set().union(*told.values()) == placed
    assert {node["candidate"] for node in trace if key in told[node["candidate"]]} <= {
        node["candidate"] for node in trace if node["parent"] == 0
    }


def test_calls_have_their_messages_tokens_time_and_cost(run: Path) -> None:
    """Of every role that led to the candidate."""
    block = documents.candidates(run, [1])
    roles = {call["role"] for call in block["calls"].values()}
    assert roles == {"rewriter", "target", "judge", "rewarder"}
    for call in block["calls"].values():
        assert all(block["texts"][text] for _, text in call["messages"])
        assert call["replies"]
        assert call["prompt_tokens"] > 0
        assert call["seconds"] >= 0
        assert call["cost_usd"] == 0


def test_a_prompt_stands_sentence_by_sentence_against_its_parents(run: Path) -> None:
    """What stayed and what came is the prompt; a root is compared with nothing."""
    block = documents.candidates(run, [0, 1])
    assert {kind for kind, _ in block["candidates"][0]["changes"]["system"]} == {"kept"}
    assert "added" in {kind for kind, _ in block["candidates"][1]["changes"]["system"]}


def test_an_alignment_has_all_its_searches_and_arms(aligned: Path) -> None:
    """And what every candidate of them is about."""
    told = documents.overview(aligned)
    assert [each["kind"] for each in told["searches"]][:3] == ["prompt", "arms", "example"]
    assert {arm["part"] for arm in told["arms"]} == {"select", "confirm"}
    assert {id_ // CANDIDATES_PER_SEARCH for id_ in told["tree"]["id"]} == {
        each["number"] for each in told["searches"]
    }
    for number in told["tree"]["id"]:
        assert number in documents.candidates(aligned, [number])["candidates"]


def test_what_levels_took_adds_up_to_what_the_run_took(aligned: Path) -> None:
    """Every paid call is at one level of one search."""
    told = documents.overview(aligned)
    rows = [role for level in told["levels"] for role in level["roles"].values()]
    calls = sum(each["new"] for each in told["summary"]["calls"].values())
    assert sum(row["calls"] for row in rows) == calls


def test_a_report_holds_every_document_of_the_server(run: Path) -> None:
    """Candidates in blocks that are found by their first one."""
    held = parts(report(run))
    told = json.loads(held["documents"])
    assert told["documents"][f"runs/{run.stem}"] == json.loads(json.dumps(documents.overview(run)))
    numbers = [node["candidate"] for node in reader.tree(run)]
    assert [first for first, *_ in told["blocks"]] == numbers[::BLOCK]
    found: dict[str, Any] = {}
    for _, *place in told["blocks"]:
        found |= unpacked(held["packed"], place)["candidates"]
    assert list(found) == [str(number) for number in numbers]
    for name in documents.MORE:
        again = json.loads(json.dumps(documents.more(run, name)))
        assert unpacked(held["packed"], told["packed"][f"runs/{run.stem}/{name}"]) == again


def test_the_same_run_makes_the_same_report(run: Path) -> None:
    """Byte for byte, so that two of them can be compared."""
    assert report(run) == report(run)


def test_a_page_runs_its_own_script_and_nothing_else(run: Path) -> None:
    """The policy names script and style by their hashes, and lets a report ask nobody."""
    for html, connects in ((report(run), "'none'"), (page({}, served=True), "'self'")):
        held = parts(html)
        [policy] = re.findall(r'Content-Security-Policy" content="([^"]+)"', html)
        rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
        for name in ("script", "style"):
            hashed = hashlib.sha256(held[name].encode()).digest()
            assert rules[f"{name}-src"] == f"'sha256-{base64.b64encode(hashed).decode()}'"
        assert rules["default-src"] == "'none'"
        assert rules["connect-src"] == connects
        assert not re.search(r'(?:src|href)="', html)
        assert "http://" not in html.replace("http://www.w3.org/2000/svg", "")
        assert "innerHTML =" not in held["script"]


def test_embedded_data_is_no_part_of_the_page() -> None:
    """Nothing in it ends the script or begins another; it reads back as it was."""
    said = {"text": "</script><script>alert(1)</script><!-- & \u2028\u2029 {{script}} \ud800"}
    held = embedded(said)
    assert not re.search("[<>&]", held)
    assert json.loads(held) == said
    assert parts(page(said))["documents"].endswith(held.removeprefix("{"))


def test_a_report_is_ascii_whatever_it_shows(run: Path, tmp_path: Path) -> None:
    """A browser reads it in half the time."""
    copy = tmp_path / run.name
    copy.write_bytes(run.read_bytes())
    with closing(sqlite3.connect(copy)) as db:
        db.execute("update run set reason = 'Grüße, 你好, \U0001f600'")
        db.execute("update text set body = body || 'é \u2028 \U0001f600'")
        db.commit()
    html = report(copy)
    assert html.isascii()
    [told] = json.loads(parts(html)["documents"])["documents"]["runs"]["runs"]
    assert told["reason"] == "Grüße, 你好, \U0001f600"


def test_sentences_are_found_with_those_who_have_them(run: Path) -> None:
    """Each once, however many candidates have it."""
    index = documents.sentence_index(run)
    assert len(set(index["sentences"])) == len(index["sentences"])
    assert list(index["candidates"]) == [node["candidate"] for node in reader.tree(run)]


def test_a_run_without_a_finished_level_has_a_page(tmp_path: Path) -> None:
    """And says in its place what there is not yet."""
    with pytest.raises(drpo.BudgetReached):
        drpo.optimize_blocking("experiment=smoke", "budget.calls=1", runs=tmp_path)
    [path] = tmp_path.glob("*.sqlite")
    assert parts(report(path))["documents"]


def test_runs_of_a_folder_are_listed_with_what_cannot_be_read(run: Path, tmp_path: Path) -> None:
    """The newest first."""
    (tmp_path / run.name).write_bytes(run.read_bytes())
    (tmp_path / "broken.sqlite").write_text("nothing")
    told = documents.run_rows(tmp_path)
    assert [row["run"] for row in told["runs"]] == [run.stem]
    assert told["unreadable"] == ["broken.sqlite"]


def test_drpo_report_writes_a_file_and_nothing_over_another(here: Here, tmp_path: Path) -> None:
    """Unless it is told to."""
    assert here("optimize", "experiment=smoke").returncode == 0
    assert here("report", "-o", "run.html").returncode == 0
    first = (tmp_path / "run.html").read_text("utf-8")
    assert first.startswith("<!doctype html>")
    refused = here("report", "-o", "run.html")
    assert refused.returncode == BadInput.exit_code
    assert refused.stderr == "drpo: 'run.html' is there already; --force writes over it\n"
    assert here("report", "-o", "run.html", "--force").returncode == 0
    nowhere = here("report", "-o", "no/run.html")
    assert nowhere.returncode == BadInput.exit_code
    assert nowhere.stderr.count("\n") == 1


def test_what_is_no_file_is_not_replaced_and_a_link_stays_one(here: Here, tmp_path: Path) -> None:
    """Also by force: a device would be gone."""
    drpo.optimize_blocking("experiment=smoke", runs=tmp_path / "runs")
    os.mkfifo(tmp_path / "pipe")
    refused = here("report", "-o", "pipe", "--force")
    assert (refused.returncode, refused.stderr.count("\n")) == (BadInput.exit_code, 1)
    assert (tmp_path / "pipe").is_fifo()
    (tmp_path / "link.html").symlink_to(tmp_path / "run.html")
    assert here("report", "-o", "link.html", "--force").returncode == 0
    assert (tmp_path / "link.html").is_symlink()
    assert parts((tmp_path / "run.html").read_text("utf-8"))["documents"]
