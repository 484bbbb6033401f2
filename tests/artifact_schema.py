"""Writes docs/artifact.schema.json off the types: `python tests/artifact_schema.py`."""

from __future__ import annotations

import json
import sys
from typing import Any

from drpo.artifact import SCHEMA, Artifact

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """Of an artifact, as this drpo reads it."""
    told = Artifact.model_json_schema(by_alias=True)
    return {"$schema": DIALECT, "$id": SCHEMA} | told


def text() -> str:
    """The file's."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
