"""Writes docs/faults.md off the tests: `python tests/faults_page.py` runs those named by a row.

A test of row P1 is called `test_p1_...`, of two rows `test_p4_p5_...`.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

import typer

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "faults.md"
ROWS: Mapping[str, str] = {
    "P1": "the process is killed, anywhere",
    "P2": "... between an answer and its commit, around a checkpoint",
    "P3": "... before the first checkpoint",
    "P4": "Ctrl-C, once or twice",
    "P5": "SIGTERM",
    "P6": "memory over thousands of supersteps",
    "P7": "a crash loop",
    "P8": "two processes resume one run",
    "P9": "the clock jumps",
    "S1": "the disk is full",
    "S2": "a write fails",
    "S3": "another program holds the file",
    "S4": "another program reads the file without an end",
    "S5": "a file is copied while its run is going",
    "S6": "a file is truncated or corrupt",
    "S7": "a byte of a text is changed, or a text is missing",
    "S8": "a network file system",
    "S9": "growth of checkpoints and files",
    "C1": "the program changed since the run began",
    "C2": "other settings on resume",
    "C3": "a file of an older version",
    "C4": "a crafted file",
    "C5": "secrets in files, logs and messages",
    "C6": "bad input",
    "L1": "a server with too many requests, which says when to come again",
    "L2": "... later than anybody would wait",
    "L3": "a used-up account",
    "L4": "a broken or overloaded server",
    "L5": "no connection, or one that breaks in the middle of a reply",
    "L6": "a server that never answers",
    "L7": "a web page or garbage in place of a reply",
    "L8": "an error, or no choices, in a reply that says all is well",
    "L9": "a question longer than the model's context",
    "L10": "a wrong key or model",
    "L11": "a content filter",
    "L12": "a parameter that the model does not take",
    "M1": "a refusal",
    "M2": "an empty answer",
    "M3": "an answer that is cut off",
    "M4": "untidy JSON",
    "M5": "an answer of another form, or an aspect left out",
    "M6": "a score that is none",
    "M7": "a rewrite that cannot be used",
    "M8": "an aspect that the pool does not have",
    "M9": "failures over a share of a level",
    "M10": "the same question several times on purpose",
    "M11": "a model that thinks aloud",
    "M12": "a model without a system role",
    "M13": "a server that cuts long prompts without a word",
    "B1": "a limit on calls, tokens, dollars or seconds",
    "B2": "a server that counts no tokens",
    "B3": "a limit in dollars without a price",
    "I1": "an answer or query that gives the judge or rewriter orders",
    "I2": "text that a rationale or answer plants in the prompt",
    "I3": "template syntax and the like in data",
    "I4": "terminal escapes, markup and HTML in what models write",
    "I5": "a file that names code",
    "I6": "an artifact that is damaged, newer or huge",
    "I7": "a key that a provider echoes, or that stands in the settings",
}
"""What goes wrong, in short, by the row's id."""
HEAD = """\
<!-- Written by `python tests/faults_page.py`, which runs the tests that it names. -->
# Faults

What goes wrong, which tests hold drpo to coping with it, and how they ended when this page was
written. `python -m benchmarks.crash` kills a search a hundred times ([table](measurements.md)).

| row | fault | tests | result |
|---|---|---|---|
"""

Found = Mapping[str, Sequence[str]]
"""Names of tests by row."""


def tests_by_row() -> dict[str, list[str]]:
    """As their names say, in the order of the rows."""
    found: dict[str, list[str]] = {row: [] for row in ROWS}
    for path in sorted(TESTS.glob("test_*.py")):
        text = path.read_text("utf-8")
        for name in re.findall(r"^(?:async )?def (test_\w+)", text, re.MULTILINE):
            for row in rows_of(name):
                found[row].append(f"{path.stem}::{name}")
    return found


def rows_of(test: str) -> list[str]:
    """The ids at the beginning of a test's name."""
    begin = re.match(r"test_((?:[psclmbi]\d+_)+)", test)
    return [each.upper() for each in begin[1].strip("_").split("_")] if begin else []


def page(found: Found, passed: Mapping[str, tuple[int, int]]) -> str:
    """`passed` has how many of a test's cases passed, and how many there are."""
    rows = []
    for row, names in found.items():
        good = sum(passed[name][0] for name in names)
        cases = sum(passed[name][1] for name in names)
        result = f"{good} of {cases} passed"
        rows.append(f"| {row} | {ROWS[row]} | {', '.join(f'`{n}`' for n in names)} | {result} |")
    return HEAD + "\n".join(rows) + "\n"


def run(found: Found) -> dict[str, tuple[int, int]]:
    """How each of the tests ended."""
    names = sorted({name for names in found.values() for name in names})
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        ids = [f"{TESTS / name.replace('::', '.py::')}" for name in names]
        words = ["-m", "pytest", "-q", f"--junitxml={report}", *ids]
        subprocess.run([sys.executable, *words], cwd=TESTS.parent, check=False)
        cases = list(ET.parse(report).iter("testcase"))
    passed = dict.fromkeys(names, (0, 0))
    for case in cases:
        module = (case.get("classname") or "").rpartition(".")[2]
        name = f"{module}::{(case.get('name') or '').partition('[')[0]}"
        good, count = passed[name]
        passed[name] = (good + (len(case) == 0), count + 1)
    return passed


if __name__ == "__main__":
    by_row = tests_by_row()
    PAGE.write_text(page(by_row, run(by_row)), "utf-8")
    typer.echo(f"wrote {PAGE}")
