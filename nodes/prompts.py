"""Fills the prompt templates: Jinja files whose blocks are the turns of a conversation.

Templates are code of ours or of the user's own folder; whatever is filled in is data, is never
expanded, and is fenced by tags that it cannot close. Does not know what the roles do with them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import (
    DictLoader,
    Environment,
    StrictUndefined,
    Template,
    TemplateError,
    TemplateSyntaxError,
)
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment

from drpo.graph.errors import BadInput

BLOCKS: Mapping[str, tuple[str, ...]] = {
    "select_rewards": ("system", "user"),
    "judge": ("system", "user"),
    "rewrite": ("system", "user"),
    "rewrite_answer": ("system", "user"),
    "again": ("user",),
    "rubric": ("system",),
    "target_chat": ("system", "example_user", "example_assistant"),
    "target_text": ("text", "stop"),
}
"""The templates there are, and the blocks each has to have."""

VALUES: Mapping[str, frozenset[str]] = {
    "select_rewards": frozenset({"description", "aspects", "fewest", "most", "query"}),
    "judge": frozenset({"description", "aspects", "query", "reference", "answer"}),
    "rewrite": frozenset(
        {
            "description",
            "locked",
            "variables",
            "max_prompt_tokens",
            "prompts",
            "history",
            "evaluations",
        }
    ),
    "rewrite_answer": frozenset(
        {"description", "max_answer_tokens", "query", "answer", "verdict", "tried"}
    ),
    "again": frozenset({"reason"}),
    "rubric": frozenset({"rubric"}),
    "target_chat": frozenset({"prompts", "example"}),
    "target_text": frozenset({"prompts", "examples", "turns"}),
}
"""What each template is given; it may leave out any of it."""


class JinjaTemplates:
    """The shipped templates, a user's folder standing in for any of them."""

    def __init__(self, folder: str | None = None, sources: Mapping[str, str] | None = None) -> None:
        """Read and compile every template; `sources`, by name, stand in for any of them, too.

        Raises BadInput for a folder or file that cannot be used.
        """
        self._sources = {name: _shipped(name) for name in BLOCKS}
        if folder is not None:
            self._sources |= _overrides(Path(folder))
        self._sources |= sources or {}
        environment = ImmutableSandboxedEnvironment(
            loader=DictLoader(self._sources),
            undefined=StrictUndefined,
            autoescape=False,
            keep_trailing_newline=True,
        )
        environment.filters["fence"] = fence
        self._templates = {
            name: _compiled(environment, name, source) for name, source in self._sources.items()
        }

    def block(self, name: str, block: str, **values: Any) -> str:
        """Text of one block of template `name`.

        Raises BadInput where the template asks for a value it is not given.
        """
        template = self._templates[name]
        try:
            return "".join(template.blocks[block](template.new_context(values)))
        except TemplateError as error:
            raise BadInput(f"template {name}.jinja, block {block!r}: {error}") from None

    def source(self, name: str) -> str:
        """Of one template."""
        return self._sources[name]

    def hashes(self) -> dict[str, str]:
        """sha256 of each template's source, by name."""
        return {
            name: hashlib.sha256(source.encode()).hexdigest()
            for name, source in sorted(self._sources.items())
        }


def _compiled(environment: Environment, name: str, source: str) -> Template:
    try:
        template = environment.get_template(name)
        used = find_undeclared_variables(environment.parse(source))
    except TemplateSyntaxError as error:
        raise BadInput(f"template {name}.jinja, line {error.lineno}: {error.message}") from None
    missing = [block for block in BLOCKS[name] if block not in template.blocks]
    if missing:
        needed = ", ".join(BLOCKS[name])
        raise BadInput(f"template {name}.jinja has no block {missing[0]!r}: it needs {needed}")
    unknown = sorted(used - VALUES[name])
    if unknown:
        given = ", ".join(sorted(VALUES[name]))
        raise BadInput(f"template {name}.jinja uses {unknown[0]!r}; it is given {given}")
    return template


def fence(text: str, label: str) -> str:
    """`text` between tags that carry a hash of it, so that it cannot hold its own closing tag."""
    mark = f"{label}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    return f"<{mark}>\n{text}\n</{mark}>"


def _shipped(name: str) -> str:
    return (files("drpo.nodes") / "templates" / f"{name}.jinja").read_text("utf-8")


def _overrides(folder: Path) -> dict[str, str]:
    try:
        found = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix == ".jinja"}
    except (OSError, ValueError):
        raise BadInput(f"prompts.folder: {str(folder)!r} is not a folder") from None
    unknown = [name for name in found if name not in BLOCKS]
    if unknown:
        raise BadInput(
            f"prompts.folder: {unknown[0]}.jinja stands in for no template; "
            f"there are {', '.join(BLOCKS)}"
        )
    try:
        return {name: path.read_text("utf-8") for name, path in found.items()}
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"prompts.folder: cannot read a template: {error}") from None
