"""Modbus/TCP Security: TLS with certificates on both sides, port 802. Source: MODBUS/TCP Security, MB-TCP-Security-v21.

Files are named by the environment, for the whole site: HEADROOM_MODBUS_CA (who may have signed the devices'
certificates), HEADROOM_MODBUS_CERT and HEADROOM_MODBUS_KEY (ours).
"""

import os
import ssl
from collections.abc import Mapping

from drivers.site.problems import Problem, SiteError

PREFIX = "HEADROOM_MODBUS_"


class SecurityError(SiteError):
    """Devices that speak TLS cannot be asked: a file is not named, or cannot be used."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__([Problem("framing tls", what, fix)])


def tls_context(environ: Mapping[str, str] = os.environ) -> ssl.SSLContext:
    """TLS 1.2 or newer; the device's certificate must be signed by the CA and name its host. SecurityError."""
    files = {name: environ.get(PREFIX + name, "") for name in ("CA", "CERT", "KEY")}
    lacking = [PREFIX + name for name, path in files.items() if not path]
    if lacking:
        raise SecurityError("devices.csv or gateways.csv asks for it", f"Set {', '.join(lacking)} to PEM files")
    try:
        context = ssl.create_default_context(cafile=files["CA"])
        context.load_cert_chain(files["CERT"], files["KEY"])
    except OSError as error:  # ssl.SSLError is one
        what = f"{', '.join(f'{PREFIX}{name}={path}' for name, path in files.items())} cannot be used: {error}"
        raise SecurityError(what, "Give PEM files: the CA, our certificate, and its key without a password") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
