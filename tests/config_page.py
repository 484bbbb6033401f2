"""Writes docs/config.md off the schema and the shipped files: `python tests/config_page.py`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from omegaconf import OmegaConf
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from drpo.conf.schema import (
    HFEndpointSettings,
    LangchainSettings,
    LocalSettings,
    OpenAISettings,
    SandboxSettings,
    Settings,
)
from drpo.graph.values import ROLES
from drpo.settings import CONFIG_MODULE, _composed, choices, groups

HEAD = """\
<!-- Written by `python tests/config_page.py` off conf/; a test holds it to that. -->
# Configuration

Every setting, as `drpo optimize --cfg job` prints it. Set one with `name=value` on the command
line, in `drpo.yaml` ([start](start.md)), or in Python as `drpo.optimize("name=value")`. Quotes go
around a value with spaces: `'task.description="support desk"'`. `-m seed=1,2,3` runs several
searches one after another. A setting of texts or numbers `by name` takes names of your own, one
as `openai.headers.X-Team=blue` or several as `'openai.headers={X-Team: blue, X-Org: shop}'`; they
come on top of those that are there.
"""
TYPES = {str: "text", int: "whole number", float: "number", bool: "true or false"}
BOUNDS = (("ge", "from {}"), ("gt", "above {}"), ("le", "to {}"), ("lt", "below {}"))
PROVIDERS: dict[str, type[BaseModel]] = {
    "sandbox": SandboxSettings,
    "openai": OpenAISettings,
    "hf_endpoint": HFEndpointSettings,
    "huggingface": LocalSettings,
    "langchain": LangchainSettings,
}


def page() -> str:
    """The whole page."""
    config: Any = OmegaConf.to_container(_composed(()), resolve=False)
    sections = ["## Choices", _choices(), "## Settings", _table(_rows(Settings, config))]
    for provider, kind in PROVIDERS.items():
        shown = _provider(provider)
        rows = _rows(kind, shown, "models.<role>.")
        sections += [f"## A role on `provider={provider}`", _table(rows)]
    return "\n\n".join([HEAD.strip(), *sections]) + "\n"


def _choices() -> str:
    lines = ["| choice | what it is |", "|---|---|"]
    for group in groups():
        name = "provider@models.<role>" if group == "provider" else group
        lines += [f"| `{name}={each}` | {_about(group, each)} |" for each in choices(group)]
    return "\n".join(lines)


def _about(group: str, choice: str) -> str:
    """The comment at the head of its file."""
    text = (files(CONFIG_MODULE) / group / f"{choice}.yaml").read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("# @package")]
    head = []
    for line in lines:
        if not line.startswith("#"):
            break
        head.append(line.lstrip("# "))
    return " ".join(head)


def _provider(name: str) -> dict[str, Any]:
    text = (files(CONFIG_MODULE) / "provider" / f"{name}.yaml").read_text("utf-8")
    values: Any = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    return dict(values)


Row = tuple[str, str, str, str]


def _table(rows: Iterator[Row]) -> str:
    head = ["| setting | default | allowed | meaning |", "|---|---|---|---|"]
    return "\n".join([*head, *(f"| {' | '.join(row)} |" for row in rows)])


def _rows(kind: type[BaseModel], values: Any, prefix: str = "") -> Iterator[Row]:
    for attribute, field in kind.model_fields.items():
        name = field.alias or attribute
        if prefix == "" and name == "models":
            about = "the model of each role; see below"
            yield ("`models.<role>`", "`sandbox`", f"role: {', '.join(ROLES)}", about)
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _rows(field.annotation, values.get(name) or {}, f"{prefix}{name}.")
        elif name != "provider":
            default = values.get(name, field.default)
            yield (f"`{prefix}{name}`", _default(name, default), _allowed(field), _meaning(field))


def _default(name: str, value: Any) -> str:
    if name == "aspects":
        return f"the {len(value)} of the pool"
    text = {None: "null", True: "true", False: "false"}.get(value) if _plain(value) else str(value)
    return f"`{_cell(str(value) if text is None else text)}`" if text != "" else "empty"


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _allowed(field: FieldInfo) -> str:
    said = _of_type(field.annotation, field.metadata)
    return _cell(said)


def _of_type(kind: Any, metadata: list[Any]) -> str:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _of_type(inner[0], [*metadata, *inner[1:]])
    if origin is Literal:
        return ", ".join("false" if each is False else str(each) for each in inner)
    if origin in (Union, UnionType):
        some = [_of_type(each, metadata) for each in inner if each is not NoneType]
        return " or ".join([*some, "null"] if NoneType in inner else some)
    if origin is dict:
        return "texts by name" if inner[1] is not float else "numbers by name"
    if origin is tuple:
        return "list of texts"
    found = {
        name: getattr(each, name) for each in metadata for name, _ in BOUNDS if _has(each, name)
    }
    bounds = " ".join(said.format(_number(found[name])) for name, said in BOUNDS if name in found)
    return f"{TYPES.get(kind, 'text')} {bounds}".strip()


def _has(metadata: Any, name: str) -> bool:
    return getattr(metadata, name, None) is not None


def _number(value: float) -> str:
    return "2^63" if value == 2**63 else f"{value:,g}" if value < 1_000_000 else f"{value:,}"


def _meaning(field: FieldInfo) -> str:
    return _cell(re.sub(r"\s+", " ", field.description or ""))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    typer.echo(page(), nl=False)
