"""Drives Debian's Firefox over Marionette, and has its network panel write the HAR file as "Save All As HAR" does.

WebDriver has no way to ask for it, but Marionette runs scripts with the browser's own rights, and the panel's
`getHar()` is what the menu calls.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FIREFOX = "firefox-esr"
_LIMIT_S = 60
_PREFERENCES = {
    "app.update.enabled": False,
    "browser.cache.memory.enable": True,
    "datareporting.policy.dataSubmissionEnabled": False,
    "devtools.netmonitor.persistlog": True,  # "Persist Logs": the panel keeps what earlier pages asked for
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "http://127.0.0.1:9/",
}
_ASYNCHRONOUS = """\
const done = arguments[arguments.length - 1];
(async () => {
  const { require } = ChromeUtils.importESModule("resource://devtools/shared/loader/Loader.sys.mjs");
  const { gDevTools } = require("devtools/client/framework/devtools");
  const { selectedTab } = Services.wm.getMostRecentWindow("navigator:browser").gBrowser;
  const toolbox = await gDevTools.showToolboxForTab(selectedTab, { toolId: "netmonitor" });
  const panel = await toolbox.getNetMonitorAPI();
  %s
})().then(done, error => done(`FAILED: ${error}`));
"""


class Firefox:
    """A tab with the network panel open.

    Args:
        port: of Marionette.
    """

    def __init__(self, port: int) -> None:
        self._socket = _connect(port)
        self._answers = self._socket.makefile("rb")
        self._count = 0
        self._receive()  # the greeting
        self._ask("WebDriver:NewSession")
        self._ask("WebDriver:SetTimeouts", script=_LIMIT_S * 1000)
        self._as_browser("return '';")

    def open(self, url: str, title: str) -> None:
        """Open a page, and wait until it has this title."""
        self._ask("Marionette:SetContext", value="content")
        self._ask("WebDriver:Navigate", url=url)
        deadline = time.monotonic() + _LIMIT_S
        while self._ask("WebDriver:GetTitle")["value"] != title:
            assert time.monotonic() < deadline, "the page is not ready"
            time.sleep(0.05)

    def har(self) -> str:
        """Return all that the panel shows, as its export writes it, once nothing more is added."""
        before: list[int] = [-1]
        deadline = time.monotonic() + _LIMIT_S
        while True:
            text = self._as_browser("return JSON.stringify(await panel.getHar());")
            statuses = [entry["response"]["status"] for entry in json.loads(text)["log"]["entries"]]
            if statuses == before and all(statuses):
                return text
            assert time.monotonic() < deadline, f"not all is answered: {statuses}"
            before = statuses
            time.sleep(0.5)  # the panel has no event for "this was all"

    def close(self) -> None:
        self._answers.close()
        self._socket.close()

    def _as_browser(self, script: str) -> str:
        self._ask("Marionette:SetContext", value="chrome")
        result: str = self._ask("WebDriver:ExecuteAsyncScript", script=_ASYNCHRONOUS % script, args=[])[
            "value"
        ]
        assert not result.startswith("FAILED"), result
        return result

    def _ask(self, command: str, **parameters: object) -> Any:
        self._count += 1
        data = json.dumps([0, self._count, command, parameters]).encode()
        self._socket.sendall(b"%d:%s" % (len(data), data))
        _, _, error, result = self._receive()
        assert error is None, error
        return result

    def _receive(self) -> Any:
        length = b""
        while (byte := self._answers.read(1)) != b":":
            assert byte, "Firefox is gone"
            length += byte
        return json.loads(self._answers.read(int(length)))


@contextlib.contextmanager
def running(port: int, **preferences: object) -> Iterator[Firefox]:
    """Start a browser without a window, on a profile of its own."""
    profile = Path(tempfile.mkdtemp())
    wanted = {**_PREFERENCES, **preferences, "marionette.port": port}
    lines = (f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in wanted.items())
    (profile / "user.js").write_text("".join(lines))
    process = subprocess.Popen(
        [
            *(FIREFOX, "--headless", "--no-remote", "--profile", str(profile)),
            *("--marionette", "--remote-allow-system-access", "about:blank"),
        ],
        env={**os.environ, "HOME": str(profile)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with contextlib.closing(Firefox(port)) as browser:
            yield browser
    finally:
        process.terminate()
        process.wait(_LIMIT_S)
        shutil.rmtree(profile, ignore_errors=True)


def _connect(port: int) -> socket.socket:
    deadline = time.monotonic() + _LIMIT_S
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), _LIMIT_S)
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, "Firefox does not listen"
            time.sleep(0.1)
