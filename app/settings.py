"""From overrides to checked settings: Hydra composes, pydantic validates.

Every mistake becomes one BadInput line with the nearest names that exist. Knows nothing of runs.
"""

from __future__ import annotations

import difflib
import json
import re
import threading
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError

from drpo.checkpoints.rows import SEE_DOCTOR
from drpo.conf.older import up_to_date
from drpo.conf.schema import SECRETIVE, Settings, TelemetrySettings
from drpo.graph.errors import BadInput
from drpo.texts import read_text

CONFIG_MODULE = "drpo.conf"
CONFIG_NAME = "config"
NO_SETTINGS = ("hydra", "experiment", "own")
"""Parts of the composed configuration that only say how it was composed."""
HYDRA_PROBLEMS = (HydraException, OmegaConfBaseException, ValueError)
"""What Hydra raises on overrides it cannot use."""
OWN_FILE = re.compile(r"In 'own/[^']*': (\w+ raised while composing config: )?")
"""How Hydra calls the user's file."""
LONGEST_SHOWN = 80
"""Characters of a wrong value that are shown."""
COMPOSING = threading.Lock()
"""Hydra has one state per process; searches side by side compose in threads."""
HANDED_ON = ("openai", "sandbox")
"""Sections from which roles on a provider of that name have their values."""
PARTS = ("server",)
"""Groups of which other choices are made."""
RESUMABLE = ("budget.", "concurrency", "storage.", "ledger.", "telemetry.")
"""What may change when a run is resumed; anything else would be another search."""
WAITS = re.compile(
    r"models\.\w+\.(timeout_s|attempts|patience_s|deadline_s|concurrency|(requests|tokens)_per_minute)"
)
"""These, too: they change no answer."""
FORKABLE_NOT = ("data.", "retrieval.path", "own", "experiment")
"""What may not even change in a fork: its queries and examples are those of its parent."""


def compose_settings(overrides: Sequence[str]) -> Settings:
    """Settings from `key=value` overrides.

    Raises BadInput for a value, key or choice that there is not.
    """
    try:
        config = _composed(overrides)
    except HYDRA_PROBLEMS as error:
        raise explained(error, overrides) from None
    return settings_from(config)


def settings_from(config: DictConfig) -> Settings:
    """Settings from a composed configuration. Raises BadInput."""
    try:
        values = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise BadInput(_one_line(str(error))) from None
    if not isinstance(values, dict):
        raise BadInput("the configuration is not a mapping")
    values = {name: value for name, value in values.items() if name not in NO_SETTINGS}
    if isinstance(values.get("root"), str):
        values["root"] = _root(values["root"])
    return validated(values)


def validated(values: Any) -> Settings:
    """Settings from plain values. Raises BadInput with the first problem."""
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise BadInput(_first_problem(error)) from None


def telemetry_settings(otlp: str | None, *, texts: bool) -> TelemetrySettings:
    """Of a command that has no configuration. Raises BadInput."""
    try:
        return TelemetrySettings(otlp=otlp, texts=texts)
    except ValidationError as error:
        raise BadInput(f"--otlp: {_first_problem(error)}") from None


def stored_settings(run_id: str, text: str) -> Settings:
    """Settings of a stored run. Raises BadInput where another version of drpo made them."""
    try:
        return Settings.model_validate(up_to_date(json.loads(text)))
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        said = f"run {run_id} cannot be used, its settings are damaged: {error}{SEE_DOCTOR}"
        raise BadInput(said) from None
    except ValidationError as error:
        problem = _first_problem(error)
        raise BadInput(
            f"run {run_id} cannot be used, another version of drpo made it: {problem}"
        ) from None


def resumed_settings(settings: Settings, overrides: Sequence[str]) -> Settings:
    """Settings of a resumed run: what RESUMABLE names may change. Raises BadInput."""
    for key in (override.key_or_group for override in _single(overrides)):
        if not key.startswith(RESUMABLE) and not WAITS.fullmatch(key):
            raise BadInput(
                f"{key!r} cannot change when a run is resumed, it would be another search, which "
                f"`drpo fork RUN {key}=...` makes; allowed are budget.*, concurrency, storage.*, "
                "ledger.*, telemetry.* and how long and how often a server is asked "
                "(models.ROLE.timeout_s, ...)"
            )
    return _changed(settings, overrides)


def forked_settings(settings: Settings, overrides: Sequence[str]) -> Settings:
    """Settings of a fork: any single value but those of the data may change. Raises BadInput."""
    for key in (override.key_or_group for override in _single(overrides)):
        if re.fullmatch(r"models\.\w+\.provider", key):
            raise BadInput(
                f"{key!r} cannot change in a fork: another provider has settings of its own; "
                "make a new search, which takes over what it can with ledger.reuse=FILE"
            )
        if key.startswith(FORKABLE_NOT):
            raise BadInput(
                f"{key!r} cannot change in a fork: its queries and examples are those of its parent"
            )
        if key in groups():
            raise BadInput(f"{key!r}: a fork changes single values, e.g. search.width=3")
    return _changed(settings, overrides)


def _changed(settings: Settings, overrides: Sequence[str]) -> Settings:
    values: Any = settings.model_dump(mode="json")
    for override in _single(overrides):
        place = values
        *parents, name = override.key_or_group.split(".")
        for parent in parents:
            place = place.get(parent) if isinstance(place, dict) else None
        if not isinstance(place, dict):
            key = override.key_or_group
            raise BadInput(f"{key!r} is no setting; {nearest(key, _known_keys())}")
        value = override.value()
        is_root = override.key_or_group == "root" and isinstance(value, str)
        _hand_on(values, parents, name, value)
        place[name] = _root(value) if is_root else value
    return validated(values)


def _hand_on(values: Any, parents: Sequence[str], name: str, value: Any) -> None:
    """What a section says for all roles changes where a role has it from there."""
    if len(parents) != 1 or parents[0] not in HANDED_ON:
        return
    section = parents[0]
    for model in values["models"].values():
        if model["provider"] == section and model.get(name) == values[section].get(name):
            model[name] = value


def explained(error: Exception, overrides: Sequence[str]) -> BadInput:
    """Hydra's error as one line that names what exists instead."""
    if isinstance(error, OverrideParseException):
        return BadInput(
            f"{error.override!r} cannot be read; write key=value, with quotes around a value "
            "that has spaces or special characters"
        )
    text = OWN_FILE.sub("the file of settings: ", _one_line(str(error)))
    choice = re.search(r"Could not find '([\w/@]+)/([^'/]*)'|Could not find '([^']+)'", text)
    if choice and choice[1]:
        group, wanted = choice[1], choice[2]
        return BadInput(
            f"{group}={wanted}: there is no such choice; {nearest(wanted, choices(group))}"
        )
    for key in _keys(overrides):
        if key not in _known_keys():
            return BadInput(f"{key!r} is no setting; {nearest(key, _known_keys())}")
    return BadInput(text)


def shipped() -> Any:
    """The configuration as it is without any word of the user's, as plain values."""
    return OmegaConf.to_container(_composed(()))


def choices(group: str) -> list[str]:
    """The names of a configuration group, e.g. of `search`."""
    folder = files(CONFIG_MODULE) / group
    return sorted(Path(each.name).stem for each in folder.iterdir() if each.name.endswith(".yaml"))


def groups() -> list[str]:
    """The configuration groups from which a user chooses."""
    found = (each.name for each in files(CONFIG_MODULE).iterdir() if each.is_dir())
    return sorted(name for name in found if not name.startswith("_") and name not in PARTS)


def sections() -> list[str]:
    """The top-level names of the configuration."""
    return list(Settings.model_fields)


def _parsed(overrides: Sequence[str]) -> list[Any]:
    try:
        return list(OverridesParser.create().parse_overrides(list(overrides)))
    except HydraException as error:
        raise BadInput(_one_line(str(error))) from None


def _single(overrides: Sequence[str]) -> list[Any]:
    """Overrides that set one value each. Raises BadInput for the rest of Hydra's grammar."""
    parsed = _parsed(overrides)
    for override in parsed:
        if override.is_delete() or override.package is not None or override.is_sweep_override():
            raise BadInput(f"{override.input_line!r}: only key=value can be used here")
    return parsed


def _keys(overrides: Sequence[str]) -> list[str]:
    try:
        parsed = _parsed(overrides)
    except BadInput:
        return []
    keys = [override.key_or_group for override in parsed if override.package is None]
    return [key for key in keys if key != "own"]


def _known_keys() -> list[str]:
    return [*groups(), *_flat(shipped(), "")]


def _composed(overrides: Sequence[str]) -> DictConfig:
    """By a Hydra of our own: the process may be inside `hydra.main`, ours or the user's."""
    with COMPOSING:
        outer = GlobalHydra.instance().hydra
        GlobalHydra.instance().hydra = None
        try:
            with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
                return compose(CONFIG_NAME, list(overrides))
        finally:
            GlobalHydra.instance().hydra = outer


def _flat(values: Any, prefix: str) -> list[str]:
    names: list[str] = []
    for name, value in values.items():
        names.append(f"{prefix}{name}")
        if isinstance(value, dict):
            names += _flat(value, f"{prefix}{name}.")
    return names


def nearest(wanted: str, known: Iterable[str]) -> str:
    """What was probably meant: by the whole name, or else by its last part.

    `serch.levles` and `levels` mean the same.
    """
    known = sorted(set(known))
    close = difflib.get_close_matches(wanted, known, n=3, cutoff=0.6)
    if not close:
        last = wanted.rpartition(".")[2]
        tails = {name.rpartition(".")[2]: name for name in known}
        close = [tails[tail] for tail in difflib.get_close_matches(last, tails, n=3, cutoff=0.6)]
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"there are {', '.join(name for name in known if '.' not in name)}"


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    # Pydantic puts the provider, or the kind of the embedder, into the path of its settings.
    providers = {*choices("provider"), *choices("embedder")}
    place = ".".join(str(part) for part in first["loc"] if part not in providers)
    if first["type"] == "extra_forbidden":
        return f"{place!r} is no setting; {nearest(place, _known_keys())}"
    message = first["msg"].removeprefix("Value error, ")
    if not place:
        return _one_line(message)
    if place.endswith(SECRETIVE):
        return f"{place}: {message}"
    if isinstance(first["input"], dict):
        return f"{place}: {message}"
    given = repr(first["input"])[:LONGEST_SHOWN]
    return f"{place}: {message}, not {given}"


def _root(text: str) -> str:
    """The text itself, or the text of the file named after an @."""
    if not text.startswith("@"):
        return text
    read = read_text(text[1:], f"root={text}").strip()
    if not read:
        raise BadInput(f"root={text}: the file is empty")
    return read


def _one_line(text: str) -> str:
    return " ".join(text.split())
