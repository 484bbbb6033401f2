"""The artifact: what is in it, what of a file is refused, what needs trust."""

from __future__ import annotations

import json
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import artifact_schema
import pytest
from jsonschema import Draft202012Validator
from langchain_core.language_models.fake_chat_models import FakeListChatModel

import drpo
from drpo import artifact as artifacts
from drpo.acting import check_trust
from drpo.artifact import (
    Artifact,
    Confirmed,
    artifact_text,
    content_sha256,
    read_artifact,
    sealed,
    write_artifact,
)
from drpo.graph.errors import BadInput
from drpo.graph.values import Example
from drpo.provenance import artifact_of_run, artifact_with

ROOT = Path(__file__).parents[1]
OPENAI = {"provider": "openai", "model": "m"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search on the sandbox."""
    return drpo.optimize_blocking("experiment=smoke", runs=tmp_path_factory.mktemp("runs")).path


@pytest.fixture(scope="module")
def made(run: Path) -> Artifact:
    return artifact_of_run(run)


def values_of(artifact: Artifact) -> dict[str, Any]:
    return dict(json.loads(artifact_text(artifact)))


def changed(artifact: Artifact, **changes: Any) -> Artifact:
    """The same with other content, sealed again."""
    values = values_of(artifact)
    content = {
        name: value for name, value in values.items() if name not in artifacts.BESIDE_CONTENT
    }
    return sealed(content | changes, artifact.provenance)


def written(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "a.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    return path


def test_it_comes_back_as_it_was_written(made: Artifact, tmp_path: Path) -> None:
    """By everybody on the machine, and nothing else is left in the folder."""
    write_artifact(tmp_path / "a.json", made)
    assert read_artifact(tmp_path / "a.json") == made
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"]
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o644


def test_made_twice_it_is_the_same(run: Path) -> None:
    """Byte for byte."""
    assert artifact_text(artifact_of_run(run)) == artifact_text(artifact_of_run(run))


def test_it_loads_where_the_run_is_not(run: Path, made: Artifact, tmp_path: Path) -> None:
    """It is all there."""
    copy = tmp_path / run.name
    copy.write_bytes(run.read_bytes())
    write_artifact(tmp_path / "a.json", artifact_of_run(copy))
    copy.unlink()
    with drpo.load(tmp_path / "a.json") as model:
        assert model.invoke("Hello?").text


def test_it_says_where_it_comes_from(run: Path, made: Artifact) -> None:
    """All of it read off the run's file."""
    told, summary = made.provenance, artifact_summary(run)
    assert told.run_id == summary["run_id"]
    assert told.date == summary["created_at"]
    assert told.simulated
    assert told.confirm is None
    assert told.found.candidate == summary["best"]["candidate"]
    assert made.prompts == summary["best"]["prompts"]
    assert sum(told.calls.values()) == sum(each["new"] for each in summary["calls"].values())


def artifact_summary(run: Path) -> dict[str, Any]:
    from drpo.checkpoints.reader import summary

    return summary(run)


def test_examples_and_a_confirmed_gain_come_in(run: Path) -> None:
    """From whoever makes the artifact."""
    confirm = Confirmed(estimate=0.4, p=0.01, interval=(0.1, 0.7), n=40)
    told = artifact_with(run, examples=[Example("q", "a")], confirm=confirm)
    assert told.shown == (Example("q", "a"),)
    assert told.provenance.confirm == confirm


def test_the_published_schema_is_that_of_the_types() -> None:
    """`python tests/artifact_schema.py > docs/artifact.schema.json`."""
    published = (ROOT / "docs" / "artifact.schema.json").read_text("utf-8")
    assert published == artifact_schema.text()


def test_a_written_artifact_is_valid(made: Artifact, tmp_path: Path) -> None:
    """By a validator that nobody here wrote; one with a field too many is not."""
    write_artifact(tmp_path / "a.json", made)
    values = json.loads((tmp_path / "a.json").read_text("utf-8"))
    published = json.loads((ROOT / "docs" / "artifact.schema.json").read_text("utf-8"))
    Draft202012Validator.check_schema(published)
    validator = Draft202012Validator(published)
    assert not list(validator.iter_errors(values))
    assert list(validator.iter_errors(values | {"more": 1}))


def test_headers_are_names_of_variables(run: Path, tmp_path: Path) -> None:
    """In the target and in the settings, though a run may hold plain ones."""
    copy = tmp_path / run.name
    copy.write_bytes(run.read_bytes())
    with sqlite3.connect(copy) as db:
        [[text]] = db.execute("select settings from run")
        settings = json.loads(text)
        settings["models"]["target"] = OPENAI | {"headers": {"X-Title": "plain-word"}}
        settings["openai"]["headers"] = {"X-Team": "env:TEAM"}
        db.execute("update run set settings = ?", [json.dumps(settings)])
    db.close()
    told = artifact_of_run(copy)
    assert told.target.headers == {"X-Title": "env:DRPO_HEADER_X_TITLE"}  # type: ignore[union-attr]  # made so
    assert "env:TEAM" in artifact_text(told)
    assert "plain-word" not in artifact_text(told)
    values = values_of(told)
    values["target"]["headers"] = {"X-Title": "plain-word"}
    values["content_sha256"] = content_sha256(values)
    with pytest.raises(BadInput, match="environment variable"):
        read_artifact(written(tmp_path, json.dumps(values)))


def test_a_template_of_the_users_own_comes_along(tmp_path: Path) -> None:
    """Its source, because drpo does not bring it; and it needs trust where it is used."""
    folder = tmp_path / "templates"
    folder.mkdir()
    shipped = (ROOT / "nodes" / "templates" / "target_chat.jinja").read_text("utf-8")
    own = shipped.replace("{{ prompts.system }}", "{{ prompts.system }} Amen.")
    (folder / "target_chat.jinja").write_text(own, "utf-8")
    result = drpo.optimize_blocking("experiment=smoke", f"prompts.folder={folder}", runs=tmp_path)
    write_artifact(tmp_path / "a.json", artifact_of_run(result.path))
    (folder / "target_chat.jinja").unlink()
    with pytest.raises(BadInput, match="'template'"):
        drpo.load(tmp_path / "a.json")
    with drpo.load(tmp_path / "a.json", trusted=["template"]) as model:
        assert str(model.messages("Hello?")[0].content).endswith(" Amen.")
    with pytest.raises(BadInput, match="changed in"):
        artifact_of_run(result.path)


def test_a_template_that_this_drpo_does_not_have_is_refused(made: Artifact, tmp_path: Path) -> None:
    """Rather than other messages sent than those that the prompt was found with."""
    chat = values_of(made)["chat"]
    chat["templates"]["target_chat"]["sha256"] = "0" * 64
    write_artifact(tmp_path / "a.json", changed(made, chat=chat))
    with pytest.raises(BadInput, match="another target_chat"):
        drpo.load(tmp_path / "a.json")


Damage = Callable[[str], str | bytes]


def _with(**changes: Any) -> Damage:
    return lambda text: json.dumps(json.loads(text) | changes)


def _number(said: str) -> Damage:
    return lambda text: text.replace('"k": 2', f'"k": {said}')


DAMAGE: dict[str, tuple[Damage, str]] = {
    "empty": (lambda _: "", "not JSON"),
    "cut": (lambda text: text[: len(text) // 2], "not JSON"),
    "binary": (lambda _: b"\xff\xfe\x00", "not UTF-8"),
    "a list": (lambda _: "[]", "not a JSON object"),
    "a number": (lambda _: "7", "not a JSON object"),
    "deep": (lambda _: "[" * 200_000, "nested"),
    "rather deep": (lambda _: '{"a":' + "[" * 500 + "]" * 500 + "}", "nested"),
    "something else": (lambda _: '{"a": 1}', "no artifact"),
    "newer": (_with(schema="drpo-artifact/2"), "update drpo"),
    "a type": (_with(prompts=["a"]), "prompts"),
    "no prompts": (_with(prompts={}), "prompts"),
    "no system": (_with(prompts={"other": "a"}), "system"),
    "a field too many": (_with(more=1), "more"),
    "half a character": (_with(prompts={"system": "\ud800"}), "prompts"),
    "another prompt": (_with(prompts={"system": "Be rude."}), "hash"),
    "another hash": (_with(content_sha256="0" * 64), "hash"),
    "not a number": (_number("NaN"), "NaN"),
    "infinity": (_number("-Infinity"), "Infinity"),
    "too large": (_number("1e999"), "too large"),
    "digits": (_number("9" * 5_000), "."),
    "a negative number": (_number("-1"), "retrieval.k"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_i6_a_damaged_artifact_is_one_line(damage: str, made: Artifact, tmp_path: Path) -> None:
    """That names the file and what is wrong; newer and hostile ones too."""
    spoil, said = DAMAGE[damage]
    path = written(tmp_path, spoil(artifact_text(made)))
    with pytest.raises(BadInput, match=said) as caught:
        read_artifact(path)
    assert "\n" not in str(caught.value)
    assert "a.json" in str(caught.value)
    assert len(str(caught.value)) < 600


def test_i6_every_flipped_byte_is_seen_or_harmless(made: Artifact, tmp_path: Path) -> None:
    """What acts is what was written, or the file is refused."""
    text = artifact_text(made).encode()
    acting = content_sha256(values_of(made))
    for at in range(0, len(text), 37):
        path = written(tmp_path, text[:at] + bytes([text[at] ^ 1]) + text[at + 1 :])
        try:
            read = read_artifact(path)
        except BadInput:
            continue
        assert read.content_sha256 == acting == content_sha256(values_of(read))


def test_i6_a_huge_file_is_not_read(
    tmp_path: Path, made: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its size is looked at first."""
    path = tmp_path / "a.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(BadInput, match="MB"):
        read_artifact(path)


@pytest.mark.parametrize("name", [".", "none.json", "a\0b", "/dev/zero"])
def test_i6_what_is_no_file_is_one_line(name: str, tmp_path: Path) -> None:
    """A folder, nothing, a name that there cannot be, a device."""
    with pytest.raises(BadInput, match="artifact"):
        read_artifact(tmp_path / name)


def test_another_tools_numbers_are_the_same_numbers(made: Artifact, tmp_path: Path) -> None:
    """0.0 that was written again as 0 is no damage."""
    text = artifact_text(made)
    assert '"temperature": 0.0' in text
    path = written(tmp_path, text.replace('"temperature": 0.0', '"temperature": 0'))
    assert read_artifact(path).content_sha256 == made.content_sha256


HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "class": (
        {"provider": "langchain", "model": "m", "_target_": "os.path.Evil"},
        "os.path.Evil",
    ),
    "folder": ({"provider": "huggingface", "model": "/tmp/evil"}, "/tmp/evil"),
    "hub": ({"provider": "huggingface", "model": "evil/weights"}, "evil/weights"),
    "server": (OPENAI | {"base_url": "https://evil.example/v1"}, "https://evil.example/v1"),
    "variable of a header": (OPENAI | {"headers": {"X-A": "env:HOME"}}, "HOME"),
    "variable of a key": (OPENAI | {"api_key_env": "DATABASE_URL"}, "DATABASE_URL"),
    "endpoint": (
        {"provider": "hf_endpoint", "base_url": "http://10.0.0.7:80"},
        "http://10.0.0.7:80",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_i5_what_an_artifact_names_is_used_only_where_its_user_says_so(
    kind: str, made: Artifact, tmp_path: Path
) -> None:
    """Neither imported nor read nor sent a key; with a model of the user's own it does not act."""
    target, name = HOSTILE[kind]
    write_artifact(tmp_path / "a.json", changed(made, target=target))
    with pytest.raises(BadInput, match="trust") as caught:
        drpo.load(tmp_path / "a.json")
    assert name in str(caught.value)
    check_trust(read_artifact(tmp_path / "a.json"), [name], own_model=False)
    with drpo.load(tmp_path / "a.json", FakeListChatModel(responses=["aye"])) as model:
        assert model.invoke("Hello?").text == "aye"


def test_i5_an_embedder_needs_trust_too(made: Artifact, tmp_path: Path) -> None:
    """Where there are examples to find, though the model is the user's own."""
    embedder = {"kind": "sentences", "model": "/tmp/evil"}
    hostile = changed(
        made, examples=[{"query": "q", "answer": "a"}], retrieval={"embedder": embedder}
    )
    with pytest.raises(BadInput, match="/tmp/evil"):
        check_trust(hostile, [], own_model=True)
    check_trust(hostile, ["/tmp/evil"], own_model=True)


def test_i5_code_that_comes_with_a_model_is_never_run(made: Artifact) -> None:
    """Whatever is trusted."""
    target = {"provider": "huggingface", "model": "evil/weights", "trust_remote_code": True}
    with pytest.raises(BadInput, match="code"):
        check_trust(changed(made, target=target), ["evil/weights"], own_model=False)


@pytest.mark.parametrize("address", [None, "http://127.0.0.1:8000/v1", "http://localhost:11434/v1"])
def test_openai_and_this_machine_need_no_trust(address: str | None, made: Artifact) -> None:
    """They are where most models are."""
    check_trust(changed(made, target=OPENAI | {"base_url": address}), [], own_model=False)
