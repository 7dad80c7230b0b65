"""Certificates of a small authority for tests, made by openssl."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from helpers_programs import need_program


@dataclass(frozen=True)
class Pair:
    """A certificate and its key."""

    cert: Path
    key: Path


class Authority:
    """A CA in a folder that signs certificates."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self._openssl, self._folder, self._name = need_program("openssl", "openssl"), folder, name
        self.cert, self._key = folder / f"{name}.pem", folder / f"{name}.key"
        ca = ("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")
        self._run("req", "-x509", *self._new(self._key), "-subj", f"/CN={name}", "-out", str(self.cert), *ca)

    def sign(self, name: str, address: str = "") -> Pair:
        """A certificate for `name`; with an address, a server's."""
        pair = Pair(self._folder / f"{self._name}-{name}.pem", self._folder / f"{self._name}-{name}.key")
        extra = ("-addext", f"subjectAltName={address}") if address else ()
        by = ("-CA", str(self.cert), "-CAkey", str(self._key))
        self._run("req", "-x509", *self._new(pair.key), "-subj", f"/CN={name}", "-out", str(pair.cert), *extra, *by)
        return pair

    @staticmethod
    def _new(key: Path) -> tuple[str, ...]:
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
        return (*curve, "-nodes", "-days", "2", "-keyout", str(key))

    def _run(self, *words: str) -> None:
        subprocess.run([self._openssl, *words], check=True, capture_output=True)
