"""An artifact in the forms of other tools: a request body, a template of LangChain, a page.

Examples are retrieved by the query. Where a form has no query, it holds the first k of them, and is
the same for every query.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from drpo.acting import check_trust, retriever_of, wording_of
from drpo.artifact import Artifact, artifact_text, write_artifact
from drpo.checkpoints.runs import find_run
from drpo.conf.schema import OpenAISettings, TelemetrySettings
from drpo.graph.errors import BadInput
from drpo.graph.values import Example, Message, Query
from drpo.models.portal import Portal
from drpo.models.provider import Call, merged
from drpo.models.retrieval import fitting
from drpo.preferences import LEAST_MARGIN, line_of, pairs
from drpo.prompt_page import page_of
from drpo.provenance import artifact_named
from drpo.texts import refuse_to_replace, write_whole
from drpo.wording import counted, plain

CONVERSATION = "messages"
"""Name of the conversation in the template of LangChain."""
FormName = Literal["json", "text", "markdown", "openai", "langchain", "dpo", "otel"]
OPTIONS: Mapping[str, tuple[FormName, ...]] = {
    "--query": ("openai", "langchain"),
    "--margin": ("dpo",),
    "--include-harmful": ("dpo",),
    "--otlp": ("otel",),
    "--texts": ("otel",),
}
"""Of which formats each option is."""


@dataclass(frozen=True, slots=True)
class Form:
    """What is wanted."""

    name: FormName
    query: str | None = None
    """Whose examples a request or a template holds; None for the first ones."""
    margin: float = LEAST_MARGIN
    """Least difference of rewards within a pair."""
    harmful: bool = False
    """Whether pairs are also made of queries that are tagged so."""
    trusted: Collection[str] = ()
    """What an artifact may use to find examples."""
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)
    """Where spans go; without an address, they are written."""

    def given(self) -> dict[str, bool]:
        """Of each of `OPTIONS`, whether it says anything."""
        return {
            "--query": self.query is not None,
            "--margin": self.margin != LEAST_MARGIN,
            "--include-harmful": self.harmful,
            "--otlp": self.telemetry.otlp is not None,
            "--texts": self.telemetry.texts,
        }


def export(
    form: Form,
    run: str | None,
    *,
    runs: Path,
    out: Path | None = None,
    force: bool = False,
    say: Callable[[str], None],
) -> None:
    """Write a run (or an artifact's file) in some form to `out`, else to standard output.

    Raises BadInput, before anything is written.
    """
    _refuse_other_options(form)
    if form.name == "dpo":
        path = find_run(runs, run, say=say)
        texts = (line_of(each) for each in pairs(path, margin=form.margin, harmful=form.harmful))
        _stream(texts, out, force=force, say=say, of="pair")
        return
    if form.name == "otel":
        _trace(find_run(runs, run, say=say), form.telemetry, out, force=force, say=say)
        return
    artifact = artifact_named(run, runs, say=say)
    if form.name == "json" and out is not None:
        _with_its_page(artifact, out, force=force, say=say)
        return
    text = _text(artifact, form)
    if out is None:
        _print(text)
    else:
        refuse_to_replace(out, force=force)
        write_whole(out, [text])
        say(f"wrote {out}")


def _refuse_other_options(form: Form) -> None:
    """What would be ignored without a word."""
    for option, is_given in form.given().items():
        if is_given and form.name not in OPTIONS[option]:
            formats = " and ".join(OPTIONS[option])
            raise BadInput(f"{option} is for --format {formats}, not for {form.name}")


def _trace(
    run: Path,
    telemetry: TelemetrySettings,
    out: Path | None,
    *,
    force: bool,
    say: Callable[[str], None],
) -> None:
    from drpo.tracing.export import lines, send  # noqa: PLC0415 - see `langchain_template`

    if telemetry.otlp is None:
        texts = lines(run, texts=telemetry.texts)
        _stream(texts, out, force=force, say=say, of="line")
    elif out is None:
        send(run, telemetry, say)
    else:
        raise BadInput(f"--otlp or --out, not both: {telemetry.otlp!r} and {str(out)!r}")


def _text(artifact: Artifact, form: Form) -> str:
    match form.name:
        case "json":
            return artifact_text(artifact)
        case "markdown":
            return page_of(artifact)
        case "openai":
            return _json(openai_body(artifact, form.query, trusted=form.trusted))
        case "langchain":
            return langchain_template(artifact, form.query, trusted=form.trusted) + "\n"
        case "text":
            return artifact.prompts["system"].rstrip("\n") + "\n"
        case "dpo" | "otel":
            raise AssertionError(f"{form.name} is made of a run, not of an artifact")


def openai_body(
    artifact: Artifact, query: str | None = None, *, trusted: Collection[str] = ()
) -> dict[str, Any]:
    """What `client.chat.completions.create(**body)` takes; of a base model, `client.completions`.

    With a query it is the request that the aligned model sends for it. Without one, its messages
    end before the query, and hold the first examples.
    """
    wording, shown = wording_of(artifact), shown_for(artifact, query, trusted)
    turns = () if query is None else (Message("user", query),)
    if wording.style == "text" and query is None:
        raise BadInput("a base model is sent one text, so its request needs a --query")
    messages = wording.messages(artifact.prompts, turns, shown)
    target = artifact.target
    if "system" in artifact.left_out:
        messages = merged(messages)
    body: dict[str, Any] = {"model": target.model}
    if wording.style == "text":
        from drpo.models.turns import one_text  # noqa: PLC0415 - see `langchain_template`

        body["prompt"] = one_text(messages)
    else:
        body["messages"] = [{"role": turn.role, "content": turn.content} for turn in messages]
    return body | _sampling(artifact, wording.stop())


def _sampling(artifact: Artifact, stop: tuple[str, ...]) -> dict[str, Any]:
    """The other parameters of the request."""
    target = artifact.target
    if isinstance(target, OpenAISettings):
        from drpo.models.openai import options_of  # noqa: PLC0415 - it takes half a second

        call = Call(messages=(), stop=stop)
        options = options_of(target, call, left_out=artifact.left_out)
        extra = options.pop("extra_body", {})
        return {**options, **extra}
    known = {
        "temperature": target.temperature,
        "top_p": target.top_p,
        "max_tokens": target.max_tokens,
        "stop": list(stop) or None,
    }
    return {name: value for name, value in known.items() if value is not None}


def langchain_template(
    artifact: Artifact, query: str | None = None, *, trusted: Collection[str] = ()
) -> str:
    """A ChatPromptTemplate, as `langchain_core.load.loads` reads it.

    Prompt and examples are messages, not templates: a brace in them is a brace. The conversation
    goes into `messages`.
    """
    from langchain_core.load import dumps  # noqa: PLC0415 - the other forms do without LangChain
    from langchain_core.messages import BaseMessage  # noqa: PLC0415 - see above
    from langchain_core.prompts import (  # noqa: PLC0415 - see above
        ChatPromptTemplate,
        MessagesPlaceholder,
    )

    from drpo.models.turns import turns_of  # noqa: PLC0415 - see above

    wording = wording_of(artifact, own_model=True)
    head = wording.head(artifact.prompts, shown_for(artifact, query, trusted))
    conversation = MessagesPlaceholder(CONVERSATION)
    parts: list[BaseMessage | MessagesPlaceholder] = [*turns_of(head), conversation]
    return dumps(ChatPromptTemplate(parts), pretty=True)


def shown_for(
    artifact: Artifact, query: str | None, trusted: Collection[str] = ()
) -> tuple[Example, ...]:
    """The examples of a query; without one, the first k that have room.

    Raises BadInput where they cannot be found without more trust.
    """
    if query is None:
        return fitting(artifact.shown, artifact.retrieval)
    check_trust(artifact, trusted, own_model=True)
    retriever = retriever_of(artifact)
    if retriever is None:
        return ()
    with closing(Portal()) as portal:
        return portal.run(retriever.examples(Query(0, "", (Message("user", query),))))


def _with_its_page(
    artifact: Artifact, out: Path, *, force: bool, say: Callable[[str], None]
) -> None:
    """Into a folder as artifact.json and prompt.md; beside a file, the page is named after it."""
    if out.is_dir():
        file, page = out / "artifact.json", out / "prompt.md"
    else:
        file, page = out, out.with_suffix(".md")
    if file == page:
        raise BadInput(f"{str(out)!r}: an artifact's name ends in .json")
    for each in (file, page):
        refuse_to_replace(each, force=force)
    write_whole(page, [page_of(artifact)])
    write_artifact(file, artifact)
    say(f"wrote {file}, and for people {page}")


def _stream(
    lines: Iterable[str], out: Path | None, *, force: bool, say: Callable[[str], None], of: str
) -> None:
    """Line by line, so that a large run needs no more memory than its largest query."""
    if out is None:
        count = 0
        for line in lines:
            _print(line)
            count += 1
        say(counted(count, of))
        return
    refuse_to_replace(out, force=force)
    say(f"wrote {out}: {counted(write_whole(out, lines), of)}")


def _print(text: str) -> None:
    """A terminal is sent nothing that it would act on; a pipe is sent what there is."""
    sys.stdout.write(plain(text) if _to_terminal() else text)


def _to_terminal() -> bool:
    return sys.stdout.isatty()


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=2) + "\n"
