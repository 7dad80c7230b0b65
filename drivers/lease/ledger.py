"""The sender's side of leases: what each rack may draw at most, from what was sent, confirmed and measured."""

from collections.abc import Iterator, Sequence

import numpy as np

from drivers.lease.message import BOOT_SHIFT, MAX_COUNT, Bools, Floats, Group, Ints, Lease

BEATS_AHEAD = 30  # an agent's clock may run ahead of ours by this many beats since it was last heard
DEPTH = 48  # leases in flight per rack that are kept apart; older ones are merged, never forgotten


class Ledger:
    """Leases of one epoch for all racks. Every array is [racks], the rings [DEPTH x racks].

    A lease can be accepted until one TTL after the heartbeat that it echoes was heard, and then lives one TTL
    and its decay. What may have been accepted and is not known to be superseded counts. `max_w` is nameplate,
    `safe_cap_w` the largest safe cap that a rack may still hold from before.
    """

    def __init__(
        self, max_w: Floats, safe_cap_w: Ints, *, epoch: int, ttl_s: float, decay_s: float, now_s: float
    ) -> None:
        if not 1 <= epoch < MAX_COUNT:
            raise ValueError(f"epoch {epoch} is not within 1 to 2**53")
        n = len(max_w)
        self.epoch, self.ttl_s, self.decay_s, self.start_s = epoch, ttl_s, decay_s, now_s
        self.seq = 0  # of the last message
        self.max_w: Floats = max_w.astype(np.float64)
        self.beat: Ints = np.zeros(n, dtype=np.int64)  # newest heard
        self.heard_s: Floats = np.full(n, -np.inf)  # when it was
        self.confirmed_epoch: Ints = np.zeros(n, dtype=np.int64)
        self.confirmed_seq: Ints = np.zeros(n, dtype=np.int64)
        self.confirmed_w: Floats = np.full(n, np.nan)  # cap in force by the newest report; NaN: never heard
        self.settled: Bools = np.zeros(n, dtype=np.bool_)  # took a lease of ours or of a higher epoch
        self.outranked: Bools = np.zeros(n, dtype=np.bool_)  # obeys a higher epoch: we are not its controller
        self.safe_w: Floats = safe_cap_w.astype(np.float64)  # largest safe cap that the rack may hold
        self._odd_s: Floats = np.full(n, np.inf)  # since when beats are too far ahead to be the agent's
        self._dead_seq: Ints = np.zeros(n, dtype=np.int64)  # leases up to this one are superseded
        self._next: Ints = np.zeros(n, dtype=np.int64)
        self._seq: Ints = np.zeros(DEPTH * n, dtype=np.int64)
        self._cap_w: Floats = np.zeros(DEPTH * n)
        self._safe_w: Floats = np.zeros(DEPTH * n)
        self._until_s: Floats = np.full(DEPTH * n, -np.inf)

    @property
    def unknown_until_s(self) -> float:
        """End of the last lease that a predecessor may have sent [s]: its window, life and decay."""
        return self.start_s + 2.0 * self.ttl_s + self.decay_s

    def lease(
        self,
        group: Group,
        cap_w: Ints,
        safe_cap_w: Ints,
        now_s: float,
        *,
        shed: Ints | None = None,
        gpu_cap_w: Ints | None = None,
    ) -> Lease:
        """The next message for `group` from caps of all racks [W], entered as sent at `now_s`.

        `shed` [racks] are rungs (Shed), a shed rack's cap is its power there; `gpu_cap_w` [racks, GPUs], NO_GPU beyond
        a rack's. Neither changes what a rack is charged: that is its cap.
        """
        return self.leases((group,), cap_w, safe_cap_w, now_s, shed=shed, gpu_cap_w=gpu_cap_w)[0]

    def leases(
        self,
        groups: Sequence[Group],
        cap_w: Ints,
        safe_cap_w: Ints,
        now_s: float,
        *,
        shed: Ints | None = None,
        gpu_cap_w: Ints | None = None,
    ) -> list[Lease]:
        """The next message for each of `groups`, which share no rack, in this order; arguments as in `lease`."""
        if not groups:
            return []
        sizes = np.array([len(g.racks) for g in groups])
        racks = np.concatenate([g.racks for g in groups])
        seqs = self.seq + 1 + np.arange(len(groups))
        self.seq += len(groups)
        echo, caps_w, safes_w = self.beat[racks], _whole(cap_w[racks]), _whole(safe_cap_w[racks])
        rungs = None if shed is None else _whole(shed[racks])
        gpus_w = None if gpu_cap_w is None else _whole(gpu_cap_w[racks])
        acceptable = now_s < self.heard_s[racks] + self.ttl_s
        entered = (racks, np.repeat(seqs, sizes), caps_w, safes_w)
        self._enter(*(entered if acceptable.all() else (x[acceptable] for x in entered)))
        messages, end = [], 0
        for group, seq, size in zip(groups, seqs.tolist(), sizes.tolist(), strict=True):
            own = slice(end, end + size)
            end += size
            message = Lease(
                group=group.name,
                roster=group.roster,
                epoch=self.epoch,
                seq=seq,
                ttl_s=self.ttl_s,
                decay_s=self.decay_s,
                echo=echo[own],
                cap_w=caps_w[own],
                safe_cap_w=safes_w[own],
                shed=None if rungs is None else rungs[own],
                gpu_cap_w=None if gpus_w is None else gpus_w[own],
            )
            messages.append(message)
        return messages

    def _enter(self, racks: Ints, seq: Ints, cap_w: Ints, safe_w: Ints) -> None:
        turn = self._next[racks]
        after = (turn + 1) % DEPTH
        at = self._place(turn, racks)
        self._merge(at, self._place(after, racks), racks)
        self._seq[at] = seq
        self._cap_w[at] = cap_w
        self._safe_w[at] = safe_w
        self._until_s[at] = self.heard_s[racks] + 2.0 * self.ttl_s + self.decay_s
        self._next[racks] = after
        self.safe_w[racks] = np.maximum(self.safe_w[racks], safe_w)

    def _merge(self, old: Ints, young: Ints, racks: Ints) -> None:
        """Fold a live entry that is about to be overwritten into the next one, pessimistically."""
        live = self._seq[old] > self._dead_seq[racks]
        if not live.any():
            return
        old, young = old[live], young[live]
        for ring in (self._cap_w, self._safe_w, self._until_s):
            ring[young] = np.maximum(ring[young], ring[old])

    def _place(self, turn: Ints, racks: Ints) -> Ints:
        """Place in the rings of a turn of each of some racks; a turn of all racks stands together."""
        return turn * len(self.max_w) + racks

    def confirm(self, beat: Floats, epoch: Floats, seq: Floats, cap_w: Floats, time_s: Floats) -> Bools:
        """Enter the newest report of every rack (NaN: none), heard at `time_s` [s]; where it was news.

        Reports that are older than one already entered change nothing. A sequence of ours that was never sent is
        taken for a cap in force, not for a confirmation.
        """
        known = np.isfinite(beat) & np.isfinite(epoch) & np.isfinite(seq) & np.isfinite(cap_w)
        b, e, s = (np.where(known, x, -1).astype(np.int64) for x in (beat, epoch, seq))
        same = known & (b == self.beat)
        ranked = (e > self.confirmed_epoch) | ((e == self.confirmed_epoch) & (s >= self.confirmed_seq))
        later: Bools = known & self._believed(b, time_s)
        news: Bools = later | (same & ranked)
        self.beat[later] = b[later]
        self.heard_s[later] = time_s[later]
        self.confirmed_epoch[news] = e[news]
        self.confirmed_seq[news] = s[news]
        self.confirmed_w[news] = cap_w[news]
        ours = news & (e == self.epoch) & (s >= 1) & (s <= self.seq)
        self.outranked[news] = (e > self.epoch)[news]
        above = news & self.outranked
        self._dead_seq[ours] = np.maximum(self._dead_seq, s)[ours]
        self._dead_seq[above] = self.seq
        self.settled |= ours | above
        self._tighten_safe(ours)
        return news

    def _believed(self, beat: Ints, time_s: Floats) -> Bools:
        """Where a heartbeat number is a later one of its agent; `beat` is -1 where there is none.

        One far ahead of the agent's clock is a forgery, unless it stays so for a TTL. One that goes back is a replay.
        """
        first = np.isinf(self.heard_s)
        with np.errstate(invalid="ignore"):
            reach = np.where(first, np.inf, BEATS_AHEAD + 1.5 * (time_s - self.heard_s))
        restarted = (beat >> BOOT_SHIFT) > (self.beat >> BOOT_SHIFT)
        later = beat > self.beat
        odd = later & (beat - self.beat > reach) & ~restarted
        self._odd_s = np.where(odd, np.minimum(self._odd_s, time_s), np.inf)
        believed: Bools = later & (~odd | (time_s - self._odd_s >= self.ttl_s))
        return believed

    def _tighten_safe(self, racks: Bools) -> None:
        """Of `racks` that confirmed a lease, the safe cap they hold is that lease's or a later one's."""
        held, found = np.full(len(racks), -np.inf), np.zeros(len(racks), dtype=np.bool_)
        for some, at in self._newest(self._dead_seq, np.flatnonzero(racks)):
            held[some] = np.maximum(held[some], self._safe_w[at])
            found[some] |= self._seq[at] == self._dead_seq[some]
        self.safe_w[found] = held[found]

    def sent_w(self, now_s: float) -> Floats:
        """Largest cap among leases that may be in force and are not superseded [W]; minus infinity where none is.

        Past its life a lease that was perhaps accepted still leaves the lower of its cap and its safe cap.
        """
        sent: Floats = np.full(len(self.max_w), -np.inf)
        for some, at in self._newest(self._dead_seq + 1, np.arange(len(sent))):
            cap_w = self._cap_w[at]
            left = np.where(now_s < self._until_s[at], cap_w, np.minimum(cap_w, self._safe_w[at]))
            sent[some] = np.maximum(sent[some], left)
        return sent

    def _newest(self, least_seq: Ints, racks: Ints) -> Iterator[tuple[Ints, Ints]]:
        """Racks and places in their rings of the leases from `least_seq` [racks] on, the newest of each rack first.

        Sequences fall from a rack's newest lease backwards, and few of the ring's are not superseded.
        """
        turn, least = self._next[racks], least_seq[racks]
        for _ in range(DEPTH):
            turn = (turn - 1) % DEPTH
            at = self._place(turn, racks)
            young = self._seq[at] >= least
            if not young.all():
                racks, turn, least, at = racks[young], turn[young], least[young], at[young]
            if not len(racks):
                return
            yield racks, at

    def charge_w(self, now_s: float, measured_w: Floats, measured_fresh: Bools) -> Floats:
        """What each rack counts in every row at `now_s` [W], from an independent meter's `measured_w` [W].

        The largest of the last confirmed cap, every cap sent since that may be in force, and fresh measured power.
        A silent rack whose leases have all ended counts its safe cap while the meter shows no more than that, else
        nameplate. A rack that may yet take a predecessor's lease counts nameplate (`found_w` has what it reported).
        """
        sent_w = self.sent_w(now_s)
        measured = np.where(measured_fresh & np.isfinite(measured_w), measured_w, -np.inf)
        in_contact = now_s < self.heard_s + self.ttl_s + self.decay_s
        confirmed_w = np.where(in_contact, self.confirmed_w, np.minimum(self.confirmed_w, self.safe_w))
        charge = np.fmax(confirmed_w, sent_w)
        ended = ~in_contact
        if ended.any():
            live = self._seq.reshape(DEPTH, -1) > self._dead_seq
            ended &= ~((now_s < self._until_s.reshape(DEPTH, -1)) & live).any(axis=0)
        meter_confirms = measured_fresh & (measured <= self.safe_w)
        charge[ended] = np.where(meter_confirms, self.safe_w, self.max_w)[ended]
        if now_s < self.unknown_until_s:
            charge[~self.settled] = np.maximum(charge, self.max_w)[~self.settled]
        else:
            charge[~self.settled] = np.maximum(charge, self.safe_w)[~self.settled]
        result: Floats = np.maximum(charge, measured)
        return result

    def found_w(self) -> Floats:
        """Caps in force by the newest reports [W], whoever sent them; NaN for a rack never heard."""
        return self.confirmed_w.copy()


def _whole(values: Ints) -> Ints:
    return values.astype(np.int64, copy=False)
