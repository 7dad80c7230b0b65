"""Where a broker is, and who we are there."""

import logging
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field

log = logging.getLogger(__name__)

LOOPBACK = ("localhost", "127.", "::1")


@dataclass(frozen=True)
class Endpoint:
    """Where the broker is and who we are there."""

    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)  # no log line may show it
    tls_ca: str | None = None  # file; without it and a certificate of ours: plain TCP
    tls_cert: str | None = None
    tls_key: str | None = None

    def tls_context(self) -> ssl.SSLContext | None:
        """TLS with the site's own CA (the system's, where only a certificate of ours is given), or None.

        The broker's name is checked always. OSError when a file cannot be read or fits no key.
        """
        if self.tls_ca is None and self.tls_cert is None:
            return None
        context = ssl.create_default_context(cafile=self.tls_ca)
        if self.tls_cert is not None:
            context.load_cert_chain(self.tls_cert, self.tls_key)
        return context


def endpoint(host: str, port: int, environ: Mapping[str, str] = os.environ) -> Endpoint:
    """The broker of a site file, with credentials from HEADROOM_MQTT_{USERNAME,PASSWORD,CA,CERT,KEY}."""

    def get(name: str) -> str | None:
        return environ.get(f"HEADROOM_MQTT_{name}") or None

    where = Endpoint(host, port, get("USERNAME"), get("PASSWORD"), get("CA"), get("CERT"), get("KEY"))
    if where.password and where.tls_ca is None and where.tls_cert is None and not host.startswith(LOOPBACK):
        log.warning("the password for the MQTT broker goes to %s in clear: set HEADROOM_MQTT_CA to use TLS", host)
    return where
