"""The agents' side of leases: what each rack may draw, now, from what it has accepted."""

from collections.abc import Sequence
from enum import IntEnum

import numpy as np

from drivers.lease.message import BOOT_SHIFT, MAX_CAP_W, NO_GPU, Bools, Floats, Group, Ints, Lease, Report, Shed

BEAT_S = 1.0
SLOWEST, FASTEST = 1.0, 0.4  # share of the decay time that a rack takes, drawn once per rack


class Refusal(IntEnum):
    """Why a rack did not take a lease."""

    ACCEPTED = 0
    EPOCH = 1  # an older controller
    SEQUENCE = 2  # not above the last one taken: duplicate or overtaken
    ECHO = 3  # answers no heartbeat of the last TTL: delayed, or meant for the agent before its restart


ACCEPTED, EPOCH, SEQUENCE, ECHO = (int(r) for r in Refusal)  # an enum's own attributes are slow to read


class Holder:
    """The lease state of all agents of a plant, or of one. Every array is [racks].

    `cap_w` is what the last lease commanded, `in_force_w` what holds at the last `step`. At start the cap is
    `boot_cap_w`: the persisted lower of cap and safe cap, at first start the site's safe cap. Whatever a message says,
    a cap stays at or below `max_w` (nameplate) and a safe cap at or below `built_in_w` (default: boot_cap_w, for a
    first start). `boot` must rise with each start of an agent (wall seconds or a stored counter), so that no
    heartbeat number ever comes back.

    `shed` is the rung of each rack (Shed), at most `last_rung`, whatever a message says. It is persisted like the
    cap and neither expiry nor a restart clears it: a shed rack comes back only by a new lease. `gpu_cap_w` [racks,
    `gpus`] are the caps of single GPUs beside the rack's cap (NO_GPU: none); a restart forgets them, the rack's holds.
    """

    def __init__(
        self,
        boot_cap_w: Ints,
        now_s: float,
        *,
        max_w: Ints | None = None,
        boot: int = 1,
        seed: int = 0,
        boot_shed: Ints | None = None,
        built_in_w: Ints | None = None,
        last_rung: Shed = Shed.OFF,
        gpus: int = 0,
    ) -> None:
        n = len(boot_cap_w)
        self.last_rung = last_rung
        self.shed: Ints = np.zeros(n, dtype=np.int64) if boot_shed is None else boot_shed.astype(np.int64)
        self.gpu_cap_w: Ints = np.full((n, gpus), NO_GPU, dtype=np.int64)
        self.max_w: Ints = np.full(n, MAX_CAP_W, dtype=np.int64) if max_w is None else max_w.astype(np.int64)
        self.safest_w: Ints = (boot_cap_w if built_in_w is None else built_in_w).astype(np.int64)
        self.epoch: Ints = np.zeros(n, dtype=np.int64)
        self.seq: Ints = np.zeros(n, dtype=np.int64)
        self.cap_w: Ints = boot_cap_w.astype(np.int64)
        self.safe_cap_w: Ints = self.cap_w.copy()
        self.expiry_s: Floats = np.full(n, -np.inf)
        self.decay_s: Floats = np.zeros(n)
        self.pace: Floats = np.random.default_rng(seed).uniform(FASTEST, SLOWEST, n)
        self.start_s: Floats = np.full(n, now_s)
        self.first_beat: Ints = np.full(n, boot << BOOT_SHIFT, dtype=np.int64)
        self.beat: Ints = self.first_beat.copy()
        self.in_force_w: Floats = self.cap_w.astype(np.float64)
        self.step(now_s)

    @property
    def persisted_w(self) -> Ints:
        """The boot default of the next start [W]: an agent's restart never raises its cap."""
        return np.minimum(self.cap_w, self.safe_cap_w)

    def accept(self, lease: Lease, racks: Ints, now_s: float) -> Ints:
        """Offer a lease to `racks` (positions, in roster order); a Refusal per rack, ACCEPTED where it now holds."""
        return self.accept_all((lease,), (racks,), now_s)

    def accept_all(self, leases: Sequence[Lease], members: Sequence[Ints], now_s: float) -> Ints:
        """Offer leases at once, each to its `members` (racks as in `accept`; no rack twice); refusals in that order."""
        sizes = [len(x) for x in members]
        racks = np.concatenate(members)
        ttl_s, seq, given = (np.repeat([getattr(m, x) for m in leases], sizes) for x in ("ttl_s", "seq", "epoch"))
        age = self._beats(racks, now_s) - np.concatenate([m.echo for m in leases])
        # A beat lasts one period: counting its end keeps the window at one TTL from the beat's start.
        in_time = (age >= 0) & ((age + 1) * BEAT_S <= ttl_s)
        epoch = self.epoch[racks]
        refusal = np.where(in_time, ACCEPTED, ECHO)
        refusal[(given == epoch) & (seq <= self.seq[racks])] = SEQUENCE
        refusal[given < epoch] = EPOCH
        all_of_them = bool((refusal == ACCEPTED).all())
        taken: slice | Bools = slice(None) if all_of_them else refusal == ACCEPTED
        rows = racks[taken]
        caps_w, safes_w = (np.concatenate([getattr(m, x) for m in leases])[taken] for x in ("cap_w", "safe_cap_w"))
        self.epoch[rows], self.seq[rows] = given[taken], seq[taken]
        self.cap_w[rows] = np.minimum(caps_w, self.max_w[rows])
        self.safe_cap_w[rows] = np.minimum(safes_w, self.safest_w[rows])
        self.shed[rows] = np.minimum(_rungs(leases, sizes)[taken], self.last_rung)
        self.gpu_cap_w[rows] = NO_GPU
        self.expiry_s[rows] = now_s + ttl_s[taken]
        self.decay_s[rows] = np.repeat([m.decay_s for m in leases], sizes)[taken]
        self.in_force_w[rows] = self.cap_w[rows]
        self._take_gpus(leases, members, refusal == ACCEPTED)
        return refusal

    def _take_gpus(self, leases: Sequence[Lease], members: Sequence[Ints], taken: Bools) -> None:
        """Caps of single GPUs, where a lease has them and its racks have `taken` it."""
        end = 0
        for lease, racks in zip(leases, members, strict=True):
            own, end = taken[end : end + len(racks)], end + len(racks)
            if lease.gpu_cap_w is not None:
                width = min(lease.gpu_cap_w.shape[1], self.gpu_cap_w.shape[1])
                self.gpu_cap_w[racks[own], :width] = lease.gpu_cap_w[own, :width]

    def step(self, now_s: float) -> Floats:
        """Bring heartbeats and caps to `now_s` [s, monotonic]; the caps in force [W]."""
        self.beat = self._beats(slice(None), now_s)
        self.in_force_w = self.cap_in_force_w(now_s)
        return self.in_force_w

    def cap_in_force_w(self, now_s: float) -> Floats:
        """Caps in force at `now_s` [W]: after expiry a straight line down to the lower of cap and safe cap."""
        if now_s <= self.expiry_s.min(initial=np.inf):
            return self.cap_w.astype(np.float64)
        gone = np.clip((now_s - self.expiry_s) / np.maximum(self.pace * self.decay_s, 1e-9), 0.0, 1.0)
        return self.cap_w - (self.cap_w - self.persisted_w) * gone

    def restart(self, racks: Ints, now_s: float, boot: int) -> None:
        """The agents of `racks` start anew with the start number `boot`, from what they had persisted."""
        self.cap_w[racks] = self.safe_cap_w[racks] = self.persisted_w[racks]
        self.gpu_cap_w[racks] = NO_GPU
        self.epoch[racks] = self.seq[racks] = 0
        self.expiry_s[racks] = -np.inf
        self.start_s[racks] = now_s
        self.first_beat[racks] = boot << BOOT_SHIFT
        self.step(now_s)

    def report(self, group: Group, power_w: Floats, gpu_w: Ints | None = None) -> Report:
        """What the agents of `group` say at the last step.

        `power_w` [W] is measured at all racks, `gpu_w` [racks, GPUs] at all their GPUs (NO_GPU: the rack has fewer).
        """
        racks = group.racks
        return Report(
            group=group.name,
            roster=group.roster,
            beat=self.beat[racks],
            epoch=self.epoch[racks],
            seq=self.seq[racks],
            cap_w=np.ceil(self.in_force_w[racks]).astype(np.int64),
            power_w=np.maximum(np.rint(power_w[racks]), 0).astype(np.int64),
            shed=self.shed[racks],
            gpu_w=None if gpu_w is None else gpu_w[racks],
        )

    def _beats(self, racks: Ints | slice, now_s: float) -> Ints:
        ran = np.floor((now_s - self.start_s[racks]) / BEAT_S).astype(np.int64)
        beats: Ints = self.first_beat[racks] + np.maximum(ran, 0)
        return beats


def _rungs(leases: Sequence[Lease], sizes: Sequence[int]) -> Ints:
    """Rungs that the leases give, none where a lease says nothing of them [racks of all leases]."""
    if all(lease.shed is None for lease in leases):
        return np.zeros(sum(sizes), dtype=np.int64)
    none = (np.zeros(size, dtype=np.int64) for size in sizes)
    return np.concatenate([x if m.shed is None else m.shed for m, x in zip(leases, none, strict=True)])
