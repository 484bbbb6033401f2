"""Text files that a person names, to read or to write."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from drpo.graph.errors import BadInput

SQLITE = b"SQLite format 3\0"
"""How the file of a database begins."""


def read_text(file: str | Path, where: str) -> str:
    """The text of a UTF-8 file, with or without a byte order mark; `~` is the home folder.

    Raises BadInput, beginning with `where`, for a file that cannot be read.
    """
    try:
        return Path(file).expanduser().read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{where}: it is not UTF-8 (byte {error.start})") from None
    except OSError as error:
        raise BadInput(f"{where}: {error.strerror or error}") from None
    except (RuntimeError, ValueError) as error:
        # The home folder of nobody, and a name with a NUL.
        raise BadInput(f"{where}: {error}") from None


def refuse_to_replace(out: Path, *, force: bool) -> None:
    """What is there stays, unless the user says otherwise. Raises BadInput."""
    try:
        there = out.exists() or out.is_symlink()
        folder = out.is_dir()
    except (OSError, ValueError) as error:
        raise BadInput(f"{str(out)!r}: {error}") from None
    if folder:
        raise BadInput(f"{str(out)!r} is a folder")
    if there and out.exists() and not out.is_file():
        raise BadInput(f"{str(out)!r} is a device or the like, and no file that could be replaced")
    if there and _is_database(out):
        raise BadInput(f"{str(out)!r} is a run, or another database, which is never written over")
    if there and not force:
        raise BadInput(f"{str(out)!r} is there already; --force writes over it")


def write_whole(path: Path, parts: Iterable[str], *, mode: int = 0o644) -> int:
    """All parts or nothing, over whatever is there; returns their number.

    Written part by part, so that a large run needs no more memory than its largest one; a link
    stays one. Raises BadInput.
    """
    unfinished: Path | None = None
    count = 0
    try:
        path = path.resolve()
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:32]}.")
        unfinished = Path(name)
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            for part in parts:
                file.write(part)
                count += 1
            file.flush()
            os.fsync(file.fileno())
        unfinished.chmod(mode)
        unfinished.replace(path)
    except (OSError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) else None
        raise BadInput(f"cannot write {str(path)!r}: {said or error}") from None
    finally:
        if unfinished is not None:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)
    return count


def _is_database(path: Path) -> bool:
    with suppress(OSError), path.open("rb") as file:
        return file.read(len(SQLITE)) == SQLITE
    return False
