"""The frames that pass from stage to stage: frozen, flat arrays; shapes in brackets.

R racks, N electrical nodes, K rows (limits), J rows of losses, U cooling units, P points. Rows: see plan.py.
"""

from collections import deque
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from drivers.lease import Shed as Shed  # rungs of the shed ladder, as the leases carry them
from drivers.points import Quality
from drivers.wires import SetpointCommand

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Codes = NDArray[np.uint8]

KEPT = 4  # answers of `Rows.dot_kept`: floors, safe caps, the caps before and now


def zeroed(values: Floats) -> Floats:
    """The values with 0 for what is unknown, as np.nan_to_num; themselves where all are known."""
    odd = ~np.isfinite(values)
    if not odd.any():
        return values
    out = values.copy()
    out[odd] = np.nan_to_num(values[odd])
    return out


def fresh_values(value: Floats, quality: Codes) -> Floats:
    """Values that are fresh and good, NaN elsewhere and at the end, where a slot of -1 looks [P + 1]."""
    fresh = np.empty(len(value) + 1)
    fresh[:-1], fresh[-1] = value, np.nan
    fresh[:-1][quality != Quality.GOOD] = np.nan
    return fresh


@dataclass(frozen=True)
class Rows:
    """Sparse rows over racks, CSR: row k holds racks[indptr[k]:indptr[k+1]] with coeff > 0.

    An entry is a fixed part plus what comes through each cord: `cords` are the losses on the way, 0 where the cord
    does not pass.
    """

    indptr: Ints  # [K+1]
    racks: Ints  # [nnz]
    coeff: Floats  # [nnz] at the cord shares in force
    of_entry: Ints  # [nnz] row of each entry
    fixed: Floats  # [nnz]
    cords: Floats  # [nnz, 2]

    def at_shares(self, share: Floats) -> "Rows":
        """The same rows with other cord shares [R, 2]; shares that sum to more than one never count a watt twice."""
        a, b = self.cords[:, 0], self.cords[:, 1]
        through = a * share[:, 0][self.racks] + b * share[:, 1][self.racks]
        return replace(self, coeff=self.fixed + np.minimum(through, np.maximum(a, b)))

    @cached_property
    def _matrix(self) -> csr_array:
        return csr_array((self.coeff, self.racks, self.indptr), shape=(len(self.indptr) - 1, self._width))

    @cached_property
    def _width(self) -> int:
        return int(self.racks.max(initial=-1)) + 1

    def dot(self, x: Floats) -> Floats:
        """Sum of coeff * x over each row, [K]; `x` [R]."""
        total: Floats = self._matrix @ x[: self._width]
        return total

    def dot_kept(self, x: Floats) -> Floats:
        """As `dot`, for what is mostly asked of the same `x` again: the last answers are kept."""
        for asked, total in self._kept:
            if np.array_equal(asked, x):
                return total
        total = self.dot(x)
        total.flags.writeable = False
        self._kept.appendleft((x.copy(), total))
        return total

    @cached_property
    def _kept(self) -> deque[tuple[Floats, Floats]]:
        return deque(maxlen=KEPT)

    @cached_property
    def loaded(self) -> Bools:
        """Rows that some rack loads, [K]."""
        loaded: Bools = self.dot(np.ones(self._width)) > 0.0
        return loaded

    def row_dot(self, row: int, x: Floats) -> float:
        """One row of `dot`, added up in the same order."""
        at = slice(self.indptr[row], self.indptr[row + 1])
        terms = self.coeff[at] * x[self.racks[at]]
        return float(np.add.accumulate(terms)[-1]) if len(terms) else 0.0

    def joined(self, more: "Rows") -> "Rows":
        """These rows, then `more` over the same racks."""
        return Rows(
            indptr=np.concatenate([self.indptr, self.indptr[-1] + more.indptr[1:]]),
            racks=np.concatenate([self.racks, more.racks]),
            coeff=np.concatenate([self.coeff, more.coeff]),
            of_entry=np.concatenate([self.of_entry, len(self.indptr) - 1 + more.of_entry]),
            fixed=np.concatenate([self.fixed, more.fixed]),
            cords=np.concatenate([self.cords, more.cords]),
        )

    def rack_min(self, per_row: Floats, racks: int) -> Floats:
        """Least value among the rows of each rack, [R]."""
        out = np.full(racks, np.inf)
        np.minimum.at(out, self.racks, per_row[self.of_entry])
        return out


class Mode(IntEnum):
    """What the controller may do. SHADOW writes nothing; HOLD renews and lowers only; LIVE does all."""

    OFF = 0
    SHADOW = 1
    HOLD = 2
    LIVE = 3


class Reason(IntEnum):
    """Why a rack has the cap it has; `ROW` names a row beside it."""

    FREE = 0  # nothing holds it below its demand
    ROW = 1  # a limit: Orders.row says which
    STALE = 2  # may not rise: its data, or a node's above it, is not fresh and good
    PACE = 3  # rising within the site's ramp
    ROOM = 4  # rising as soon as reductions elsewhere are confirmed
    HOLD = 5  # an operator or the mode holds it
    START = 6  # caps found at start, until coverage is complete
    FLOOR = 7  # the floors alone fill the limit
    GUARD = 8  # the guard cut the proposal
    RIDING = 9  # nothing rises while a UPS runs on its battery: that load will come back
    FAULTY = 10  # its agent is silent or it does not obey: it is counted as it stands
    LOST = 11  # an element is lost: what is left of the building carries no more
    SHED = 12  # its job is shed: floors do not fit


@dataclass(frozen=True)
class Curtailment:
    """A lower envelope agreed on beforehand; times are wall milliseconds."""

    id: str
    envelope_w: float
    from_ms: int
    until_ms: int
    by: str = ""


@dataclass(frozen=True)
class JobTold:
    """A job as its scheduler tells of it."""

    id: str
    racks: tuple[str, ...]
    priority: int = 1
    gang: bool = True  # its racks run in step
    tenant: str = ""
    flexible: bool = False  # slowed before others of its priority


@dataclass(frozen=True)
class Requests:
    """What people and the grid ask for now, as acts.py read it; safety binds it like everything else."""

    mode: Mode = Mode.LIVE
    envelope_w: float | None = None
    envelope_by: str = ""
    held: frozenset[str] = frozenset()  # racks whose cap may not rise
    parked: frozenset[str] = frozenset()  # racks in maintenance: their caps go to the safe caps and stay there
    curtailments: tuple[Curtailment, ...] = ()  # planned ones; schedule.py says which is under way
    priority: tuple[tuple[str, int], ...] = ()  # job -> priority in place of the site file's
    jobs: tuple[JobTold, ...] = ()  # in place of the site file's, on their racks
    envelope_within_s: float | None = None  # in a hurry: from asked to held [s]; None is within the site's ramp
    setpoints: tuple[SetpointCommand, ...] = ()  # asked since the last cycle: each is taken up once or never


@dataclass(frozen=True)
class Image:
    """Every point of this cycle [P]: value, quality (drivers.points.Quality), age [s]; and our own outputs."""

    now_s: float
    cycle: int
    value: Floats
    quality: Codes
    age_s: Floats
    metered_w: Floats  # [R] rack power by the PDUs of both cords, NaN unless fresh and good
    charge_w: Floats  # [R] most that each rack may draw, by the leases sent and confirmed and its meter
    rows: Rows  # the limits' sums at the measured cord shares
    share: Floats  # [R, 2] those shares
    below_w: Floats  # [N] what a node's children show together, with their losses
    summed_w: Floats  # [N] the same with what hangs on the node itself, NaN unless every child shows something
    riding: Bools  # [N] what hangs on the node runs on stored energy: its load will come back
    lost_node: Bools  # [N] elements that are lost
    lost_unit: Bools  # [U] cooling units that are lost
    dead: Bools  # [N] nodes without voltage and without the load they had

    @cached_property
    def good(self) -> Floats:
        """Values as `fresh_values` has them [P + 1]."""
        return fresh_values(self.value, self.quality)

    @cached_property
    def sure(self) -> Floats:
        """The same for the guard, by itself: NaN also where a value is not finite [P + 1]."""
        sure = fresh_values(self.value, self.quality)
        sure[~np.isfinite(sure)] = np.nan
        return sure


@dataclass(frozen=True)
class Estimate:
    """What the image says about the building; NaN is unknown."""

    rack_power_w: Floats  # [R] best present reading
    rack_known: Bools  # [R] reading is fresh and good
    demand_w: Floats  # [R] what the rack would draw uncapped, as far as it shows
    cap_found_w: Floats  # [R] cap in force by the agent's report, NaN if silent
    constant_w: Floats  # [R] what a silent or disobedient rack is counted at, NaN where a cap works
    disobedient: Bools  # [R]
    rows: Rows  # [K + J] the limits' sums, then those of the losses, at the measured cord shares
    load_w: Floats  # [K] load of each row, pessimistic
    other_w: Floats  # [K] part of it that no rack cap moves
    rating_w: Floats  # [N] continuous rating at the measured state
    trip_used: Floats  # [N] how far each protection is on its way to a trip
    lost: tuple[int, ...]  # losses that have happened, by number of the case
    alive: Bools  # [N] nodes that are not seen dead
    share: Floats  # [R, 2] cord shares in force
    shed_found: Codes  # [R] rungs that the agents report
    covered: bool  # every device has answered, or has had the time to


@dataclass(frozen=True)
class Limits:
    """What each row allows now, and what narrowed it."""

    limit_w: Floats  # [K + J]
    room_w: Floats  # [K + J] limit less other load: what racks may have
    narrowed_by: tuple[str, ...]  # [K + J] "" for the rating itself
    held: Bools  # [R] operator holds the rack: its cap may not rise
    parked: Bools  # [R] in maintenance: its cap goes to the safe cap and stays there
    envelope_w: float
    mode: Mode
    setpoints: tuple[SetpointCommand, ...] = ()


@dataclass(frozen=True)
class Proposal:
    """Commands wanted, by kind: rack caps, set-points."""

    cap_w: Floats  # [R]
    safe_cap_w: Floats  # [R]
    level: Floats  # [R] of the rack's gang, 1 = as fast as it asks, 0 = shed
    reason: Codes  # [R]
    row: Ints  # [R] row that binds, -1 if none
    envelope_w: float
    mode: Mode
    shed: Codes | None = None  # [R] rungs (Shed), None: no rack is shed
    said: tuple[str, ...] = ()  # what was shed and for which limit, in words
    setpoints: tuple[SetpointCommand, ...] = ()


@dataclass(frozen=True)
class Orders:
    """Commands allowed, by kind."""

    cap_w: Floats  # [R]
    safe_cap_w: Floats  # [R]
    reason: Codes  # [R]
    row: Ints  # [R]
    charge_w: Floats  # [R] what each rack is counted at until it confirms
    unheeded: Bools  # [R] the agent answers, yet holds a cap that was not ordered lately
    mode: Mode
    shed: Codes | None = None  # [R] rungs (Shed), a shed rack's cap_w is its power there; None: no rack is shed
    gpu_cap_w: Ints | None = None  # [R, GPUs] whole W, NO_GPU beyond a rack's; None: leaf rack
    setpoints: tuple[SetpointCommand, ...] = ()
    refused: tuple[tuple[SetpointCommand, str], ...] = ()  # set-points that are not written, and why


@dataclass(frozen=True)
class Frames:
    """One cycle, whole: for the view, the journal and what-if questions."""

    image: Image
    estimate: Estimate
    limits: Limits
    proposal: Proposal
    orders: Orders
