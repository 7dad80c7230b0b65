"""Who is signed in, and how often somebody may try. Sessions are kept as hashes: a stolen file signs nobody in."""

import hashlib
import json
import os
import secrets
from collections import OrderedDict
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "sessions.json"
LASTS_S = 12 * 3600.0  # one shift
MOST = 1000
MOST_OF_ONE = 20  # sessions of one user
FREE_TRIES = 5
WAIT_S, LONGEST_WAIT_S = 2.0, 900.0
USER_WAIT_S = 30.0  # for a name from anywhere: nobody shuts an operator out for long by guessing wrong
TRACKED = 4096


@dataclass(frozen=True)
class Session:
    """One browser that is signed in."""

    user: str
    csrf: str
    until_s: float  # wall clock
    mark: str = ""  # Accounts.mark when it began


class Sessions:
    """Sessions by the cookie's secret; they outlive a restart of the console. Times are wall seconds."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._of: dict[str, Session] = {}
        with suppress(OSError, ValueError, TypeError):  # unreadable: everybody signs in again
            self._of = {key: Session(**value) for key, value in json.loads(self._path.read_text()).items()}

    def begin(self, user: str, now_s: float, mark: str = "") -> tuple[str, Session]:
        """A new session: its secret for the cookie, and itself."""
        secret = secrets.token_urlsafe(32)
        session = Session(user, secrets.token_urlsafe(24), now_s + LASTS_S, mark)
        mine = [k for k, s in self._of.items() if s.user == user][1 - MOST_OF_ONE :]  # nobody pushes others out
        kept = {k: s for k, s in self._of.items() if s.until_s > now_s and (s.user != user or k in mine)}
        self._of = dict(list(kept.items())[1 - MOST :])
        self._of[_key(secret)] = session
        self._write()
        return secret, session

    def find(self, secret: str, now_s: float) -> Session | None:
        """The session of a cookie, None where it is over or was never there."""
        session = self._of.get(_key(secret))
        return session if session is not None and session.until_s > now_s else None

    def end(self, secret: str) -> None:
        """Sign out."""
        if self._of.pop(_key(secret), None) is not None:
            self._write()

    def end_all(self, user: str) -> None:
        """Sign a user out everywhere."""
        self._of = {k: s for k, s in self._of.items() if s.user != user}
        self._write()

    def _write(self) -> None:
        scratch = self._path.with_suffix(".new")
        with suppress(OSError), os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump({key: asdict(session) for key, session in self._of.items()}, file)
            file.flush()
            scratch.replace(self._path)


class Throttle:
    """After some failures each further one doubles the wait, for an address as for a name; a success forgets."""

    def __init__(self) -> None:
        self._failed: OrderedDict[str, tuple[int, float]] = OrderedDict()  # key -> failures, not before [s]

    def wait_s(self, keys: tuple[str, ...], now_s: float) -> float:
        """Seconds until any of the keys may try again, 0 when at once."""
        return max(0.0, *(self._failed.get(key, (0, 0.0))[1] - now_s for key in keys))

    def failed(self, keys: tuple[str, ...], now_s: float) -> None:
        """Note a failure of all keys."""
        for key in keys:
            count = self._failed.pop(key, (0, 0.0))[0] + 1
            longest_s = USER_WAIT_S if key.startswith("user ") else LONGEST_WAIT_S
            wait = 0.0 if count < FREE_TRIES else min(WAIT_S * 2.0 ** min(count - FREE_TRIES, 20), longest_s)
            self._failed[key] = (count, now_s + wait)
        while len(self._failed) > TRACKED:
            self._failed.popitem(last=False)

    def passed(self, keys: tuple[str, ...]) -> None:
        """Forget the failures of the keys."""
        for key in keys:
            self._failed.pop(key, None)


def _key(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
