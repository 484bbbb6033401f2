"""A user's own settings: `drpo.yaml` in the folder a command is started in, or `--config`.

It becomes one more choice of Hydra's configuration, composed after the shipped ones and before the
command line. What it says is data: it names no code, no launcher and no other file of settings.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_store import ConfigStore
from omegaconf.errors import OmegaConfBaseException

from drpo.graph.errors import BadInput
from drpo.graph.values import ROLES
from drpo.settings import COMPOSING, choices, groups, nearest, sections, shipped
from drpo.texts import read_text

DEFAULT_FILE = Path("drpo.yaml")
NOT_BESIDE = ("builtin:", "sandbox:", "~")
PATHS = (("data", "path"), ("prompts", "folder"), ("ledger", "reuse"))
"""Settings that are paths."""


def own_words(named: Path | None) -> list[str]:
    """The override that brings the user's file in; none where there is no file.

    Without a name it is ./drpo.yaml, if there is one. Raises BadInput for a file that cannot be
    used.
    """
    path = named or DEFAULT_FILE
    if named is None and not path.is_file():
        return []
    # Hydra has one store a process, and searches side by side may have files of their own.
    name = f"file_{uuid.uuid4().hex}"
    values = _read(path)
    try:
        _check_lists(path, values)
        node = _as_config(path, values)
        with COMPOSING:
            ConfigStore.instance().store(group="own", name=name, node=node, package="_global_")
    except (OmegaConfBaseException, ValueError) as error:
        raise BadInput(f"{path}: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise BadInput(f"{path}: something in it contains itself") from None
    return [f"own={name}"]


def _read(path: Path) -> dict[str, Any]:
    text = read_text(path, str(path))
    try:
        values = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise BadInput(f"{path}{line}: {error.problem}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadInput(f"{path}: it is not YAML ({error})") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise BadInput(f"{path}: it has to be `name: value` lines, as `drpo init` writes them")
    return values


def _check_lists(path: Path, values: Mapping[Any, Any]) -> None:
    """Raises BadInput for a list in the place of settings; Hydra would not say where it is."""
    lists = list(_lists(values))
    # Composing takes a moment, and most files have no list at all.
    known = shipped() if lists else {}
    for names in lists:
        there, place = known, ".".join(map(str, names))
        for name in names:
            there = there.get(name) if isinstance(there, dict) else None
        if isinstance(there, dict):
            also = f", or one of {', '.join(choices(place))}" if place in groups() else ""
            raise BadInput(f"{path}: {place}: write `name: value` lines below it{also}; not a list")


def _lists(values: Mapping[Any, Any]) -> Iterator[tuple[Any, ...]]:
    """Where the lists are, by the names on the way."""
    for name, value in values.items():
        if isinstance(value, list):
            yield (name,)
        elif isinstance(value, dict):
            yield from ((name, *below) for below in _lists(value))


def _as_config(path: Path, values: Mapping[Any, Any]) -> dict[str, Any]:
    """With `search: paper` and the like as Hydra's defaults, and paths beside the file."""
    known = {*groups(), *sections()}
    chosen: list[dict[str, str]] = []
    settings: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise BadInput(f"{path}: {name!r} is no setting; {nearest(str(name), known)}")
        if name in groups() and (isinstance(value, str) or name == "experiment"):
            chosen.append(_choice(path, name, value))
        elif value is not None:
            settings[name] = value
    chosen += _providers(path, settings.get("models"))
    return {"defaults": chosen, **_beside(path.parent, settings)}


def _providers(path: Path, models: Any) -> list[dict[str, str]]:
    """`models: {judge: {provider: langchain}}` chooses all that such a provider knows."""
    roles = models if isinstance(models, dict) else {}
    named = {role: said.get("provider") for role, said in roles.items() if isinstance(said, dict)}
    for role, provider in named.items():
        if provider is not None and provider not in choices("provider"):
            there = nearest(str(provider), choices("provider"))
            raise BadInput(f"{path}: models.{role}.provider: there is no {provider!r}; {there}")
    return [
        {f"override /provider@models.{role}": provider}
        for role, provider in named.items()
        if role in ROLES and provider is not None
    ]


def _choice(path: Path, group: str, wanted: Any) -> dict[str, str]:
    if wanted not in choices(group):
        there = nearest(str(wanted), choices(group))
        raise BadInput(f"{path}: {group}: {wanted}: there is no such choice; {there}")
    return {f"override /{group}": wanted}


def _beside(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Relative paths in the file are meant from its folder."""
    if "root" in settings:
        settings["root"] = _root_beside(folder, settings["root"])
    for section, name in PATHS:
        values = settings.get(section)
        if isinstance(values, dict) and isinstance(values.get(name), str):
            settings[section] = values | {name: _joined(folder, values[name])}
    return settings


def _root_beside(folder: Path, root: Any) -> Any:
    if isinstance(root, dict):
        return {name: _root_beside(folder, text) for name, text in root.items()}
    named = isinstance(root, str) and root.startswith("@")
    return f"@{_joined(folder, root[1:])}" if named else root


def _joined(folder: Path, path: str) -> str:
    return path if path.startswith(NOT_BESIDE) else str(folder / path)
