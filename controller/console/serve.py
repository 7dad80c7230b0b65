"""`headroom console`: the console as a process. `headroom run` starts one; it may as well run on its own."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from controller.console.app import build
from controller.console.desk import Desk, desk
from drivers.clock import RealClock
from drivers.site.model import Site

PORT = 8600


class ConsoleError(RuntimeError):
    """The console cannot start; the message says why and what to do."""


@dataclass(frozen=True)
class Where:
    """Where the console listens; beyond this machine only behind TLS, unless `plain`: something else does it."""

    host: str = "127.0.0.1"
    port: int = PORT
    cert: Path | None = None
    key: Path | None = None
    plain: bool = False

    @property
    def url(self) -> str:
        """Its address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http{'s' if self.cert else ''}://{host}:{self.port}/"

    def check(self) -> None:
        """ConsoleError where passwords would cross a network in the clear, or a file is missing."""
        if (self.cert is None) != (self.key is None):
            raise ConsoleError("give both --tls-cert and --tls-key, or neither")
        for file in (self.cert, self.key):
            if file is not None and not file.is_file():
                raise ConsoleError(f"{file}: there is no such file")
        if self.cert is None and not self.plain and not _loopback(self.host):
            raise ConsoleError(
                f"{self.host} is not this machine alone, and without TLS passwords would be read on the way: give "
                "--tls-cert and --tls-key, or --behind-proxy where a proxy does TLS"
            )


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def serve(site: Site, folder: Path, where: Where, plant: Path | None = None) -> None:
    """Serve until SIGINT or SIGTERM; ConsoleError where it cannot listen."""
    where.check()
    secure = where.cert is not None or where.plain
    try:
        uvicorn.Server(config(desk(site, folder, RealClock(), plant, secure=secure), where)).run()
    except SystemExit as error:
        raise ConsoleError(f"the console cannot listen on {where.url}: is the port taken?") from error


def config(at: Desk, where: Where) -> uvicorn.Config:
    """How the application is served; on this machine alone it answers only to this machine's names."""
    if _loopback(where.host) and not where.plain:
        at.hosts = ("localhost", "127.0.0.1", "[::1]", "::1", where.host)
    return uvicorn.Config(
        build(at),
        host=where.host,
        port=where.port,
        loop="uvloop",
        http="h11",
        ws="websockets-sansio",
        ws_max_size=4096,
        ws_per_message_deflate=False,  # a picture is deflated once for everybody
        ws_ping_interval=20.0,
        ssl_certfile=where.cert,
        ssl_keyfile=where.key,
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=where.plain,
        timeout_graceful_shutdown=2,
        limit_concurrency=500,
    )
