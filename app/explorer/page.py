"""The page: its parts put into one HTML text, with data and without; nothing else is loaded by it.

Knows how data gets into HTML without becoming a part of it, and what the browser is told to allow.
All of it is ASCII: one sign of another kind, and a browser keeps the whole file in two bytes a
character and takes twice as long to read it (5,024 candidates: 37 ms in one task in place of 18).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from drpo.graph.values import CANDIDATES_PER_SEARCH

SCRIPTS = (
    "dom",
    "source",
    "layout",
    "tree",
    "paint",
    "charts",
    "details",
    "panels",
    "reasons",
    "search",
    "page",
    "keys",
)
"""In the order in which they stand in the page."""
_PLACE = re.compile(r"\{\{(\w+)\}\}")
_IN_HTML = {ord(sign): f"\\u{ord(sign):04x}" for sign in "<>&"}


def page(data: Mapping[str, object], packed: str = "", *, served: bool = False) -> str:
    """The HTML; `packed` are documents in base64, which nothing in HTML can mistake."""
    parts = {
        "policy": policy(served=served),
        "style": _read("page.css"),
        "script": _script(),
        "documents": embedded({"per_search": CANDIDATES_PER_SEARCH} | dict(data)),
        "packed": packed,
    }
    # All at once: what one part says is not looked into for places of others.
    html = _read("page.html").encode("ascii", "xmlcharrefreplace").decode()
    return _PLACE.sub(lambda found: parts[found[1]], html)


def embedded(data: object) -> str:
    """JSON that may stand in a script element of HTML: no sign of it ends or begins anything."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).translate(_IN_HTML)


@cache
def policy(*, served: bool) -> str:
    """The content-security policy: this script and this style alone, and no request elsewhere."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_hash(_script())}'",
            f"style-src '{_hash(_read('page.css'))}'",
            "connect-src 'self'" if served else "connect-src 'none'",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@cache
def _script() -> str:
    # What is not ASCII stands in strings and comments alone.
    text = "\n".join(_read(f"{name}.js") for name in SCRIPTS)
    return text.encode("ascii", "backslashreplace").decode()


@cache
def _read(name: str) -> str:
    return (files("drpo.explorer") / name).read_text(encoding="utf-8")
