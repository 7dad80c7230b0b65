"""Grid target: the site's envelope, or the lowest that an accepted request asks for now."""

from controller.frames import Requests
from drivers.site.model import Site

# Class 0.5S metering (IEC 62053-22) and the agents' own error: caps are set this far below what meters guard.
METER_ERROR = 0.005


def envelope_w(site: Site, requests: Requests, ramped_w: float) -> tuple[float, str]:
    """Envelope to hold at the meters [W] and what narrowed it ("" for the site's own).

    A request goes down within the site's ramp, which has come to `ramped_w`; the guard paces a rise.
    """
    asked = requests.envelope_w
    if asked is None or asked >= site.control.envelope_w:
        return site.control.envelope_w, ""
    by = f"curtailment to {asked / 1e6:.1f} MW by {requests.envelope_by or 'operator'}"
    return max(asked, min(ramped_w, site.control.envelope_w)), by
