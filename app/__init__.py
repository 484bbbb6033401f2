"""Aligns a language model at inference time by searching for its prompt.

`await drpo.optimize("search=greedy", "seed=1")` runs a search; `drpo.optimize_blocking` is the same
for code without an event loop. `drpo.load("artifact.json")` is the model that came of one, aligned.
Public names are loaded when first used: `import drpo` is fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from drpo.aligned import AlignedModel, load
    from drpo.api import (
        Result,
        align,
        align_blocking,
        estimate,
        optimize,
        optimize_blocking,
        resume,
        resume_blocking,
    )
    from drpo.estimates import Estimate
    from drpo.graph.errors import (
        BadInput,
        BudgetReached,
        DrpoError,
        ProviderStopped,
        RunFailed,
        RunPaused,
    )

__version__ = "0.1.0"

__all__ = [
    "AlignedModel",
    "BadInput",
    "BudgetReached",
    "DrpoError",
    "Estimate",
    "ProviderStopped",
    "Result",
    "RunFailed",
    "RunPaused",
    "__version__",
    "align",
    "align_blocking",
    "estimate",
    "load",
    "optimize",
    "optimize_blocking",
    "resume",
    "resume_blocking",
]

_ALIGNED = ("AlignedModel", "load")
_API = (
    "Estimate",
    "Result",
    "align",
    "align_blocking",
    "estimate",
    "optimize",
    "optimize_blocking",
    "resume",
    "resume_blocking",
)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'drpo' has no attribute {name!r}")
    if name in _ALIGNED:
        module = "drpo.aligned"
    else:
        module = "drpo.api" if name in _API else "drpo.graph.errors"
    return getattr(import_module(module), name)
