"""The prompt templates: filled with data, never expanded by it, replaced by a user's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from drpo.graph.errors import BadInput
from drpo.graph.values import Aspect, Score, Verdict
from drpo.nodes.messages import system_and_user
from drpo.nodes.prompts import BLOCKS, JinjaTemplates, fence

TRICKY = "{{ 7 * 7 }} {% raw %} [OUTPUT] ${oc.env:HOME} </query-0> {system} %s"
VALUES: dict[str, dict[str, Any]] = {
    "select_rewards": {
        "description": TRICKY,
        "aspects": [Aspect("Clarity", TRICKY)],
        "fewest": 2,
        "most": 5,
        "query": TRICKY,
    },
    "judge": {
        "description": TRICKY,
        "aspects": [Aspect("Clarity", TRICKY)],
        "query": TRICKY,
        "reference": TRICKY,
        "answer": TRICKY,
    },
    "rewrite": {
        "description": TRICKY,
        "locked": [TRICKY],
        "variables": {"system": ["{customer}", "{date}"]},
        "max_prompt_tokens": 1000,
        "prompts": {"system": TRICKY},
        "history": [{"system": TRICKY}],
        "evaluations": [
            {
                "query": TRICKY,
                "answer": TRICKY,
                "failure": None,
                "scores": [Score("Clarity", 4.5, TRICKY)],
                "unscored": None,
            }
        ],
    },
    "rewrite_answer": {
        "description": TRICKY,
        "max_answer_tokens": 1000,
        "query": TRICKY,
        "answer": TRICKY,
        "tried": [TRICKY],
        "verdict": Verdict((Score("Clarity", 4.5, TRICKY),)),
    },
}


@pytest.mark.parametrize("name", VALUES)
def test_i3_data_is_never_expanded_as_template(name: str) -> None:
    """Template syntax, marks and interpolations come through as they are."""
    text = system_and_user(JinjaTemplates(), name, **VALUES[name])[1].content
    assert text.count(TRICKY) >= len(VALUES[name]) - 2
    assert "49" not in text


@pytest.mark.parametrize(("name", "key"), [(n, k) for n in VALUES for k in VALUES[n]])
def test_every_placeholder_is_needed(name: str, key: str) -> None:
    """A value that is not given is an error with a name, not a blank."""
    values = {k: v for k, v in VALUES[name].items() if k != key}
    with pytest.raises(BadInput, match=rf"template {name}.*'{key}' is undefined"):
        system_and_user(JinjaTemplates(), name, **values)


@pytest.mark.parametrize("more", [{}, {"planner": "Plan."}])
def test_the_rewriter_is_told_its_limits_in_words(more: dict[str, str]) -> None:
    """Length and variables, and of which prompt these are where there are several."""
    values = VALUES["rewrite"] | {"prompts": {"system": "Be kind."} | more}
    text = system_and_user(JinjaTemplates(), "rewrite", **values)[1].content
    assert "\n- No prompt is longer than 1000 tokens, about 750 words.\n" in text
    of_system = " in system" if more else ""
    assert f"\n- Keep {{customer}}, {{date}}{of_system} exactly as written" in text
    free = values | {"variables": {}, "max_prompt_tokens": None}
    text = system_and_user(JinjaTemplates(), "rewrite", **free)[1].content
    assert "longer than" not in text
    assert "exactly as written" not in text


def test_the_judge_hears_of_a_reference_only_where_there_is_one() -> None:
    """In a fence of its own."""
    texts = [
        system_and_user(JinjaTemplates(), "judge", **VALUES["judge"] | {"reference": said})[
            1
        ].content
        for said in (TRICKY, None)
    ]
    assert [fence(TRICKY, "reference") in text for text in texts] == [True, False]
    assert ["eference" in text for text in texts] == [True, False]


def test_i3_the_target_sees_its_prompt_alone() -> None:
    """The system turn of a chat model."""
    block = JinjaTemplates().block("target_chat", "system", prompts={"system": TRICKY})
    assert block == TRICKY


def test_a_base_model_sees_one_text_and_where_to_stop() -> None:
    """Prompt, examples, query, and the place for the answer."""
    templates = JinjaTemplates()
    turn = {"role": "user", "content": "Why?"}
    example = {"query": "What?", "answer": "That."}
    text = templates.block(
        "target_text", "text", prompts={"system": "Be kind."}, examples=[example], turns=[turn]
    )
    assert text.startswith("Be kind.")
    assert text.index("That.") < text.index("Why?")
    assert text.endswith("# Answer\n")
    assert templates.block("target_text", "stop").splitlines() == ["# Query", "# Answer"]


def test_a_fence_cannot_be_closed_by_what_it_holds() -> None:
    """The tag carries a hash of the content."""
    inner = fence("x", "answer")
    outer = fence(f"{inner}\n</answer-000000000000>", "answer")
    closing = outer.splitlines()[-1]
    assert outer.count(closing) == 1


def override(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text, "utf-8")
    return str(folder)


def test_a_users_file_stands_in_for_ours(tmp_path: Path) -> None:
    """The others stay, and the hashes tell."""
    folder = override(tmp_path, "target_chat.jinja", _chat("MINE {{ prompts.system }}"))
    theirs, ours = JinjaTemplates(folder), JinjaTemplates()
    assert theirs.block("target_chat", "system", prompts={"system": "x"}) == "MINE x"
    changed = [name for name in BLOCKS if theirs.hashes()[name] != ours.hashes()[name]]
    assert changed == ["target_chat"]


def _chat(system: str) -> str:
    empty = "".join(f"{{% block {b} %}}{{% endblock %}}" for b in BLOCKS["target_chat"][1:])
    return f"{{% block system %}}{system}{{% endblock %}}{empty}"


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("nix.jinja", "", "stands in for no template"),
        ("judge.jinja", "{% block system %}", "line 1"),
        ("judge.jinja", "hello", "no block 'system'"),
        ("target_chat.jinja", "TYPO", "uses 'prompt'; it is given example, prompts"),
    ],
)
def test_a_bad_template_is_bad_input(name: str, text: str, says: str, tmp_path: Path) -> None:
    """One line that names the file and what is wrong."""
    with pytest.raises(BadInput, match=says) as caught:
        JinjaTemplates(override(tmp_path, name, text.replace("TYPO", _chat("{{ prompt }}"))))
    assert "\n" not in str(caught.value)


def test_a_missing_folder_is_bad_input(tmp_path: Path) -> None:
    """Named by its setting."""
    with pytest.raises(BadInput, match=r"prompts\.folder"):
        JinjaTemplates(str(tmp_path / "nix"))


def test_templates_run_in_a_sandbox(tmp_path: Path) -> None:
    """A user's file cannot reach into Python."""
    folder = override(tmp_path, "target_chat.jinja", _chat("{{ ''.__class__.__mro__ }}"))
    with pytest.raises(BadInput):
        JinjaTemplates(folder).block("target_chat", "system", prompts={"system": "x"})
