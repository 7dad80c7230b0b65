"""Grid target: the site's envelope, or the lowest that an accepted request asks for now."""

import numpy as np

from controller.frames import Requests
from drivers.site.model import Site

# Class 0.5S metering (IEC 62053-22) and the agents' own error: caps are set this far below the envelope.
METER_ERROR = 0.005


def envelope_w(site: Site, requests: Requests, load_w: float, ramped_w: float) -> tuple[float, str]:
    """Envelope to hold at the meters [W] and what narrowed it ("" for the site's own).

    A request goes down within the site's ramp, from the load of that moment (`load_w`, NaN if unknown) or from
    `ramped_w`, where the ramp has come to, whichever is lower; a rise is paced by the guard.
    """
    asked = requests.envelope_w
    if asked is None or asked >= site.control.envelope_w:
        return site.control.envelope_w, ""
    start_w = np.fmin(ramped_w, load_w / (1.0 - METER_ERROR))
    now_w = float(max(asked, np.fmin(start_w, site.control.envelope_w)))
    return now_w, f"curtailment to {asked / 1e6:.1f} MW by {requests.envelope_by or 'operator'}"
