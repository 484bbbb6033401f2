"""`drpo view`: the page and its documents over the runs of a folder, while it is looked at.

Read-only, on the loopback unless a token guards it (`drpo.loopback`). Reads files on threads of
their own; does not know what the documents hold.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from drpo.checkpoints.runs import END, is_file, is_owned
from drpo.explorer import documents
from drpo.explorer.page import page, policy
from drpo.graph.errors import DrpoError
from drpo.loopback import NOT_KEPT, Caps, Gate, Handler, TurnedAway

CAPS = Caps(body_bytes=1024, in_flight=8, per_minute=1200)
"""A page asks twice in two seconds; who walks the tree asks more often."""
KEPT = 32
"""Documents that are not read again while their files are as they were."""
_RUN = re.compile(r"[^./\\\0][^/\\\0]{0,199}")
"""Stays in the folder."""
_HEADERS = NOT_KEPT | {
    "Content-Security-Policy": f"{policy(served=True)}; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}

Making = Callable[[], Mapping[str, Any]]


class Viewed:
    """The handlers of one folder of runs."""

    def __init__(
        self, folder: Path, *, token: str | None = None, local: bool = True, caps: Caps = CAPS
    ) -> None:
        """`local` is for the loopback."""
        self._folder = folder
        # The page itself holds nothing of any run.
        self._gate = Gate(token=token, local=local, caps=caps, open_paths=("/",))
        self._caps = caps
        self._page = page(
            {"served": True, "documents": {}, "packed": {}, "blocks": []}, served=True
        )
        self._kept: dict[str, tuple[object, bytes]] = {}

    def application(self) -> web.Application:
        """All routes; none of them takes anything in."""
        app = web.Application(client_max_size=self._caps.body_bytes, middlewares=[self._guarded()])
        app.router.add_get("/", self.page)
        app.router.add_get("/api/runs", self.runs)
        app.router.add_get("/api/runs/{run}", self.run)
        app.router.add_get(r"/api/runs/{run}/candidates/{candidate:\d{1,12}}", self.candidate)
        names = "|".join(documents.MORE)
        app.router.add_get(f"/api/runs/{{run}}/{{name:{names}}}", self.more)
        return app

    async def page(self, _: web.Request) -> web.Response:
        """Without any data."""
        return web.Response(text=self._page, content_type="text/html", charset="utf-8")

    async def runs(self, request: web.Request) -> web.Response:
        """Those of the folder."""
        paths = sorted(self._folder.glob(f"*{END}")) if self._folder.is_dir() else []
        stamp = [(path.name, _stamp(path)) for path in paths]
        return await self._told(request, stamp, lambda: documents.run_rows(self._folder))

    async def run(self, request: web.Request) -> web.Response:
        """One with its tree."""
        path = self._file(request)
        return await self._told(request, _stamp(path), lambda: documents.overview(path))

    async def candidate(self, request: web.Request) -> web.Response:
        """A block that has one."""
        path, number = self._file(request), int(request.match_info["candidate"])
        return await self._told(request, _stamp(path), lambda: documents.candidates(path, [number]))

    async def more(self, request: web.Request) -> web.Response:
        """What is read when it is asked for first."""
        path, name = self._file(request), request.match_info["name"]
        return await self._told(request, _stamp(path), lambda: documents.more(path, name))

    def _file(self, request: web.Request) -> Path:
        name = request.match_info["run"]
        path = self._folder / f"{name}{END}"
        if not _RUN.fullmatch(name) or not is_file(path):
            raise TurnedAway(404, "no_run", "there is no such run in this folder")
        return path

    async def _told(self, request: web.Request, stamp: object, making: Making) -> web.Response:
        """A document, or that it is the one which the client has."""
        kept = self._kept.pop(request.path, None)
        if kept is None or kept[0] != stamp:
            made = await asyncio.to_thread(making)
            kept = (stamp, documents.encoded(made))
        self._kept[request.path] = kept
        while len(self._kept) > KEPT:
            del self._kept[next(iter(self._kept))]
        tag = f'"{hashlib.sha256(kept[1]).hexdigest()[:32]}"'
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers={"ETag": tag})
        return web.Response(body=kept[1], content_type="application/json", headers={"ETag": tag})

    def _guarded(self) -> Any:
        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            response: web.StreamResponse
            try:
                self._gate.admit(request)
                with self._gate.place():
                    response = await handler(request)
            except TurnedAway as problem:
                response = _refused(problem.status, str(problem))
            except DrpoError as problem:
                response = _refused(500, str(problem))
            except web.HTTPException as problem:
                response = _refused(problem.status, problem.reason)
            except Exception as error:  # noqa: BLE001 - aiohttp would write it down, texts and all
                response = _refused(500, f"this is a fault of drpo: {type(error).__name__}")
            response.headers.update(_HEADERS)
            return response

        return guard


def _refused(status: int, said: str) -> web.Response:
    return web.json_response({"error": said}, status=status)


def _stamp(path: Path) -> object:
    """What changes when a run's file does, or when the process ends that runs it."""
    found: list[object] = []
    for each in (path, path.with_name(f"{path.name}-wal")):
        try:
            at = each.stat()
            found.append((at.st_mtime_ns, at.st_size))
        except OSError:
            found.append(None)
    # Without its log nobody writes to it.
    return (*found, found[1] is not None and is_owned(path))
