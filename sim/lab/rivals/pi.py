"""PI control of the site's power: one feedback loop on the envelope."""

import numpy as np

from controller.frames import Floats
from sim.lab.rivals.policy import Layout, Seen

GUARD_BAND = 0.02
SETTLE_S = 5.0
P_SHARE = 0.3
PERIOD_S = 1.0


class PI:
    """Racks rise and fall together between floor and nameplate, as a PI controller of the meters' sum says.

    Lefurgy, Wang, Ware, Server-level Power Control, ICAC 2007 (doi:10.1109/ICAC.2007.35), section 3, and the group
    manager of Raghavendra et al., No "Power" Struggles, ASPLOS 2008 (doi:10.1145/1346281.1346289), section 3: power
    error in, one setting for all out. In velocity form, so that a loop at its bound does not wind up. Choices: the
    integral gain takes the site from a step back to its set-point with a time constant of 5 s, five periods; the
    proportional gain is 0.3 of one over the site's own gain; the set-point is 2 % below the envelope, for
    errors and ripple. Nothing else is limited, and a cycle without the meters changes nothing.
    """

    def __init__(self, layout: Layout, seed: int) -> None:
        del seed
        self._layout = layout
        self._span_w = layout.max_w - layout.floor_w
        self._gain_w = float(layout.rows.dot(self._span_w)[layout.envelope_row])  # site power per setting
        self._setting, self._error = 1.0, 0.0

    def caps_w(self, seen: Seen) -> Floats:
        """Caps at the common setting [R, W]."""
        if np.isfinite(seen.site_w):
            error = (seen.envelope_w * (1.0 - GUARD_BAND) - seen.site_w) / self._gain_w
            self._setting += P_SHARE * (error - self._error) + PERIOD_S / SETTLE_S * error
            self._setting = min(max(self._setting, 0.0), 1.0)
            self._error = error
        return self._layout.floor_w + self._setting * self._span_w
