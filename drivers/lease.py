"""Cap leases: the group message, the agent that holds a lease, the sender's ledger. Pure; no I/O, no clock.

A lease says: until `ttl_s` after you accept this, draw at most `cap_w`; then go to the lower of that and
`safe_cap_w`, over `decay_s` at a pace of your own inside it. Rules: CONTROL.md, Leases.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2s

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


MAX_RACKS = 64


class LeaseError(ValueError):
    """A lease or report message that cannot be what it claims to be."""


def roster(rack_ids: Sequence[str]) -> str:
    """Short digest of a group's racks in order: both sides must mean the same racks by the same index."""
    return blake2s("\n".join(rack_ids).encode(), digest_size=8).hexdigest()


@dataclass(frozen=True)
class Lease:
    """Caps for one rack group (at most 64 racks), arrays in roster order."""

    group: str
    roster: str
    epoch: int  # a restarted or second controller has a higher one
    seq: int  # rises with every message of an epoch
    ttl_s: float
    decay_s: float
    echo: Ints  # [racks] last heartbeat number heard from each agent
    cap_w: Ints  # [racks]
    safe_cap_w: Ints  # [racks]

    def encode(self) -> bytes:
        """JSON of the message."""
        return json.dumps(
            {
                "v": 1,
                "group": self.group,
                "roster": self.roster,
                "epoch": self.epoch,
                "seq": self.seq,
                "ttl_s": self.ttl_s,
                "decay_s": self.decay_s,
                "echo": self.echo.tolist(),
                "cap_w": self.cap_w.tolist(),
                "safe_cap_w": self.safe_cap_w.tolist(),
            },
            separators=(",", ":"),
        ).encode()


@dataclass(frozen=True)
class Report:
    """What the agents of one rack group say each second, arrays in roster order."""

    group: str
    roster: str
    beat: Ints  # [racks] heartbeat number, +1 a second, from each agent
    epoch: Ints  # [racks] of the last lease accepted
    seq: Ints  # [racks]
    cap_w: Ints  # [racks] cap in force
    power_w: Ints  # [racks] measured by the agent

    def encode(self) -> bytes:
        """JSON of the message."""
        return json.dumps(
            {
                "v": 1,
                "group": self.group,
                "roster": self.roster,
                "beat": self.beat.tolist(),
                "epoch": self.epoch.tolist(),
                "seq": self.seq.tolist(),
                "cap_w": self.cap_w.tolist(),
                "power_w": self.power_w.tolist(),
            },
            separators=(",", ":"),
        ).encode()
