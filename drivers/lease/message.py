"""The two messages on the wire, and strict decoding: whatever arrives, a good message or LeaseError comes out."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2s
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

MAX_RACKS = 64
MAX_GPUS = 144  # of one rack
MAX_BYTES = 53_248  # 64 racks of 144 GPUs with the longest numbers need about 51,700, without per-GPU values 5,000
MAX_COUNT = 2**53  # epochs, sequences and beats must survive a float64
MAX_CAP_W = 10_000_000
MAX_GPU_W = 10_000
NO_GPU = -1  # in [racks, GPUs] arrays: the rack has fewer, or no cap of its own was given
MIN_TTL_S, MAX_TTL_S, MAX_DECAY_S = 1.0, 60.0, 600.0
BOOT_SHIFT = 20  # a heartbeat number is a start number and its seconds: a start counts as 12 days of beats
MAX_GROUP = 128
_ROSTER = re.compile(r"[0-9a-f]{16}")
_GROUP = re.compile(r"[^\x00-\x1f\x7f+#/]+(/[^\x00-\x1f\x7f+#/]+)*")
_LEASE_KEYS = {"v", "group", "roster", "epoch", "seq", "ttl_s", "decay_s", "echo", "cap_w", "safe_cap_w"}
_LEASE_MAY = {"shed", "gpu_cap_w"}
_REPORT_KEYS = {"v", "group", "roster", "beat", "epoch", "seq", "cap_w", "power_w"}
_REPORT_MAY = {"shed", "gpu_w"}


class Shed(IntEnum):
    """How far a rack is shed: the rungs of the ladder, each lower in power than the one before."""

    NONE = 0
    PAUSE = 1  # work stands still, idle power
    SLOW = 2  # the same at the lowest clock
    DOWN = 3  # orderly shutdown of the nodes
    OFF = 4  # outlets open, at once


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
    shed: Ints | None = None  # [racks] rungs (Shed), None: no rack is shed; cap_w is then the power at the rung
    gpu_cap_w: Ints | None = None  # [racks, GPUs], NO_GPU beyond a rack's; None: the agents share their racks' caps out

    def encode(self) -> bytes:
        """JSON of the message; what is optional is left out where it says nothing."""
        body = {
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
        }
        return _encode(body, self.shed, "gpu_cap_w", self.gpu_cap_w)


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
    shed: Ints | None = None  # [racks] rungs in force (Shed), None: no rack is shed
    gpu_w: Ints | None = None  # [racks, GPUs] measured by the agent, NO_GPU beyond a rack's

    def encode(self) -> bytes:
        """JSON of the message; what is optional is left out where it says nothing."""
        body = {
            "v": 1,
            "group": self.group,
            "roster": self.roster,
            "beat": self.beat.tolist(),
            "epoch": self.epoch.tolist(),
            "seq": self.seq.tolist(),
            "cap_w": self.cap_w.tolist(),
            "power_w": self.power_w.tolist(),
        }
        return _encode(body, self.shed, "gpu_w", self.gpu_w)


@dataclass(frozen=True)
class Group:
    """The racks whose leases travel in one message: positions in the site's rack arrays, in roster order."""

    name: str
    roster: str
    racks: Ints
    gpus: Ints | None = None  # [racks] how many each has, None: not known here

    def check(self, message: Lease | Report) -> None:
        """LeaseError when a message means another group or other racks."""
        if message.group != self.name:
            raise LeaseError(f"group is {message.group!r}, expected {self.name!r}")
        if message.roster != self.roster or len(message.cap_w) != len(self.racks):
            raise LeaseError(
                f"group {self.name}: roster {message.roster}, expected {self.roster}: other racks are meant"
            )
        per_gpu = message.gpu_cap_w if isinstance(message, Lease) else message.gpu_w
        if per_gpu is not None and (self.gpus is None or ((per_gpu != NO_GPU).sum(axis=1) != self.gpus).any()):
            raise LeaseError(f"group {self.name}: values of other GPUs than its racks have")


def compile_groups(
    lease_groups: Mapping[str, Sequence[int]], rack_ids: Sequence[str], gpus: Sequence[int] | None = None
) -> dict[str, Group]:
    """Groups from `site.lease_groups`, all rack ids and their numbers of GPUs.

    LeaseError on a name or size that no message can carry. Without `gpus`, no message with per-GPU values fits.
    """
    if gpus is not None and max(gpus, default=0) > MAX_GPUS:
        raise LeaseError(f"a rack has {max(gpus)} GPUs, at most {MAX_GPUS} allowed")
    groups = {}
    for name, members in lease_groups.items():
        _group_name(name)
        if not 1 <= len(members) <= MAX_RACKS:
            raise LeaseError(f"group {name}: {len(members)} racks, 1 to {MAX_RACKS} allowed")
        counts = None if gpus is None else np.array([gpus[i] for i in members], dtype=np.int64)
        groups[name] = Group(name, roster([rack_ids[i] for i in members]), np.array(members, dtype=np.int64), counts)
    return groups


def decode_lease(payload: bytes) -> Lease:
    """A lease message from its JSON; LeaseError says what is wrong."""
    body = _body(payload, _LEASE_KEYS, _LEASE_MAY)
    cap_w = _ints(body, "cap_w", 0, MAX_CAP_W)
    n = len(cap_w)
    return Lease(
        group=_group_name(body["group"]),
        roster=_roster(body["roster"]),
        epoch=_int(body, "epoch", 1, MAX_COUNT),
        seq=_int(body, "seq", 1, MAX_COUNT),
        ttl_s=_seconds(body, "ttl_s", MIN_TTL_S, MAX_TTL_S),
        decay_s=_seconds(body, "decay_s", 0.0, MAX_DECAY_S),
        echo=_ints(body, "echo", 0, MAX_COUNT, n),
        cap_w=cap_w,
        safe_cap_w=_ints(body, "safe_cap_w", 0, MAX_CAP_W, n),
        shed=_rungs(body, n),
        gpu_cap_w=_per_gpu(body, "gpu_cap_w", n),
    )


def decode_report(payload: bytes) -> Report:
    """A report message from its JSON; LeaseError says what is wrong."""
    body = _body(payload, _REPORT_KEYS, _REPORT_MAY)
    cap_w = _ints(body, "cap_w", 0, MAX_CAP_W)
    n = len(cap_w)
    return Report(
        group=_group_name(body["group"]),
        roster=_roster(body["roster"]),
        beat=_ints(body, "beat", 0, MAX_COUNT, n),
        epoch=_ints(body, "epoch", 0, MAX_COUNT, n),
        seq=_ints(body, "seq", 0, MAX_COUNT, n),
        cap_w=cap_w,
        power_w=_ints(body, "power_w", 0, MAX_CAP_W, n),
        shed=_rungs(body, n),
        gpu_w=_per_gpu(body, "gpu_w", n),
    )


def _encode(body: dict[str, Any], shed: Ints | None, per_gpu_key: str, per_gpu: Ints | None) -> bytes:
    if shed is not None and shed.any():
        body["shed"] = shed.tolist()
    if per_gpu is not None:
        body[per_gpu_key] = [row[row != NO_GPU].tolist() for row in per_gpu]
    return json.dumps(body, separators=(",", ":")).encode()


def _refuse_constant(name: str) -> float:
    raise LeaseError(f"{name} is not JSON")


def _body(payload: bytes, keys: set[str], may: set[str]) -> dict[str, Any]:
    if len(payload) > MAX_BYTES:
        raise LeaseError(f"{len(payload)} bytes, at most {MAX_BYTES} allowed")
    try:
        body = json.loads(payload, parse_constant=_refuse_constant)
    except LeaseError:
        raise
    except (ValueError, RecursionError) as error:  # bad UTF-8, bad JSON, numbers too long, nesting too deep
        raise LeaseError(f"not JSON: {error}") from None
    if not isinstance(body, dict):
        raise LeaseError("not a JSON object")
    if type(body.get("v")) is not int or body["v"] != 1:
        raise LeaseError(f"version {str(body.get('v'))[:20]!r}, expected 1")
    missing, unknown = keys - body.keys(), body.keys() - keys - may
    if missing or unknown:
        raise LeaseError(f"fields missing {sorted(missing)}, unknown {sorted(unknown)[:5]}")
    return body


def _group_name(value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_GROUP or not _GROUP.fullmatch(value):
        raise LeaseError(f"group {str(value)[:40]!r} is no topic path of at most {MAX_GROUP} characters")
    return value


def _roster(value: object) -> str:
    if not isinstance(value, str) or not _ROSTER.fullmatch(value):
        raise LeaseError(f"roster {str(value)[:40]!r} is not 16 hex digits")
    return value


def _int(body: dict[str, Any], key: str, low: int, high: int) -> int:
    value = body[key]
    if type(value) is not int or not low <= value < high:
        raise LeaseError(f"{key} {str(value)[:40]} is no whole number from {low} to below {high}")
    return value


def _seconds(body: dict[str, Any], key: str, low: float, high: float) -> float:
    value = body[key]
    if type(value) not in (int, float) or not math.isfinite(value) or not low <= value <= high:
        raise LeaseError(f"{key} {str(value)[:40]} is not within {low} to {high} s")
    return float(value)


def _ints(body: dict[str, Any], key: str, low: int, high: int, size: int = 0) -> Ints:
    """One value per rack; a size of 0 allows any group size."""
    values = body[key]
    if not isinstance(values, list) or not 1 <= len(values) <= MAX_RACKS or (size and len(values) != size):
        raise LeaseError(f"{key} is no list of {size or f'1 to {MAX_RACKS}'} numbers")
    if set(map(type, values)) != {int} or min(values) < low or max(values) >= high:
        raise LeaseError(f"{key} holds something else than whole numbers from {low} to below {high}")
    return np.array(values, dtype=np.int64)


def _rungs(body: dict[str, Any], size: int) -> Ints | None:
    """Rungs of the shed ladder, one per rack; None where no rack is shed."""
    rungs = _ints(body, "shed", Shed.NONE, Shed.OFF + 1, size) if "shed" in body else None
    return rungs if rungs is not None and rungs.any() else None


def _per_gpu(body: dict[str, Any], key: str, size: int) -> Ints | None:
    """One list per rack, padded with NO_GPU to the longest; None where the message has none."""
    if key not in body:
        return None
    rows = body[key]
    if not isinstance(rows, list) or len(rows) != size or set(map(type, rows)) != {list}:
        raise LeaseError(f"{key} is no list of {size} lists")
    width = max(map(len, rows))
    if min(map(len, rows)) < 1 or width > MAX_GPUS:
        raise LeaseError(f"{key} holds a list that is not of 1 to {MAX_GPUS} numbers")
    if {kind for row in rows for kind in set(map(type, row))} != {int}:
        raise LeaseError(f"{key} holds something else than whole numbers")
    if min(map(min, rows)) < 0 or max(map(max, rows)) >= MAX_GPU_W:
        raise LeaseError(f"{key} holds a number that is not from 0 to below {MAX_GPU_W}")
    return np.array([row + [NO_GPU] * (width - len(row)) for row in rows], dtype=np.int64)
