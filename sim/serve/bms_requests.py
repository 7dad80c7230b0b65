"""What the BMS lets an integration ask: supply set-points of row CDUs, bounded, and given up with its heartbeat."""

from collections.abc import Callable

from drivers.mqtt.bms_values import exact
from drivers.mqtt.dsx_topics import METADATA, write_topic
from drivers.site.model import Site
from sim.serve.bms_objects import request_points

OnRequest = Callable[[str, float], None]
SPAN_K = 10.0  # a request may lie this far above the design set-point, and not below it


class Requests:
    """Passes requests on as `on_request(cdu, supply_c)`; without them, or without heartbeats, a CDU's design value."""

    def __init__(self, site: Site, on_request: OnRequest) -> None:
        self.points = request_points(site)
        self._design_c = {cdu.id: cdu.supply_c for cdu in site.cdus}
        self._most_c = {
            cdu.id: max(cdu.supply_c, min(cdu.supply_c + SPAN_K, site.control.supply_max_c)) for cdu in site.cdus
        }
        self._cdu_at = {write_topic(METADATA + p.key, site.mqtt.integration): c for c, p in self.points.items()}
        self._on_request = on_request
        self._in_force: dict[str, float] = {}

    def take(self, topic: str, payload: bytes) -> bool:
        """A message of the integration; whether it was a request of a known kind. A null takes one back."""
        cdu = self._cdu_at.get(topic)
        reading = exact(payload) if cdu is not None else None
        if cdu is None or reading is None:
            return False
        value, _, good = reading
        wanted = min(max(value, self._design_c[cdu]), self._most_c[cdu]) if good else self._design_c[cdu]
        if self._in_force.get(cdu) != wanted:
            self._in_force[cdu] = wanted
            self._on_request(cdu, wanted)
        return True

    def revert(self) -> None:
        """The integration is silent: every CDU goes back to its design value."""
        for cdu in self._in_force:
            self._on_request(cdu, self._design_c[cdu])
        self._in_force.clear()
