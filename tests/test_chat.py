"""`drpo chat`: a conversation in a terminal, in which a model's text has no effect."""

from __future__ import annotations

import asyncio
import io
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import Here
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk
from test_aligned import EXAMPLES, changed

import drpo
from drpo.aligned import aligned
from drpo.artifact import Artifact, write_artifact
from drpo.chat import Chat, converse, once
from drpo.graph.errors import ProviderStopped
from drpo.provenance import artifact_of_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one run on the sandbox."""
    made = tmp_path_factory.mktemp("runs")
    drpo.optimize_blocking("experiment=smoke", runs=made)
    return made


@pytest.fixture(scope="module")
def artifact(runs: Path) -> Artifact:
    [path] = runs.glob("*.sqlite")
    return artifact_of_run(path)


class Scripted(GenericFakeChatModel):
    """Streams the bits that it is given, and keeps what it was asked."""

    bits: list[list[str]]
    """Of each answer; `^C` stands for somebody who presses Ctrl-C, `!` for a server that fails."""
    asked: list[list[str]] = []  # noqa: RUF012 - pydantic copies it

    async def _astream(
        self, messages: Sequence[BaseMessage], *_: Any, **__: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        self.asked.append([str(each.text) for each in messages])
        for bit in self.bits.pop(0):
            if bit == "^C":
                signal.raise_signal(signal.SIGINT)
                await asyncio.Event().wait()
            if bit == "!":
                raise ProviderStopped("target: the server says 503")
            yield ChatGenerationChunk(message=AIMessageChunk(content=bit))


def scripted(*answers: list[str]) -> Scripted:
    return Scripted(messages=iter([AIMessage("")]), bits=list(answers))


def typed(*lines: str) -> Callable[[], str]:
    """Who types these lines, and then Ctrl-D."""
    left = list(lines)

    def ask() -> str:
        if not left:
            raise EOFError
        return left.pop(0)

    return ask


def talk(artifact: Artifact, model: Scripted, *lines: str) -> str:
    """All that was shown."""
    shown: list[str] = []
    with aligned(artifact, model) as made:
        converse(made, typed(*lines), shown.append)
    return "".join(shown)


def test_an_answer_is_shown_as_it_comes(artifact: Artifact) -> None:
    """Bit by bit."""
    shown: list[str] = []
    with aligned(artifact, scripted(["One ", "two ", "three."])) as model:
        once(model, "Hello?", shown.append)
    assert [bit for bit in shown if bit] == ["One ", "two ", "three.", "\n"]


def test_a_conversation_is_kept_until_a_new_one_begins(artifact: Artifact) -> None:
    """The model is sent all turns of it."""
    model = scripted(["A."], ["B."], ["C."])
    talk(artifact, model, "One?", "Two?", "/new", "Three?")
    asked = [each[1:] for each in model.asked]
    assert asked == [["One?"], ["One?", "A.", "Two?"], ["Three?"]]


def test_why_shows_examples_and_prompt_of_the_last_answer(artifact: Artifact) -> None:
    """As they were sent; not of what was not asked yet."""
    shown = talk(
        changed(artifact, examples=EXAMPLES, retrieval={"k": 1}),
        scripted(["Call a vet."]),
        "/why",
        "My cat is ill, what do I do?",
        "/why",
    )
    before, _, after = shown.partition("Call a vet.")
    assert before == "There is no answer yet.\n"
    assert "  " + artifact.prompts["system"].splitlines()[0] in after
    assert f"  {EXAMPLES[1]['query']}\n  ->\n  {EXAMPLES[1]['answer']}\n" in after
    assert EXAMPLES[0]["query"] not in shown


def test_why_says_that_there_are_no_examples(artifact: Artifact) -> None:
    """Where the artifact has none."""
    assert "No examples.\n" in talk(artifact, scripted(["A."]), "One?", "/why")


def test_what_a_model_says_has_no_effect_on_a_terminal(artifact: Artifact) -> None:
    """Also where an escape comes in two bits, in an example, and half a character."""
    evil = [{"query": "\x1b[2Jcat", "answer": "[red]\x9b31m"}]
    hostile = scripted(["a\x1b", "]0;owned\x07", "\ud83d", "[bold]x[/bold]\u202e"])
    shown = talk(changed(artifact, examples=evil), hostile, "My cat?", "/why")
    assert not [char for char in shown if ord(char) < 32 and char != "\n"]
    assert not {"\x9b", "\u202e", "\ud83d"} & set(shown)
    assert "[bold]x[/bold]" in shown
    assert "[red]" in shown


def test_ctrl_c_stops_an_answer_and_no_more(artifact: Artifact) -> None:
    """What was shown of it belongs to the conversation."""
    model = scripted(["One two", "^C"], ["B."])
    shown = talk(artifact, model, "One?", "Two?")
    assert shown == "One two\n(stopped)\nB.\n"
    assert model.asked[1][1:] == ["One?", "One two", "Two?"]


def test_ctrl_c_before_an_answer_takes_the_question_back(artifact: Artifact) -> None:
    """There is nothing to go on from."""
    model = scripted(["^C"], ["B."])
    assert talk(artifact, model, "One?", "Two?") == "(stopped)\nB.\n"
    assert model.asked[1][1:] == ["Two?"]


def test_ctrl_c_at_the_prompt_says_how_to_end(artifact: Artifact) -> None:
    """And ends nothing."""
    pressed = typed("^C", "Hello?")

    def ask() -> str:
        line = pressed()
        if line == "^C":
            raise KeyboardInterrupt
        return line

    shown: list[str] = []
    with aligned(artifact, scripted(["A."])) as made:
        converse(made, ask, shown.append)
    said = "".join(shown)
    assert "/quit" in said
    assert said.endswith("A.\n")


def test_a_server_that_fails_ends_no_conversation(artifact: Artifact) -> None:
    """One line, and the question can be asked again."""
    model = scripted(["!"], ["A."])
    shown = talk(artifact, model, "One?", "One?")
    assert shown == "drpo: target: the server says 503\nA.\n"
    assert model.asked[1][1:] == ["One?"]


def test_no_words_are_no_answer(artifact: Artifact) -> None:
    """It says so."""
    assert talk(artifact, scripted([""]), "One?") == "(no answer)\n"


def test_commands_are_no_questions(artifact: Artifact) -> None:
    """Nor is an empty line; what comes after /quit is not read."""
    model = scripted()
    shown = talk(artifact, model, "", "/what", "/quit", "One?")
    assert shown.startswith("There is no /what. /why shows")
    assert not model.asked


async def test_a_base_model_is_shown_its_one_text(artifact: Artifact) -> None:
    """As it was sent."""
    chat = {**artifact.chat.model_dump(mode="json"), "format": "text"}
    shown: list[str] = []
    with aligned(changed(artifact, chat=chat)) as model:
        talking = Chat(model, shown.append)
        await talking.answer("Hello?")
        shown.clear()
        await talking.why()
    said = "".join(shown)
    assert "  Hello?" in said
    assert "  " + artifact.prompts["system"].splitlines()[0] in said


def test_a_script_asks_one_question(here: Here, artifact: Artifact, tmp_path: Path) -> None:
    """The answer and nothing else on standard output."""
    write_artifact(tmp_path / "a.json", artifact)
    done = here("chat", "a.json", "-m", "Hello?")
    with aligned(artifact) as model:
        assert done.stdout == model.invoke("Hello?").text + "\n"
    assert (done.returncode, done.stderr) == (0, "")


def test_a_question_without_words_is_refused(
    here: Here, artifact: Artifact, tmp_path: Path
) -> None:
    """Nobody is asked."""
    write_artifact(tmp_path / "a.json", artifact)
    done = here("chat", "a.json", "-m", " ")
    assert (done.returncode, done.stdout) == (2, "")
    assert "-m: there is nothing to answer in it" in done.stderr


def test_lines_of_a_pipe_are_a_conversation(
    here: Here, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the newest run, or the run whose id is given."""
    for name in ((), (next(runs.glob("*.sqlite")).stem[:8],)):
        monkeypatch.setattr(sys, "stdin", io.StringIO("Hello?\n/why\n"))
        done = here("chat", *name, "--runs", str(runs))
        assert (done.returncode, done.stderr) == (0, "")
        assert "Hello?" in done.stdout
        assert "The prompt of candidate" in done.stdout


@pytest.mark.parametrize("verb", ["chat", "serve"])
@pytest.mark.parametrize("name", ["nothing.json", "./nothing", "ffff"])
def test_what_is_no_artifact_is_one_line(verb: str, name: str, here: Here, runs: Path) -> None:
    """Exit code 2."""
    done = here(verb, name, "--runs", str(runs))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("verb", ["chat", "serve"])
def test_a_server_elsewhere_needs_trust(
    verb: str, here: Here, artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By name, on the command line."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-0123456789")
    target = {"provider": "openai", "model": "m", "base_url": "http://elsewhere.example/v1"}
    write_artifact(tmp_path / "a.json", changed(artifact, target=target))
    done = here(verb, "a.json")
    assert done.returncode == 2
    assert "--trust" in done.stderr
    assert "http://elsewhere.example/v1" in done.stderr
