"""A user's own drpo.yaml: composed after the shipped configuration, before the command line."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import drpo
from drpo.conf.schema import Settings
from drpo.config_file import own_words
from drpo.settings import compose_settings


def composed(folder: Path, text: str, *overrides: str) -> Settings:
    """Settings from a file of that text, and overrides."""
    path = folder / "drpo.yaml"
    path.write_text(text, "utf-8")
    return compose_settings([*own_words(path), *overrides])


def test_a_file_sets_values_and_chooses(tmp_path: Path) -> None:
    """A text for a folder of the configuration is a choice, a mapping sets its values."""
    settings = composed(tmp_path, "search: paper\nbudget: {calls: 7}\ntask: {description: Bikes}\n")
    assert settings.search.levels == 20
    assert settings.budget.calls == 7
    assert settings.task.description == "Bikes"


def test_the_command_line_goes_before_the_file(tmp_path: Path) -> None:
    """For choices and for values."""
    text = "search: paper\nbudget: {calls: 7}\n"
    settings = composed(tmp_path, text, "search=greedy", "budget.calls=9")
    assert settings.search.strategy == "greedy"
    assert settings.budget.calls == 9


def test_an_aspect_of_ones_own_takes_three_lines(tmp_path: Path) -> None:
    """It joins those that drpo knows."""
    settings = composed(
        tmp_path, "rewards:\n  aspects:\n    House style: It says bike, never bicycle.\n"
    )
    assert settings.rewards.aspects["House style"] == "It says bike, never bicycle."
    assert len(settings.rewards.aspects) == 15


def test_headers_of_the_file_and_of_the_command_line_are_both_sent(tmp_path: Path) -> None:
    """Of a name that both have, the command line's."""
    text = "openai: {headers: {X-A: a, X-B: b}}\n"
    openai = composed(tmp_path, text, "openai.headers={X-B: c}", "openai.headers.X-D=d").openai
    assert openai.headers == {"X-A": "a", "X-B": "c", "X-D": "d"}


def test_one_section_names_the_server_of_every_role(tmp_path: Path) -> None:
    """And a role may have its own all the same."""
    text = (
        "models: openai\n"
        "openai: {model: small, base_url: 'http://127.0.0.1:1/v1', api_key_env: MY_KEY}\n"
    )
    models = composed(tmp_path, text, "models.judge.model=large").models.model_dump()
    assert {each["provider"] for each in models.values()} == {"openai"}
    assert (models["target"]["model"], models["judge"]["model"]) == ("small", "large")
    assert models["rewriter"]["base_url"] == "http://127.0.0.1:1/v1"
    assert models["rewarder"]["api_key_env"] == "MY_KEY"


def test_paths_are_meant_from_the_files_folder(tmp_path: Path) -> None:
    """Root, data and templates; the shipped data sets are no paths."""
    (tmp_path / "prompt.md").write_text("You mend bicycles.")
    text = 'root: "@prompt.md"\ndata: {path: mine.jsonl}\nprompts: {folder: own}\n'
    text += "ledger: {reuse: other.sqlite}\n"
    settings = composed(tmp_path, text)
    named = composed(tmp_path, 'root: {system: "@prompt.md"}\n')
    assert settings.root == named.root == {"system": "You mend bicycles."}
    assert settings.data.path == str(tmp_path / "mine.jsonl")
    assert settings.prompts.folder == str(tmp_path / "own")
    assert settings.ledger.reuse == str(tmp_path / "other.sqlite")
    assert composed(tmp_path, "data: {path: ~/q.jsonl}\n").data.path == "~/q.jsonl"
    assert composed(tmp_path, "data: {path: 'builtin:train'}\n").data.path == "builtin:train"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("serch: paper\n", "'serch' is no setting; did you mean search"),
        ("search: papr\n", "there is no such choice; did you mean paper"),
        ("search: {levles: 3}\n", "'search.levles' is no setting; did you mean search.levels"),
        ("search: {levels: x}\n", "search.levels"),
        ("search: [a]\n", "drpo.yaml: search: write `name: value` lines"),
        ("models: {target: [a]}\n", "drpo.yaml: models.target: write `name: value` lines"),
        ("a: [\n", "line 2"),
        ("just words\n", "name: value"),
        ("hydra: {launcher: {_target_: os.system}}\n", "'hydra' is no setting"),
        ("budget: {_target_: os.system}\n", "'budget._target_' is no setting"),
        ("experiment: 3\n", "there is no such choice"),
        ('root: "Use ${name"\n', "drpo.yaml"),
        ("task: {description: 2024-01-01}\n", "drpo.yaml"),
        ("task: {description: 2024-13-45}\n", "drpo.yaml"),
        ("rewards: {aspects: {2024-01-01: x}}\n", "drpo.yaml"),
        ('task: {description: "\\ud800"}\n', "task.description: "),
        ('root: "@a\\0b"\n', "null byte"),
        ("task: &x {description: *x}\n", "contains itself"),
    ],
)
def test_a_mistake_in_the_file_is_named(text: str, said: str, tmp_path: Path) -> None:
    """In one line."""
    with pytest.raises(drpo.BadInput) as raised:
        composed(tmp_path, text)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [None, b"caf\xe9: 1\n"])
def test_a_file_that_cannot_be_read_is_named(content: bytes | None, tmp_path: Path) -> None:
    """Missing though it was asked for, or not UTF-8."""
    path = tmp_path / "mine.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(drpo.BadInput, match=r"mine\.yaml"):
        own_words(path)


def test_without_a_file_nothing_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And an empty one changes nothing."""
    monkeypatch.chdir(tmp_path)
    assert own_words(None) == []
    Path("drpo.yaml").touch()
    assert compose_settings(own_words(None)) == compose_settings([])


async def test_searches_side_by_side_have_their_own_files(tmp_path: Path) -> None:
    """Hydra keeps one store a process."""
    paths = [tmp_path / f"{seed}.yaml" for seed in range(6)]
    for seed, path in enumerate(paths):
        path.write_text(f"experiment: smoke\nseed: {seed}\n")
    searches = (drpo.optimize(config=path, runs=tmp_path / "runs") for path in paths)
    results = await asyncio.gather(*searches)
    assert [result.summary["seed"] for result in results] == list(range(6))


async def test_from_python_a_file_is_read_when_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never because it happens to lie there."""
    monkeypatch.chdir(tmp_path)
    Path("drpo.yaml").write_text("experiment: smoke\nseed: 4\n")
    named = await drpo.optimize(config="drpo.yaml")
    assert named.summary["seed"] == 4
    assert drpo.estimate().total.calls.high > drpo.estimate(config="drpo.yaml").total.calls.high
