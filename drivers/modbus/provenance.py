"""Standing check that devices are those of the site file: asked at the start and again, slowly, one at a time.

Each device is asked on a connection of its own that is closed again, so no poll waits for it. A device that says it is
another is said in the alarms, and nothing is written to it until it says that it is the one.
"""

import asyncio
from collections.abc import Mapping

from drivers.clock import Clock
from drivers.modbus.identify import identify
from drivers.modbus.identity import declared, differences
from drivers.profile import Profile
from drivers.site.model import Device, Site
from drivers.supervise import Supervisor

FIRST_S = 5.0  # after the start: the polls connect first
REST_S = 0.05  # between two devices
AGAIN_S = 3600.0  # from one round to the next
LONGEST_S = 20.0  # for one device: a chain of models may be long
ALIKE = 3  # devices that an alarm names


class Provenance:
    """Who the Modbus devices of a site say they are, of those for which devices.csv says who they must be."""

    def __init__(
        self,
        site: Site,
        profiles: Mapping[str, Profile],
        clock: Clock,
        first_s: float = FIRST_S,
        again_s: float = AGAIN_S,
    ) -> None:
        self._profiles, self._clock, self._supervisor = profiles, clock, Supervisor(clock)
        self._first_s, self._again_s = first_s, again_s
        gateways = {g.id: (g.host, g.port) for g in site.gateways}
        self._devices: list[tuple[Device, str, int]] = [
            (d, *gateways.get(d.gateway, (d.host, d.port)))
            for d in site.devices
            if d.protocol == "modbus_tcp" and declared(d)
        ]
        self.rounds = 0  # finished
        self.differing: dict[str, list[str]] = {}  # device -> where it is another, in words
        self.unanswered: dict[str, str] = {}  # device -> why it could not be asked

    def start(self) -> None:
        """Begin; returns at once."""
        if self._devices:
            self._supervisor.spawn("identities", self._run)

    async def stop(self) -> None:
        """End it."""
        await self._supervisor.stop()

    def blocked(self, device: str) -> str:
        """Why nothing may be written to a device, empty when it may."""
        found = self.differing.get(device)
        return f"not the device of the site file: {'; '.join(found)}" if found else ""

    def alarms(self) -> list[str]:
        """One line for all that are others, one for all that could not be asked in a whole round."""
        said = []
        if self.differing:
            some = [f"{name} ({'; '.join(found)})" for name, found in list(self.differing.items())[:ALIKE]]
            more = f" and {len(self.differing) - ALIKE} more" if len(self.differing) > ALIKE else ""
            count = len(self.differing)
            are = "device is not the one" if count == 1 else "devices are not those"
            said.append(f"{count} {are} of the site file, nothing is written there: {', '.join(some)}{more}")
        if self.unanswered and self.rounds:
            names = ", ".join(list(self.unanswered)[:ALIKE])
            said.append(f"{len(self.unanswered)} devices could not be asked who they are: {names}")
        return said

    async def _run(self) -> None:
        await self._clock.sleep_until(self._clock.now_s() + self._first_s)
        while True:
            for device, host, port in self._devices:
                await self._ask(device, host, port)
                await self._clock.sleep_until(self._clock.now_s() + REST_S)
            self.rounds += 1
            self._supervisor.beat("identities")
            await self._clock.sleep_until(self._clock.now_s() + self._again_s)

    async def _ask(self, device: Device, host: str, port: int) -> None:
        """One device. What was found before stands while it does not answer, or answers with what cannot be read."""
        try:
            async with asyncio.timeout(LONGEST_S):
                told = await identify(host, port, device.unit, profile=self._profiles[device.profile])
        except Exception as error:  # a hostile device must not keep the others from being asked
            self.unanswered[device.id] = str(error) or type(error).__name__
            return
        self.unanswered.pop(device.id, None)
        found = differences(device, told)
        if found:
            self.differing[device.id] = found
        else:
            self.differing.pop(device.id, None)
