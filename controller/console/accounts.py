"""Who may do what: users with hashed passwords, API tokens with hashed secrets, in one file of mode 0600.

Passwords are hashed with scrypt (RFC 7914; N = 2^15, r = 8, p = 1: 32 MiB and some 80 ms each). A token is 256 random
bits, so a plain SHA-256 of it is enough. The file is read again when it changes: a user who is removed is out at once.
"""

import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

FILE = "users.json"
FIRST_USER = "admin"
SHORTEST = 12  # characters of a password that a person chooses
LONGEST = 256
SCRYPT = {"n": 1 << 15, "r": 8, "p": 1}
SCRYPT_MEMORY = 64 << 20
NAME = re.compile(r"[a-z][a-z0-9._-]{0,31}")
TOKEN_MARK = "hr_"  # noqa: S105  (a mark that scanners for leaked secrets can look for)
MOST_TOKENS = 50  # of a user


class AccountError(ValueError):
    """What was asked of an account cannot be done; the message says why."""


class Role(IntEnum):
    """Each may do all that those below may."""

    VIEWER = 1
    OPERATOR = 2
    ENGINEER = 3


@dataclass(frozen=True)
class Who:
    """Somebody who is known: a user, or a program with a token."""

    name: str
    role: Role


def _hashed(password: str, salt: bytes, cost: dict[str, int]) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, dklen=32, maxmem=SCRYPT_MEMORY, **cost)


def _record(password: str) -> dict[str, Any]:
    salt = secrets.token_bytes(16)
    return {"scrypt": SCRYPT, "salt": salt.hex(), "hash": _hashed(password, salt, SCRYPT).hex()}


_NOBODY = _record(secrets.token_hex(16))  # an unknown name costs the time of a known one


class Accounts:
    """The users and tokens of one site; every read is of the file as it is now."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._stamp: tuple[int, int, int] | None = None
        self._known: dict[str, Any] = {"users": {}, "tokens": {}}

    def first_password(self) -> str | None:
        """The password of the first user, made now and told only here; None where there are users already."""
        password = secrets.token_urlsafe(15)
        with self._change() as known:
            if known["users"]:
                return None
            known["users"][FIRST_USER] = {"role": Role.ENGINEER.name.lower(), **_record(password)}
        return password

    def add(self, name: str, role: Role, password: str) -> None:
        """A new user; AccountError where the name is taken or does not do, or the password is too short."""
        if not NAME.fullmatch(name):
            raise AccountError(f"user {name!r}: give a lower-case letter, then letters, digits or ._-")
        _long_enough(password)
        with self._change() as known:
            if name in known["users"]:
                raise AccountError(f"there is a user {name} already")
            known["users"][name] = {"role": role.name.lower(), **_record(password)}

    def set_password(self, name: str, password: str) -> None:
        """Another password for a user, whose tokens end with the old one."""
        _long_enough(password)
        with self._change() as known:
            self._user(known, name).update(_record(password))
            known["tokens"] = {k: t for k, t in known["tokens"].items() if t["user"] != name}

    def set_role(self, name: str, role: Role) -> None:
        """Another role for a user."""
        with self._change() as known:
            self._user(known, name)["role"] = role.name.lower()

    def remove(self, name: str) -> None:
        """Take a user out, with the tokens that the user has."""
        with self._change() as known:
            self._user(known, name)
            del known["users"][name]
            known["tokens"] = {k: t for k, t in known["tokens"].items() if t["user"] != name}

    def new_token(self, name: str, role: Role) -> str:
        """A token that acts as the user, with at most `role`; told only here."""
        secret = TOKEN_MARK + secrets.token_urlsafe(32)
        with self._change() as known:
            if role > Role[self._user(known, name)["role"].upper()]:
                raise AccountError(f"{name} is no {role.name.lower()}")
            if sum(t["user"] == name for t in known["tokens"].values()) >= MOST_TOKENS:
                raise AccountError(f"{name} has {MOST_TOKENS} tokens already: take some away")
            known["tokens"][_digest(secret)] = {"user": name, "role": role.name.lower()}
        return secret

    def revoke_tokens(self, name: str) -> int:
        """Take away all tokens of a user; how many there were."""
        with self._change() as known:
            of = [k for k, t in known["tokens"].items() if t["user"] == name]
            for key in of:
                del known["tokens"][key]
        return len(of)

    def users(self) -> dict[str, Role]:
        """Names and roles."""
        return {name: Role[user["role"].upper()] for name, user in self._read()["users"].items()}

    def who(self, name: str) -> Who | None:
        """The user of that name, None where there is none (any more)."""
        role = self.users().get(name)
        return None if role is None else Who(name, role)

    def mark(self, name: str) -> str:
        """Changes with the user's password; "" where there is no such user. What a session is bound to."""
        record = self._read()["users"].get(name)
        return "" if record is None else _digest(record["hash"])[:16]

    def check(self, name: str, password: str) -> Who | None:
        """The user if name and password fit; takes some 80 ms either way."""
        record = self._read()["users"].get(name)
        told = record or _NOBODY
        found = _hashed(password[:LONGEST], bytes.fromhex(told["salt"]), told["scrypt"])
        return self.who(name) if hmac.compare_digest(found, bytes.fromhex(told["hash"])) and record else None

    def by_token(self, secret: str) -> Who | None:
        """Who holds this token; never more than its user may."""
        token = self._read()["tokens"].get(_digest(secret))
        user = self.who(token["user"]) if token else None
        return None if user is None else Who(user.name, min(user.role, Role[token["role"].upper()]))

    def _user(self, known: dict[str, Any], name: str) -> dict[str, Any]:
        try:
            user: dict[str, Any] = known["users"][name]
        except KeyError:
            raise AccountError(f"there is no user {name}: {', '.join(known['users']) or 'there are none'}") from None
        return user

    def _read(self) -> dict[str, Any]:
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            return {"users": {}, "tokens": {}}
        stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if stamp != self._stamp:
            self._known, self._stamp = json.loads(self._path.read_text()), stamp
        return self._known

    @contextmanager
    def _change(self) -> Iterator[dict[str, Any]]:
        """The content to change; written whole and at once, by one process at a time."""
        with open(self._path.with_suffix(".lock"), "a", opener=_private) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            known = json.loads(json.dumps(self._read()))
            yield known
            scratch = self._path.with_suffix(".new")
            with open(scratch, "w", opener=_private) as file:
                json.dump(known, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(self._path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _long_enough(password: str) -> None:
    if not SHORTEST <= len(password) <= LONGEST:
        raise AccountError(f"a password has {SHORTEST} to {LONGEST} characters")


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
