"""The command line's way to a console: HEADROOM_URL and HEADROOM_TOKEN (or _TOKEN_FILE), HEADROOM_CA for TLS."""

import json
import os
import socket
import ssl
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from controller import form

WAIT_S = 20.0
NO_REASON = "from the command line"


class RemoteError(RuntimeError):
    """The console does not do it; the message says why."""


class Remote:
    """The API of one console."""

    def __init__(self, url: str, token: str, ca: str | None = None) -> None:
        if not url.startswith(("http://", "https://")):
            raise RemoteError(f"HEADROOM_URL {url!r}: give http:// or https://")
        self._url, self._token = url.rstrip("/"), token
        self._context = ssl.create_default_context(cafile=ca) if url.startswith("https") else None

    def get(self, path: str) -> dict[str, Any]:
        """What a path says."""
        return self._ask("GET", path, None)

    def act(self, act: dict[str, Any], why: str) -> dict[str, Any]:
        """Do an act; what was written."""
        return self._ask("POST", "/v1/acts", {**act, "why": why if len(why.strip()) >= 3 else NO_REASON})

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, headers, method=method)  # noqa: S310  (checked)
        try:
            with urllib.request.urlopen(request, timeout=WAIT_S, context=self._context) as reply:  # noqa: S310
                return dict(json.load(reply))
        except urllib.error.HTTPError as error:
            raise RemoteError(f"{self._url}: {_detail(error)}") from error
        except (OSError, ValueError) as error:
            raise RemoteError(f"{self._url} does not answer: {error}") from error


def _detail(error: urllib.error.HTTPError) -> str:
    """What the console says of a refusal."""
    try:
        detail = json.load(error)["detail"]
    except (ValueError, KeyError, TypeError):
        return f"{error.code} {error.reason}"
    return detail if isinstance(detail, str) else f"{error.code}: {detail[0]['msg']}"


def from_environment() -> Remote | None:
    """The console that the environment names, None where it names none."""
    url = os.environ.get("HEADROOM_URL", "")
    if not url:
        return None
    file = os.environ.get("HEADROOM_TOKEN_FILE", "")
    try:
        token = Path(file).read_text().strip() if file else os.environ.get("HEADROOM_TOKEN", "")
    except OSError as error:
        raise RemoteError(f"{file}: {error.strerror}") from error
    if not token:
        raise RemoteError("HEADROOM_URL is given, HEADROOM_TOKEN is not: headroom user token SITE NAME makes one")
    return Remote(url, token, os.environ.get("HEADROOM_CA"))


def newest(folder: Path) -> dict[str, Any]:
    """The newest cycle from the tap of a controller on this machine; RemoteError where none runs."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(WAIT_S)
        try:
            sock.connect(str(folder / form.TAP_FILE))
            with sock.makefile("rb") as file:
                while True:
                    size, kind = form.PREFIX.unpack(file.read(form.PREFIX.size))
                    body = file.read(size)
                    if kind == form.PICTURE:
                        return form.split(body)[0]
        except OSError as error:
            raise RemoteError(
                f"no controller found ({error.strerror or error}): looked in {folder}; another state directory: --state"
            ) from error
        except Exception as error:
            raise RemoteError("the controller stopped while it was asked") from error
