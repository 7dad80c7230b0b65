"""What the console's routes share: the link, the acts, the accounts, and where questions go."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from controller.acts import Acts
from controller.console.accounts import Accounts
from controller.console.asker import Asker
from controller.console.intake import Intake
from controller.console.lag import Lag
from controller.console.link import Link
from controller.console.plant import PlantLine
from controller.console.sessions import Sessions, Throttle
from drivers.clock import Clock
from drivers.site.model import Site

HASHES = 2  # passwords that are checked at a time: each takes 32 MiB and 80 ms


@dataclass
class Desk:
    """One site's console."""

    site: Site
    folder: Path  # the state directory
    clock: Clock
    link: Link
    acts: Acts
    accounts: Accounts
    sessions: Sessions
    asker: Asker
    plant: PlantLine
    intake: Intake
    secure: bool = False  # behind TLS
    hosts: tuple[str, ...] = ()  # names by which it may be called; empty: any
    throttle: Throttle = field(default_factory=Throttle)
    hashing: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(HASHES))
    reading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))  # of the history: a core at most
    browsers: int = 0
    lag: Lag = field(default_factory=Lag)

    @property
    def cookie(self) -> str:
        """Name of the session's cookie; the prefix binds it to this host over TLS."""
        return "__Host-headroom" if self.secure else "headroom"

    def wall_s(self) -> float:
        """Wall clock [s]."""
        return self.clock.wall_ms() / 1000.0


def desk(site: Site, folder: Path, clock: Clock, plant: Path | None = None, secure: bool = False) -> Desk:
    """The console of a site on its state directory; `plant` is the socket of a simulated plant."""
    own = folder / "console"
    own.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Desk(
        site=site,
        folder=folder,
        clock=clock,
        link=Link(folder, clock),
        acts=Acts(folder, site),
        accounts=Accounts(own),
        sessions=Sessions(own),
        asker=Asker(folder),
        plant=PlantLine(plant),
        intake=Intake(folder, site, clock),
        secure=secure,
    )
