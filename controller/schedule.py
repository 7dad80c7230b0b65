"""Curtailments that are agreed on beforehand: which of them asks for what now. Pure, by the wall clock."""

from dataclasses import replace

from controller.frames import Curtailment, Requests
from drivers.site.model import Site

SETTLE_S = 20.0  # caps, cooling and meters follow the ramp this much later


def lead_s(site: Site, one: Curtailment) -> float:
    """How long before its beginning the site must set out, to be there in time by its own ramp [s]."""
    return SETTLE_S + max(site.control.envelope_w - one.envelope_w, 0.0) / site.control.ramp_down_w_per_s


def due(site: Site, requests: Requests, wall_ms: int) -> Requests:
    """The requests of this moment: the lowest envelope of what is asked for now and of the curtailments under way.

    One that is due within its lead is under way; the envelope that an operator asks for is never raised by one.
    """
    running = [c for c in requests.curtailments if begins_ms(site, c) <= wall_ms < c.until_ms]
    if not running:
        return requests
    lowest = min(running, key=lambda c: c.envelope_w)
    if requests.envelope_w is not None and requests.envelope_w <= lowest.envelope_w:
        return requests
    return replace(requests, envelope_w=lowest.envelope_w, envelope_by=lowest.by, envelope_within_s=None)


def begins_ms(site: Site, one: Curtailment) -> float:
    """When the site sets out for it."""
    return one.from_ms - 1000.0 * lead_s(site, one)
