"""Cap leases: the group message, the agents that hold leases, the sender's ledger. Pure; no I/O, no clock.

A lease says: until `ttl_s` after you accept this, draw at most `cap_w`; then go to the lower of that and
`safe_cap_w`, over `decay_s` at a pace of your own inside it. It may shed racks by rungs (`Shed`), which stay until a
later lease clears them, and give each GPU a cap of its own. Rules: CONTROL.md, Leases.
"""

from drivers.lease.holder import BEAT_S, Holder, Refusal
from drivers.lease.ledger import Ledger
from drivers.lease.message import (
    MAX_BYTES,
    MAX_GPU_W,
    MAX_GPUS,
    MAX_RACKS,
    NO_GPU,
    Group,
    Ints,
    Lease,
    LeaseError,
    Report,
    Shed,
    compile_groups,
    decode_lease,
    decode_report,
    roster,
)

__all__ = [
    "BEAT_S",
    "MAX_BYTES",
    "MAX_GPUS",
    "MAX_GPU_W",
    "MAX_RACKS",
    "NO_GPU",
    "Group",
    "Holder",
    "Ints",
    "Lease",
    "LeaseError",
    "Ledger",
    "Refusal",
    "Report",
    "Shed",
    "compile_groups",
    "decode_lease",
    "decode_report",
    "roster",
]
