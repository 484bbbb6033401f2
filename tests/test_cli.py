"""The `drpo` command as a user's shell sees it."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import Here

from drpo.checkpoints.runs import run_paths
from drpo.prompt_files import read_prompt
from drpo.run import GRACE_S
from drpo.settings import choices, compose_settings
from drpo.wording import escaped, plain

SMOKE = "experiment=smoke"
SLOW = [f"models.{role}.latency_ms=200" for role in ("target", "judge", "rewriter")]


def drpo(
    *words: str, folder: Path, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """One command in a folder, without a terminal and without a key."""
    known = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"}
    done = subprocess.run(
        [sys.executable, "-m", "drpo", *words],
        cwd=folder,
        env=known | (environment or {}),
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    # Said by a slow machine.
    done.stderr = done.stderr.replace("starting ...\n", "")
    return done


def told(*words: str, folder: Path, environment: dict[str, str] | None = None) -> dict[str, Any]:
    """The JSON of a command that has to succeed."""
    done = drpo(*words, "--json", folder=folder, environment=environment)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one finished run, to look at."""
    made = tmp_path_factory.mktemp("shown")
    told("optimize", SMOKE, folder=made)
    return made


@pytest.mark.parametrize("words", [("show",), ("optimize", SMOKE)])
def test_json_has_all_that_a_script_needs(words: tuple[str, ...], folder: Path) -> None:
    """Of the newest run, or of the one just made."""
    found = told(*words, folder=folder)
    for name in ("run_id", "status", "level", "tokens", "tree_sha256"):
        assert found[name]
    assert found["best"]["prompts"]["system"]
    assert isinstance(found["best"]["path_value"], float)
    for role in ("target", "rewarder", "judge", "rewriter"):
        assert set(found["calls"][role]) == {"new", "from_ledger"}


@pytest.mark.parametrize("view", ["summary", "tree", "trace"])
def test_each_view_is_text_or_json(view: str, folder: Path) -> None:
    """About the same run."""
    text = drpo("show", "--view", view, folder=folder)
    found = told("show", "--view", view, folder=folder)
    assert text.returncode == 0
    assert found["run_id"] in text.stdout


def test_a_result_on_the_sandbox_says_that_it_is_simulated(folder: Path) -> None:
    """Nobody should take its scores for real ones."""
    assert "simulated" in drpo("show", folder=folder).stdout
    assert "(simulated)" in drpo("show", "--view", "trace", folder=folder).stdout


def test_runs_are_found_in_the_named_folder(tmp_path: Path, folder: Path) -> None:
    """By --runs or DRPO_RUNS, by any unique beginning."""
    run_id = told("show", folder=folder)["run_id"]
    where = str(folder / "runs")
    by_option = drpo("show", run_id[:6], "--runs", where, "--json", folder=tmp_path)
    by_variable = drpo("show", run_id, "--json", folder=tmp_path, environment={"DRPO_RUNS": where})
    assert json.loads(by_option.stdout) == json.loads(by_variable.stdout)
    assert run_id[:8] in drpo("runs", "--runs", where, folder=tmp_path).stdout


TOO_LONG = "a" * 5000


def shortened(words: tuple[str, ...]) -> str:
    return " ".join(words)[:60]


BAD_INPUT = [
    ("optimize", "serch=paper"),
    ("optimize", "search=papr"),
    ("optimize", "search.levels=x"),
    ("optimize", "+search.x=1"),
    ("optimize", "a b"),
    ("optimize", "root=@nix.md"),
    ("optimize", "data.path=nix.jsonl"),
    ("optimize", "data.path=latin.txt"),
    ("optimize", "data.path=empty.txt"),
    ("optimize", "data.path=twice.txt"),
    ("optimize", "search.queries_per_level=3", "data.path=two.txt"),
    ("optimize", "prompts.folder=nix"),
    ("optimize", "root='  '"),
    ("optimize", "root={planner: plan}"),
    ("optimize", "models=openai"),
    ("optimize", "--runs", "two.txt", SMOKE),
    ("optimize", 'root="@~nobody_here/x"'),
    ("optimize", 'data.path="~nobody_here/x.txt"'),
    ("optimize", f"data.path={TOO_LONG}.txt"),
    ("optimize", f"prompts.folder={TOO_LONG}"),
    ("optimize", "root=@mark.txt"),
    ("init", TOO_LONG),
    ("runs", "--runs", TOO_LONG),
    ("runs", "--runs", "two.txt"),
    ("doctor", TOO_LONG),
    ("resume", "--edit", f"{'1' * 5000}=two.txt"),
    ("resume", "--edit", "1=mark.txt"),
    ("resume", "--add", "mark.txt"),
    ("resume",),
    ("resume", "a", "b"),
    ("show", "zzz"),
    ("show", "--view", "nix"),
    ("show", "--nix"),
    ("nix",),
]


@pytest.mark.parametrize("words", BAD_INPUT, ids=shortened)
def test_c6_bad_input_is_one_line_and_writes_nothing(
    words: tuple[str, ...], here: Here, tmp_path: Path
) -> None:
    """Exit code 2, no traceback."""
    refused(words, here, tmp_path)


def refused(words: tuple[str, ...], here: Here, tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    (tmp_path / "empty.txt").touch()
    (tmp_path / "mark.txt").write_bytes(b"\xef\xbb\xbf \n")
    (tmp_path / "twice.txt").write_text("a\na\n")
    (tmp_path / "two.txt").write_text("a\nb\n")
    before = sorted(tmp_path.rglob("*"))
    done = here(*words)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("This search makes")]
    assert done.returncode == 2, done.stderr
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("drpo: ")
    assert not done.stdout
    assert sorted(tmp_path.rglob("*")) == before


WITHOUT_A_RUN = ("optimize models=openai", f"optimize --runs two.txt {SMOKE}")
"""What an estimate does not mind: it needs no key, and no folder."""


@pytest.mark.parametrize(
    "words",
    [
        ("estimate", *words[1:])
        for words in [*BAD_INPUT, ("optimize", "-m", "seed=1,2")]
        if words[0] == "optimize" and " ".join(words) not in WITHOUT_A_RUN
    ],
    ids=shortened,
)
def test_an_estimate_refuses_what_a_search_refuses(
    words: tuple[str, ...], here: Here, tmp_path: Path
) -> None:
    """In the same words, with the same code."""
    refused(words, here, tmp_path)


def test_bad_input_of_a_process_of_its_own(tmp_path: Path) -> None:
    """As a shell sees it."""
    done = drpo("optimize", "serch=paper", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("drpo: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("words", [(SMOKE,), ("models=openai", "--runs", "elsewhere")])
def test_an_estimate_needs_no_key_and_writes_nothing(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    """A table, a line on what it assumes, and dollars."""
    done = drpo("estimate", *words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0] for line in done.stdout.splitlines()}
    assert {"role", "target", "rewarder", "judge", "rewriter", "total", "Expected:"} <= rows
    assert "$" in done.stdout
    assert not list(tmp_path.iterdir())


def test_an_estimate_in_json_is_the_one_kept_with_the_run(folder: Path) -> None:
    """What `drpo show` sets against what the run took."""
    found = told("show", folder=folder)
    assert found["estimate"] == told("estimate", SMOKE, folder=folder)
    assert found["estimate"]["total"]["calls"]["high"] >= 1


def test_show_sets_the_estimate_against_what_it_took(folder: Path) -> None:
    """In one plain line; on the sandbox without dollars."""
    found = told("show", folder=folder)
    took = sum(count["new"] for count in found["calls"].values())
    calls = found["estimate"]["total"]["calls"]
    line = f"Estimated {calls['expected']} calls ({calls['low']} to {calls['high']}); took {took}."
    assert line in drpo("show", folder=folder).stdout.splitlines()


def test_a_run_without_an_estimate_is_shown_without_one(tmp_path: Path) -> None:
    """As one that an older drpo made, whose file lacks even the column."""
    told("optimize", SMOKE, folder=tmp_path)
    [path] = run_paths(tmp_path / "runs")
    with closing(sqlite3.connect(path)) as old, old:
        old.execute("alter table run drop column estimate")
    assert told("show", folder=tmp_path)["estimate"] is None
    assert "Estimated" not in drpo("show", folder=tmp_path).stdout


def test_a_paid_search_says_first_what_it_takes(tmp_path: Path) -> None:
    """Calls and dollars, expected and highest, before anything is asked."""
    prices = [f"models.judge.price_{way}=1" for way in ("in", "out")]
    known = drpo("optimize", "provider@models.judge=openai", *prices, folder=tmp_path)
    unknown = drpo(
        "optimize", "provider@models.judge=openai", "models.judge.model=x", folder=tmp_path
    )
    calls = told("estimate", "provider@models.judge=openai", folder=tmp_path)["total"]["calls"]
    said = f"about {calls['expected']:,} model calls, at most {calls['high']:,}"
    first = known.stderr.splitlines()[0]
    assert first.startswith(f"This search makes {said}, for about $0.")
    assert "probably below $1." in first
    assert unknown.stderr.splitlines()[0].endswith(f"{said}; what they cost is unknown.")


def test_a_multirun_makes_a_run_each(tmp_path: Path) -> None:
    """Through Hydra's own `-m`."""
    done = drpo("optimize", SMOKE, "-m", "seed=1,2,3", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(run_paths(tmp_path / "runs")) == 3


def test_a_used_up_budget_has_its_own_code_and_can_be_raised(tmp_path: Path) -> None:
    """The best so far is told, and so is how to go on."""
    whole = told("optimize", "search=greedy", "--runs", "whole", folder=tmp_path)
    stopped = drpo("optimize", "search=greedy", "budget.calls=20", folder=tmp_path)
    assert stopped.returncode == 4
    assert "Best prompt so far" in stopped.stdout
    assert "drpo resume" in stopped.stderr.splitlines()[-1]
    assert drpo("resume", "search.levels=3", folder=tmp_path).returncode == 2
    resumed = told("resume", "budget.calls=null", folder=tmp_path)
    assert resumed["tree_sha256"] == whole["tree_sha256"]
    assert told("resume", folder=tmp_path) == resumed


@contextmanager
def heeding_interrupts() -> Iterator[None]:
    """A suite that was started in the background ignores them, and so would its children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def interrupted(number: int, times: int, folder: Path, *words: str, at: bytes = b"level 2/") -> int:
    """Exit code of a slow search that gets a signal once it says `at`."""
    command = [sys.executable, "-m", "drpo", "optimize", "search=greedy", *(words or SLOW)]
    with (
        heeding_interrupts(),
        subprocess.Popen(
            command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as process,
    ):
        assert process.stderr is not None
        for line in process.stderr:
            if at in line:
                break
        for _ in range(times):
            process.send_signal(number)
            time.sleep(0.05)
        process.communicate(timeout=120)
        return process.returncode


@pytest.mark.parametrize(
    ("number", "times"), [(signal.SIGINT, 1), (signal.SIGTERM, 1), (signal.SIGINT, 2)]
)
def test_p4_p5_a_signal_leaves_a_run_that_can_be_resumed(
    number: int, times: int, tmp_path: Path
) -> None:
    """The first drains, the second cancels; both end in code 3."""
    assert interrupted(number, times, tmp_path) == 3
    assert told("show", folder=tmp_path)["status"] == "paused"
    whole = told("optimize", "search=greedy", "--runs", "whole", folder=tmp_path)
    assert told("resume", folder=tmp_path)["tree_sha256"] == whole["tree_sha256"]


def test_p4_the_second_signal_waits_for_no_call(tmp_path: Path) -> None:
    """Calls of a minute are left alone after the seconds of grace."""
    endless = [f"models.{role}.latency_ms=60000" for role in ("target", "rewarder", "judge")]
    begun = time.monotonic()
    assert interrupted(signal.SIGINT, 2, tmp_path, *endless, at=b"level 0/") == 3
    assert time.monotonic() - begun < 110
    assert GRACE_S < 5
    assert told("show", folder=tmp_path)["status"] == "paused"


def test_a_search_does_not_depend_on_the_process(tmp_path: Path) -> None:
    """Nor on the order of Python's sets, which every process has of its own."""
    words = ("optimize", "search.levels=5")
    trees = {
        told(*words, "--runs", name, folder=tmp_path, environment={"PYTHONHASHSEED": name})[
            "tree_sha256"
        ]
        for name in ("1", "2", "3")
    }
    assert len(trees) == 1


def test_a_killed_run_is_shown_as_paused(tmp_path: Path) -> None:
    """Its process could not say so itself."""
    interrupted(signal.SIGKILL, 1, tmp_path)
    found = told("show", folder=tmp_path)
    assert (found["status"], found["reason"]) == ("paused", "the process ended without a word")


HEAVY = ("langgraph", "langchain", "langchain_core", "langchain_openai", "openai", "torch", "hydra")


@pytest.mark.parametrize(
    "code", ["import drpo", "import drpo.cli\ntry: drpo.cli.main(['--help'])\nexcept SystemExit: 0"]
)
def test_help_and_import_load_nothing_heavy(code: str, tmp_path: Path) -> None:
    """They answer at once."""
    code += "\nimport sys, json; print(json.dumps([name.split('.')[0] for name in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert "drpo" in loaded
    assert not loaded & set(HEAVY)


@pytest.mark.parametrize("verb", ["optimize", "estimate"])
def test_the_shell_can_complete_choices(verb: str, tmp_path: Path) -> None:
    """As the installed bash function asks."""
    line = {"COMP_LINE": f"drpo {verb} search="}
    done = drpo("-sc", "query=bash", folder=tmp_path, environment=line)
    assert done.stdout.split() == [f"search={name}" for name in choices("search")]


def test_what_a_prompt_says_does_nothing_to_the_terminal(tmp_path: Path) -> None:
    """Escapes are shown as marks, markup as text."""
    (tmp_path / "evil.md").write_text("\x1b[31mred\x1b]0;title\x07 [bold]x[/bold] {system}\n")
    done = drpo("optimize", SMOKE, "root=@evil.md", folder=tmp_path)
    shown = drpo("show", "--view", "trace", folder=tmp_path)
    for output in (done.stdout, shown.stdout):
        assert "\x1b" not in output
        assert "[bold]x[/bold]" in output


def test_plain_keeps_lines_and_tabs() -> None:
    """And nothing else of what a terminal acts on."""
    assert plain("a\tb\nc\x1b\x9b\u202ed") == "a\tb\nc\ufffd\ufffd\ufffdd"


@pytest.mark.parametrize("sign", ["\u200b", "\u2060", "\u2063", "\ufeff", "\U000e0041"])
def test_what_shows_nothing_is_shown(sign: str) -> None:
    """A prompt may hide words in it that only a model reads; JSON means the same without it."""
    assert plain(f"a{sign}b") == "a\ufffdb"
    told = json.dumps([f"a{sign}b"], ensure_ascii=False)
    assert sign not in escaped(told)
    assert json.loads(escaped(told)) == [f"a{sign}b"]


def test_what_scripts_and_emoji_need_stays() -> None:
    """Joiners, and the marks of scripts that are written from right to left."""
    for text in ("\U0001f469\u200d\U0001f680", "\u0645\u06cc\u200c\u062e", "\u05d0\u200f!"):
        assert plain(text) == text


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="there is no full device here")
def test_output_that_cannot_be_written_is_one_line(folder: Path) -> None:
    """And a closed one is none, as with any command of Python's."""
    shown = f"{sys.executable} -m drpo show"
    for where, code, said in ((">/dev/full", 1, "No space left on device"), (">&-", 0, "")):
        done = subprocess.run(
            f"{shown} {where}", shell=True, cwd=folder, capture_output=True, text=True, check=False
        )
        assert (done.returncode, said in done.stderr) == (code, True)
        assert done.stderr.count("drpo:") == bool(said)
        assert "Traceback" not in done.stderr


def test_a_closed_pipe_is_no_error(folder: Path) -> None:
    """`drpo show | head` ends quietly."""
    command = f"{sys.executable} -m drpo show --view trace | head -1"
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""


def test_a_trace_explains_every_candidate_of_a_long_search(tmp_path: Path) -> None:
    """Parent, verdicts that led to it, selection and reason, scores, fate, and calls."""
    told("optimize", "search=paper", "search.levels=30", folder=tmp_path)
    found = told("show", "--view", "trace", folder=tmp_path)
    assert found["level"] >= 30
    nodes = {node["candidate"]: node for node in found["candidates"]}
    keys: set[str] = set()
    for node in nodes.values():
        assert (node["parent"] is None) == (node["origin"] == "root")
        if node["parent"] is not None:
            assert nodes[node["parent"]]["verdicts"]
        assert all(selection["reason"] for selection in node["selections"])
        scores = [score for verdict in node["verdicts"] for score in verdict["scores"]]
        assert all(score["value"] or score["unscored"] for score in scores)
        assert any(said.startswith(("kept: ", "dropped: ")) for said in node["decisions"])
        roles = [call["role"] for call in node["calls"]]
        assert roles == ["rewriter"] * (node["origin"] == "rewrite") + ["target", "judge"]
        keys |= {call["key"] for call in node["calls"]}
        keys |= {selection["call"] for selection in node["selections"]}
    assert len(keys) == sum(count["new"] for count in found["calls"].values())


def test_an_estimate_reads_what_a_search_reads(tmp_path: Path) -> None:
    """A .env with another server makes the price unknown."""
    words = ("estimate", "models=openai", "--json")
    assert told(*words, folder=tmp_path)["total"]["cost_usd"] is not None
    (tmp_path / ".env").write_text("OPENAI_BASE_URL=http://127.0.0.1:1/v1\n")
    assert told(*words, folder=tmp_path)["total"]["cost_usd"] is None


@pytest.mark.parametrize("verb", ["estimate", "optimize", "resume", "fork", "doctor"])
def test_c6_an_env_file_that_cannot_be_read_is_named(verb: str, here: Here, tmp_path: Path) -> None:
    """By every command that reads it."""
    (tmp_path / ".env").write_bytes(b"OPENAI_API_KEY=caf\xe9\n")
    done = here(verb, *(["models=sandbox"] if verb == "doctor" else []))
    assert (done.returncode, done.stderr) == (2, "drpo: .env: it is not UTF-8 (byte 18)\n")


def test_c6_a_byte_order_mark_is_no_part_of_a_prompt(tmp_path: Path) -> None:
    """Some editors write one."""
    file = tmp_path / "mine.md"
    file.write_bytes(b"\xef\xbb\xbfHelp.\n")
    assert compose_settings([f"root=@{file}"]).root == {"system": "Help."}
    assert read_prompt(file) == "Help."
