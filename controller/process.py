"""What a running controller needs of its machine: systemd's ear, to be the only one, a recording beside it."""

import fcntl
import logging
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import IO

from drivers.capture.recorder import Recorder, free_name
from drivers.clock import Clock
from drivers.site.model import Site

NOTIFY_S = 0.1


class ServiceError(RuntimeError):
    """The controller cannot start; the message says why and what to do."""


def notify(message: str) -> None:
    """Tell systemd (sd_notify protocol); nothing where it does not listen."""
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(NOTIFY_S)  # systemd busy or gone is no reason to stop
            sock.connect("\0" + path[1:] if path.startswith("@") else path)
            sock.sendall(message.encode())


def lock(folder: Path) -> IO[str]:
    """The one controller of a site on this machine; ServiceError names the other's process."""
    file = (folder / "lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        pid = file.read().strip() or "?"
        file.close()
        raise ServiceError(f"a controller already runs for this site (process {pid}, {folder})") from None
    file.seek(0)
    file.truncate()
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def recording(path: Path, site: Site, clock: Clock) -> Recorder:
    """A recorder into a file of that or the next free name; ServiceError where it cannot be made."""
    try:
        recorder = Recorder(free_name(path), site, clock)
    except OSError as error:
        raise ServiceError(f"recording {path}: {error.strerror}; give another file") from error
    logging.info("recording into %s", recorder.path)
    return recorder
