"""Certificates for tests, made on the spot by openssl: a CA, and whoever it signs."""

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

from helpers_programs import need_program


@dataclass(frozen=True)
class Authority:
    """A CA in a folder of its own."""

    folder: Path

    @classmethod
    def new(cls, folder: Path) -> "Authority":
        folder.mkdir()
        made = cls(folder)
        made._openssl("req", "-x509", *made._key("ca"), "-out", "ca.pem", "-days", "2", "-subj", "/CN=test CA")
        return made

    def sign(self, name: str, host: str = "") -> tuple[Path, Path]:
        """Certificate and key of `name`; with `host` (an address) it may be a server there."""
        self._openssl("req", *self._key(name), "-out", f"{name}.csr", "-subj", f"/CN={name}")
        extra = f"subjectAltName=IP:{host}\n" if host else "extendedKeyUsage=clientAuth\n"
        (self.folder / f"{name}.ext").write_text(extra)
        by = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext")
        self._openssl("x509", "-req", "-in", f"{name}.csr", *by, "-out", f"{name}.pem")
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    def environ(self, name: str) -> dict[str, str]:
        """What the environment says for a client that this CA has signed."""
        cert, key = self.sign(name)
        files = {"CA": self.folder / "ca.pem", "CERT": cert, "KEY": key}
        return {f"HEADROOM_MODBUS_{what}": str(path) for what, path in files.items()}

    def server_context(self, host: str) -> ssl.SSLContext:
        """A server that only lets in whom this CA has signed."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.sign(f"server-{host}", host))
        context.load_verify_locations(self.folder / "ca.pem")
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _openssl(self, *arguments: str) -> None:
        program = need_program("openssl", "openssl")
        subprocess.run([program, *arguments], cwd=self.folder, check=True, capture_output=True)

    @staticmethod
    def _key(name: str) -> tuple[str, ...]:
        return "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key"
