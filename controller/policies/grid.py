"""Grid target: the site's envelope, or the lowest that an accepted request asks for now."""

from controller.frames import Requests
from drivers.site.model import Site

# Class 0.5S metering (IEC 62053-22) and the agents' own error: caps are set this far below what meters guard.
METER_ERROR = 0.005
EARLY_S = 18.0  # the message, caps that settle, and cooling that follows: of the time asked for this is not the ramp's


def down_w_per_s(site: Site, requests: Requests) -> float:
    """How fast the envelope goes down: the site's ramp, or what brings all of it to a request in a hurry in time.

    From the site's own envelope, wherever the site stands: so a restart on the way is not late either.
    """
    ramp_w_per_s, within_s = site.control.ramp_down_w_per_s, requests.envelope_within_s
    if requests.envelope_w is None or within_s is None:
        return ramp_w_per_s
    return max(ramp_w_per_s, (site.control.envelope_w - requests.envelope_w) / max(within_s - EARLY_S, 1.0))


def envelope_w(site: Site, requests: Requests, ramped_w: float) -> tuple[float, str]:
    """Envelope to hold at the meters [W] and what narrowed it ("" for the site's own).

    A request goes down as `down_w_per_s` has it, which has come to `ramped_w`; the guard paces a rise.
    """
    asked = requests.envelope_w
    if asked is None or asked >= site.control.envelope_w:
        return site.control.envelope_w, ""
    by = f"curtailment to {asked / 1e6:.1f} MW by {requests.envelope_by or 'operator'}"
    return max(asked, min(ramped_w, site.control.envelope_w)), by
