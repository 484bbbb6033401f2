"""A headless Chromium that tests and benchmarks look at pages with, by its DevTools protocol.

Needs no package beside aiohttp; where no Chromium is installed, `EXECUTABLE` is None. Notes every
request, dialog and error of a page.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
EXECUTABLE = next(filter(None, (shutil.which(name) for name in NAMES)), None)
START_S = 30.0
WAIT_S = 20.0
FLAGS = (
    "--headless=new",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--hide-scrollbars",
    "--no-default-browser-check",
    "--no-first-run",
    "--remote-debugging-port=0",
)
_KEYS = {
    "ArrowLeft": 37,
    "ArrowUp": 38,
    "ArrowRight": 39,
    "ArrowDown": 40,
    "Escape": 27,
    "Enter": 13,
    "Tab": 9,
}


class Page:
    """One tab."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, session: str) -> None:
        self._socket = socket
        self._session = session
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.requests: list[str] = []
        """Addresses of all that the page asked for."""
        self.dialogs: list[str] = []
        self.errors: list[str] = []
        """Exceptions, and what the console was told of errors."""
        self._trace: list[dict[str, Any]] = []
        self._traced = asyncio.Event()

    async def listen(self) -> None:
        """Takes in what the browser says, until it ends."""
        async for message in self._socket:
            said = json.loads(message.data)
            waiting = self._answers.pop(said.get("id", -1), None)
            if waiting is not None and not waiting.done():
                waiting.set_result(said)
            elif said.get("sessionId") == self._session:
                self._note(said["method"], said["params"])

    def _note(self, method: str, told: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif method == "Page.javascriptDialogOpening":
            self.dialogs.append(told["message"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(str(told["exceptionDetails"].get("exception", told)))
        elif method == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.errors.append(told["entry"]["text"])
        elif method == "Tracing.dataCollected":
            self._trace += told["value"]
        elif method == "Tracing.tracingComplete":
            self._traced.set()

    async def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol."""
        number = next(self._numbers)
        waiting = asyncio.get_running_loop().create_future()
        self._answers[number] = waiting
        asked = {"id": number, "method": method, "params": parameters, "sessionId": self._session}
        await self._socket.send_json(asked)
        said = await asyncio.wait_for(waiting, WAIT_S)
        assert "error" not in said, f"{method}: {said['error']}"
        found: dict[str, Any] = said["result"]
        return found

    async def run(self, script: str) -> Any:
        """The value of an expression in the page, also of a promise."""
        said = await self.ask(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    async def open(self, address: str) -> None:
        """Goes there, and waits until it is loaded."""
        await self.ask("Page.navigate", url=address)
        await self.until("document.readyState === 'complete'")

    async def until(self, script: str) -> Any:
        """The first value of an expression that is something."""
        end = asyncio.get_running_loop().time() + WAIT_S
        while asyncio.get_running_loop().time() < end:
            found = await self.run(script)
            # An element is an empty object here.
            if found or found == {}:
                return found
            await asyncio.sleep(0.02)
        raise AssertionError(f"never: {script}; errors: {self.errors}")

    async def traced(self, doing: Awaitable[object], categories: str) -> list[dict[str, Any]]:
        """The browser's events of these categories while something is done."""
        self._trace = []
        self._traced.clear()
        await self.ask("Tracing.start", categories=categories, transferMode="ReportEvents")
        await doing
        await self.ask("Tracing.end")
        await asyncio.wait_for(self._traced.wait(), WAIT_S)
        return self._trace

    async def press(self, key: str) -> None:
        """One key."""
        told: dict[str, Any] = {"key": key, "windowsVirtualKeyCode": _KEYS.get(key, 0)}
        if key == "Enter":
            told["text"] = "\r"
        if len(key) == 1:
            told |= {"text": key, "windowsVirtualKeyCode": ord(key.upper())}
        await self.ask("Input.dispatchKeyEvent", type="keyDown", **told)
        await self.ask("Input.dispatchKeyEvent", type="keyUp", key=key)

    async def write(self, text: str) -> None:
        """Into what has the focus."""
        await self.ask("Input.insertText", text=text)

    async def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """`mousePressed`, `mouseMoved`, `mouseReleased` or `mouseWheel`."""
        pressed = {"button": "left", "clickCount": 1} if kind != "mouseWheel" else {}
        await self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, **pressed, **more)

    async def picture(self, file: Path) -> None:
        """What is seen, as a PNG."""
        said = await self.ask("Page.captureScreenshot", format="png")
        file.write_bytes(base64.b64decode(said["data"]))


@asynccontextmanager
async def chromium(
    width: int = 1440, height: int = 900, *, dark: bool = False
) -> AsyncIterator[Page]:
    """A page of a browser of its own, with an empty profile."""
    assert EXECUTABLE, "no Chromium is installed"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # A container's root has no sandbox of its own to give.
        flags = [*FLAGS, "--no-sandbox"] if os.geteuid() == 0 else list(FLAGS)
        browser = await asyncio.create_subprocess_exec(
            EXECUTABLE,
            *flags,
            f"--user-data-dir={profile}",
            "about:blank",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            address = await _address(Path(profile) / "DevToolsActivePort")
            async with (
                aiohttp.ClientSession() as client,
                client.ws_connect(address, max_msg_size=0) as socket,
            ):
                page = await _page(socket)
                listening = asyncio.create_task(page.listen())
                for domain in ("Page", "Network", "Runtime", "Log"):
                    await page.ask(f"{domain}.enable")
                await page.ask(
                    "Emulation.setDeviceMetricsOverride",
                    width=width,
                    height=height,
                    deviceScaleFactor=1,
                    mobile=False,
                )
                scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
                await page.ask("Emulation.setEmulatedMedia", features=[scheme])
                yield page
                listening.cancel()
        finally:
            browser.kill()
            await browser.wait()


async def _address(file: Path) -> str:
    """Where the browser listens, once it says so."""
    for _ in range(int(START_S / 0.05)):
        if file.exists() and len(lines := file.read_text().splitlines()) > 1:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        await asyncio.sleep(0.05)
    raise AssertionError("Chromium did not start")


async def _page(socket: aiohttp.ClientWebSocketResponse) -> Page:
    async def asked(method: str, **parameters: Any) -> dict[str, Any]:
        await socket.send_json({"id": 0, "method": method, "params": parameters})
        while (said := await socket.receive_json()).get("id") != 0:
            pass
        found: dict[str, Any] = said["result"]
        return found

    target = await asked("Target.createTarget", url="about:blank")
    joined = await asked("Target.attachToTarget", targetId=target["targetId"], flatten=True)
    return Page(socket, joined["sessionId"])
