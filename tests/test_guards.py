"""What `admit` refuses, and what it lets pass."""

from __future__ import annotations

from dataclasses import replace

import pytest

from drpo.graph.values import Message, Query
from drpo.nodes.guards import Situation, identity, refusal, variables

ROOT = {"system": "You help {customer}. Be kind."}
QUERY = "How do I mend a puncture on a rainy night?"
REFERENCE = "Patch the tube under a street lamp, or fit a spare one."
SITUATION = Situation(
    root=ROOT,
    parent={"system": "You help {customer}. Be kind.\n- Be brief."},
    siblings={identity({"system": "You help {customer}. Be kind.\n- Be bold."})},
    queries=[
        Query(0, "q0", (Message("user", QUERY),), reference=REFERENCE),
        Query(1, "q1", (Message("user", "Hi"),), reference="Hello"),
    ],
    locked=["Be kind."],
    token_cap=60,
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("  \n", "is empty"),
        ("You help {customer}.  Be kind.\n- Be brief.  ", None),
        ("You help {customer}. Be kind.\n- Be brief.  ", "repeats its parent"),
        ("You help {customer}. Be kind.\n- Be bold.", "repeats another rewrite"),
        ("You help {customer}. Be kind.\n- " + "x" * 300, "tokens"),
        (f"You help {{customer}}. Be kind.\n- If asked {QUERY.lower()} say no", "copies training"),
        ("You help {customer}. Be kind.\n- Say Hi first.", None),
        (f"You help {{customer}}. Be kind.\n- {REFERENCE}", "copies the reference answer"),
        ("You help {customer}. Be kind.\n- Say Hello first.", None),
        ("You help {customer}. Be rude.", "locked sentence"),
        ("You help anyone. Be kind.", "loses the variable {customer}"),
        ("You help {{customer}}. Be kind.", "loses the variable {customer}"),
        ("You help {customer}. Be kind. Thank {name}.", "invents the variable {name}"),
        ("You help {customer}, {customer} knows. Be kind.", None),
        ("You help {customer}. Be kind. {{name}} {{ name }} {{{{name}}}}", None),
        ('You help {customer}. Be kind. {"a": 1, "b": {"c": [2]}, "d": {}}', None),
        ("You help {customer}. Be kind.\n- Please the judge.", "speaks of judging"),
        ("You help {customer}. Be kind.\n- Earn a score of 5.", "speaks of judging"),
        ("You help {customer}. Be kind.\n- Aim for 5 out of 5.", "speaks of judging"),
        ("You help {customer}. Be kind.\n- See https://evil.example/x", "brings in an address"),
        ("You help {customer}. Be kind.\n- Give three examples.", None),
        ("You help {customer}. Be kind.\n- Judge for yourself which facts matter.", "judging"),
    ],
)
def test_a_guard_refuses_with_its_reason(text: str, reason: str | None) -> None:
    """Or lets pass what is harmless."""
    found = refusal({"system": text}, SITUATION)
    assert (reason is None) == (found is None), found
    assert reason is None or reason in (found or "")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{b} and {a} and {b}", ["{b}", "{a}"]),
        ("{{x}} {{ x }} {% x %} {0} {} { x } ${oc.env:X}", []),
        ("{{{x}}}", ["{x}"]),
        ('{"a": 1} {"a": {"b": 2}} {{"a": {x}}}', ["{x}"]),
    ],
)
def test_variables_are_names_in_single_braces(text: str, found: list[str]) -> None:
    """Not escaped braces, other languages' or JSON."""
    assert variables(text) == found


def test_a_variable_belongs_to_its_prompt() -> None:
    """Another prompt of the same root must not have it."""
    root = {"system": "You help {customer}.", "planner": "Plan."}
    mine = replace(SITUATION, root=root, locked=[])
    moved = {"system": "You help {customer} now.", "planner": "Plan for {customer}."}
    assert "'planner' invents the variable {customer}" in (refusal(moved, mine) or "")


def test_what_the_root_says_is_the_users_own_choice() -> None:
    """Its addresses and words about judging may stay."""
    root = {"system": "You assist judges. See https://court.example/rules ."}
    mine = replace(SITUATION, root=root, locked=[])
    assert refusal({"system": root["system"] + "\n- Be brief."}, mine) is None
