"""From overrides to checked settings: Hydra composes, pydantic validates.

Every mistake becomes one BadInput line with the nearest names that exist. Knows nothing of runs.
"""

from __future__ import annotations

import difflib
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args, get_origin

from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError

from drpo.checkpoints.rows import UNREADABLE, loads, said_of, see_doctor
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
ASSIGNED = re.compile(r"\+{0,2}([^=@~+]+)=")
"""How an override begins that sets a value."""
UNKNOWN = re.compile(r"Could not (?:override|delete from config\.) '([^']+)'")
"""How Hydra says that there is no such setting."""
PLUS = re.compile(r" To append to your .*")
"""What it says of its plus signs."""
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


def check_sweep(overrides: Sequence[str]) -> None:
    """Every value that a multirun goes through, though not with every other one.

    Hydra notes down what it is asked for before it composes the first search, and what is refused
    may be a key. Raises BadInput.
    """
    each = [_values(override) for override in _parsed(opened(overrides))]
    for at in range(max(map(len, each), default=0)):
        compose_settings([values[min(at, len(values) - 1)] for values in each])


def _values(override: Any) -> list[str]:
    if not override.is_discrete_sweep():
        return [override.input_line]
    name = override.get_key_element()
    return [f"{name}={value}" for value in override.sweep_string_iterator()]


def settings_from(config: DictConfig) -> Settings:
    """Settings from a composed configuration. Raises BadInput."""
    try:
        values = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise BadInput(_one_line(str(error))) from None
    if not isinstance(values, dict):
        raise BadInput("the configuration is not a mapping")
    values = {name: value for name, value in values.items() if name not in NO_SETTINGS}
    return validated(values | {"root": _root(values.get("root"))})


def opened(words: Iterable[str]) -> list[str]:
    """The same words, but with what Hydra wants before a name that is the user's own to choose.

    `telemetry.headers.x=y`, say: nobody who runs a search has to know of Hydra's plus signs.
    """
    return [f"++{word.lstrip('+')}" if _is_open(word) else word for word in words]


def _is_open(word: str) -> bool:
    named = ASSIGNED.match(word)
    return named is not None and any(
        named[1] == name or named[1].startswith(f"{name}.") for name in _open_settings()
    )


@cache
def _open_settings() -> frozenset[str]:
    return frozenset(_mappings(Settings, ""))


def _mappings(annotation: Any, name: str) -> Iterator[str]:
    """Where the schema takes any names, whichever provider or embedder is chosen."""
    if get_origin(annotation) is dict:
        yield name
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for each, field in annotation.model_fields.items():
            yield from _mappings(field.annotation, f"{name}.{each}".removeprefix("."))
    else:
        for each in get_args(annotation):
            yield from _mappings(each, name)


def validated(values: Any) -> Settings:
    """Settings from plain values. Raises BadInput with the first problem."""
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise BadInput(_first_problem(error, values)) from None


def telemetry_settings(otlp: str | None, *, texts: bool) -> TelemetrySettings:
    """Of a command that has no configuration. Raises BadInput."""
    try:
        return TelemetrySettings(otlp=otlp, texts=texts)
    except ValidationError as error:
        raise BadInput(f"--otlp: {_first_problem(error, {})}") from None


def stored_settings(run_id: str, text: str) -> Settings:
    """Settings of a stored run. Raises BadInput where another version of drpo made them."""
    values: Any = {}
    try:
        values = up_to_date(loads(text))
        return Settings.model_validate(values)
    except ValidationError as error:
        problem = _first_problem(error, values)
        said = f"another version of drpo made it, or it is damaged: {problem}"
    except UNREADABLE as error:
        said = f"its settings are damaged: {said_of(error)}"
    raise BadInput(f"run {run_id} cannot be used, {said}{see_doctor(run_id)}")


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
        key, place = override.key_or_group, values
        *parents, name = key.split(".")
        for parent in parents:
            place = place.get(parent) if isinstance(place, dict) else None
        if not isinstance(place, dict):
            raise BadInput(f"{key!r} is no setting; {nearest(key, _known_keys(values))}")
        before = {section: deepcopy(values[section]) for section in HANDED_ON}
        value = override.value()
        place[name] = _root(value) if key.partition(".")[0] == "root" else value
        _hand_on(values, before)
    return validated(values)


def _hand_on(values: Any, before: Mapping[str, Any]) -> None:
    """What a section says for all roles changes where a role had it from there."""
    for section, was in before.items():
        for name, value in values[section].items():
            for model in values["models"].values():
                has_it = model["provider"] == section and model.get(name) == was.get(name)
                if has_it and value != was.get(name):
                    model[name] = deepcopy(value)


def explained(error: Exception, overrides: Sequence[str]) -> BadInput:
    """Hydra's error as one line that names what exists instead."""
    if isinstance(error, OverrideParseException):
        name, _, value = str(error.override).lstrip("+").partition("=")
        shown = name if {*name.split(".")} & {*SECRETIVE} else f"{name}={value}"
        return BadInput(
            f"{shown!r} cannot be read; write key=value, with quotes around a value "
            "that has spaces or special characters"
        )
    text = OWN_FILE.sub("the file of settings: ", _one_line(str(error)))
    choice = re.search(r"Could not find '([\w/@]+)/([^'/]*)'|Could not find '([^']+)'", text)
    if choice and choice[1]:
        group, wanted = choice[1], choice[2]
        return BadInput(
            f"{group}={wanted}: there is no such choice; {nearest(wanted, choices(group))}"
        )
    unknown = UNKNOWN.search(text)
    if unknown and "@" not in unknown[1]:
        return BadInput(f"{unknown[1]!r} is no setting; {nearest(unknown[1], _known(overrides))}")
    return BadInput(PLUS.sub("", text))


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
        raise explained(error, ()) from None


def _single(overrides: Sequence[str]) -> list[Any]:
    """Overrides that set one value each. Raises BadInput for the rest of Hydra's grammar."""
    parsed = _parsed(overrides)
    for override in parsed:
        if override.is_delete() or override.package is not None or override.is_sweep_override():
            raise BadInput(f"{override.input_line!r}: only key=value can be used here")
    return parsed


def _known(overrides: Sequence[str]) -> list[str]:
    """The names that there are with the choices among the overrides, where those can be made."""
    try:
        chosen = [
            each.input_line
            for each in _parsed(overrides)
            if each.package is not None or each.key_or_group in (*groups(), "own")
        ]
        return _known_keys(OmegaConf.to_container(_composed(chosen)))
    except (BadInput, *HYDRA_PROBLEMS):
        return _known_keys(shipped())


def _known_keys(values: Any) -> list[str]:
    return [*groups(), *_flat(values, "")]


def _composed(overrides: Sequence[str]) -> DictConfig:
    """By a Hydra of our own: the process may be inside `hydra.main`, ours or the user's."""
    with COMPOSING:
        outer = GlobalHydra.instance().hydra
        GlobalHydra.instance().hydra = None
        try:
            with initialize_config_module(CONFIG_MODULE, version_base="1.3"):
                return compose(CONFIG_NAME, opened(overrides))
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


def _first_problem(error: ValidationError, values: Any) -> str:
    first = error.errors(include_url=False)[0]
    parts = [str(part) for part in first["loc"]]
    # Pydantic puts the provider, or the kind of the embedder, into the path of its settings.
    if parts[2:3] and parts[2] in (*choices("provider"), *choices("embedder")):
        del parts[2]
    place = ".".join(parts)
    if first["type"] == "extra_forbidden":
        known = [name for name in _known_keys(values) if not f"{name}.".startswith(f"{place}.")]
        return f"{place!r} is no setting; {nearest(place, known)}"
    message = first["msg"].removeprefix("Value error, ")
    if not place:
        return _one_line(message)
    if {*parts} & {*SECRETIVE} or isinstance(first["input"], dict):
        return f"{place}: {message}"
    given = repr(first["input"])[:LONGEST_SHOWN]
    return f"{place}: {message}, not {given}"


def _root(given: Any) -> Any:
    """With the text of a file in the place of @FILE, for one prompt or for each by its name."""
    if isinstance(given, dict):
        return {name: _root(text) for name, text in given.items()}
    if not (isinstance(given, str) and given.startswith("@")):
        return given
    read = read_text(given[1:], f"root={given}").strip()
    if not read:
        raise BadInput(f"root={given}: the file is empty")
    return read


def _one_line(text: str) -> str:
    return " ".join(text.split())
