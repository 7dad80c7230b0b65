"""Dynamo: three-band control by leaf and upper controllers on the power tree.

Wu et al., Dynamo: Facebook's Data Center-Wide Power Management System, ISCA 2016 (doi:10.1109/ISCA.2016.48).
Published: sections III-C (leaf: pull every 3 s, three bands, priority groups, high-bucket-first, more than 20 % of
readings missing is no reading) and III-D (upper: every 9 s, punish-offender-first, contractual limits).

Choices where the paper leaves one or the site differs from a server hall:
- A leaf is the last node that several racks share, a server the cord of a rack as its PDU measures it; a rack with
  two cords obeys the lower of two leaves. The root is the utility envelope, its children the feeds.
- Bands: capping at 99 % of a limit, to 95 % of it (both published), uncapping below 90 %. A contractual limit has
  the parent's margin in it already: a child cuts to it, not 5 % below, else margins would multiply over five levels.
- A pull reads the mean since the last one, as training swings within it. A bucket is 8 % of the largest nameplate
  (the paper: 20 W of a server of about 250 W), for children of the largest quota. A group's SLA is the rack's floor.
- A child's quota is its part of the parent's rating by the nameplates below it. What is left to cut when every
  offender is at its quota is cut in proportion to load.
"""

from dataclasses import dataclass

import numpy as np

from controller.frames import Bools, Floats, Ints
from sim.lab.rivals.loads import present_w
from sim.lab.rivals.policy import Layout, Seen

LEAF_S, UPPER_S = 3.0, 9.0
CAP_AT, CAP_TO, UNCAP_AT = 0.99, 0.95, 0.90
MISSING = 0.2
BUCKET = 0.08
JITTER_S = 0.5  # a pull is due a little early rather than a second late


class Dynamo:
    """All controllers of a site; a rack that no controller caps may draw its nameplate."""

    def __init__(self, layout: Layout, seed: int) -> None:
        del seed
        self._layout = layout
        self._tree = compile_tree(layout)
        n, leaves, racks = len(layout.parent), len(self._tree.leaves), len(layout.max_w)
        self._limit_w = np.append(layout.limit_w[:n], 0.0)  # the root's comes with each cycle
        self._contract_w = np.full(n + 1, np.inf)
        self._cap_w = np.full((leaves, racks), np.inf)
        self._bucket_w = BUCKET * float(layout.max_w.max())
        self._leaf, self._upper = _Mean(2 * racks), _Mean(n + 1)
        self._leaf_s = self._upper_s = -np.inf

    def caps_w(self, seen: Seen) -> Floats:
        """The lowest cap that any leaf holds a rack to [R, W]."""
        self._limit_w[-1] = seen.envelope_w
        self._leaf.take(cords_w(self._layout, seen).ravel())
        self._upper.take(np.append(seen.node_w, seen.site_w))
        if seen.now_s - self._upper_s >= UPPER_S - JITTER_S:
            self._upper_s = seen.now_s
            self._pull_upper(self._filled(self._upper.pull(), seen))
        if seen.now_s - self._leaf_s >= LEAF_S - JITTER_S:
            self._leaf_s = seen.now_s
            self._pull_leaves(self._leaf.pull().reshape(-1, 2))
        caps_w: Floats = np.minimum(self._cap_w.min(axis=0), self._layout.max_w)
        return caps_w

    def _filled(self, power_w: Floats, seen: Seen) -> Floats:
        """Power of nodes and root [N + 1, W]; where a meter says nothing, what the racks below and the design say."""
        rows = self._layout.rows.dot(present_w(self._layout, seen)) + self._layout.design_other_w
        return np.where(np.isfinite(power_w), power_w, np.append(rows[: len(power_w) - 1], rows[-1]))

    def _pull_upper(self, power_w: Floats) -> None:
        """Every upper controller, from the root down: contractual limits for its children."""
        tree = self._tree
        for node in tree.uppers:
            children = tree.children[node]
            load_w, limit_w = float(power_w[node]), float(self._limit_w[node])
            cut_w = to_cut(load_w, limit_w, float(self._contract_w[node]))
            if cut_w > 0.0:
                eff, below_w = tree.efficiency[children], power_w[children]
                cuts = punish_offenders(below_w / eff, tree.quota[children] * limit_w, cut_w)
                self._contract_w[children] = np.where(cuts > 0.0, below_w - cuts * eff, self._contract_w[children])
            elif load_w < UNCAP_AT * min(limit_w, float(self._contract_w[node])):
                self._contract_w[children] = np.inf

    def _pull_leaves(self, cord_w: Floats) -> None:
        """Every leaf controller: caps for its racks, from the power of their cords [R, 2, W]."""
        layout, tree = self._layout, self._tree
        for i, leaf in enumerate(tree.leaves):
            racks = tree.racks[i]
            rack_w = cord_w[racks].sum(axis=1)
            known = np.isfinite(rack_w)
            if known.mean() < 1.0 - MISSING:
                continue  # no valid aggregate: nothing is decided on it
            rack_w = np.where(known, rack_w, layout.max_w[racks] * np.mean((rack_w / layout.max_w[racks])[known]))
            here_w = (cord_w[racks] * tree.cords[i]).sum(axis=1)
            live = known & (here_w > 0.0)
            share = np.where(live, here_w / np.where(live, rack_w, 1.0), np.where(known, 0.0, tree.share[i]))
            cut_w = to_cut(float((share * rack_w).sum()), float(self._limit_w[leaf]), float(self._contract_w[leaf]))
            if cut_w > 0.0:
                least_w = share * layout.floor_w[racks]
                bucket_w = self._bucket_w * tree.share[i]
                cuts = by_priority(share * rack_w, least_w, layout.priority[racks], cut_w, bucket_w)
                hit = cuts > 0.0
                self._cap_w[i, racks[hit]] = rack_w[hit] - cuts[hit] / share[hit]
            elif float((share * rack_w).sum()) < UNCAP_AT * min(self._limit_w[leaf], self._contract_w[leaf]):
                self._cap_w[i] = np.inf


@dataclass(frozen=True)
class Tree:
    """Controllers on the power tree; the root is one past the last node."""

    leaves: Ints
    racks: tuple[Ints, ...]  # of each leaf
    cords: tuple[Bools, ...]  # of each of those racks [racks, 2]: the cords on the leaf
    share: tuple[Floats, ...]  # of each of those racks' power that the leaf carries by design
    uppers: tuple[int, ...]  # root first
    children: dict[int, Ints]
    efficiency: Floats  # [N + 1]
    quota: Floats  # [N + 1] of its parent's rating


def compile_tree(layout: Layout) -> Tree:
    """The controllers of a site: leaves above the rack PDUs, and all nodes above them."""
    root = len(layout.parent)
    parent = np.append(np.where(layout.parent < 0, root, layout.parent), -1)
    full_w = np.append(layout.rows.dot(layout.max_w)[:root], 0.0)
    leaf_of = parent[layout.rack_pdu]  # [R, 2]
    leaves = np.unique(leaf_of)
    on = [(leaf_of == leaf) & (layout.share > 0.0) for leaf in leaves.tolist()]
    racks = tuple(np.flatnonzero(cords.any(axis=1)) for cords in on)
    cords = tuple(all_cords[mine] for all_cords, mine in zip(on, racks, strict=True))
    share = tuple((layout.share[mine] * which).sum(axis=1) for mine, which in zip(racks, cords, strict=True))
    children: dict[int, Ints] = {}
    todo = set(parent[leaves].tolist())
    while todo:
        node = todo.pop()
        if node >= 0 and node not in children:
            below = np.flatnonzero(parent == node)
            children[node] = below[full_w[below] > 0.0]
            todo.add(int(parent[node]))
    quota = np.zeros(root + 1)
    for below in children.values():
        quota[below] = full_w[below] / full_w[below].sum()
    efficiency = np.append(np.where(layout.parent < 0, 1.0, layout.efficiency), 1.0)
    uppers = tuple(sorted(children, key=lambda node: _depth(parent, node)))
    return Tree(leaves, racks, cords, share, uppers, children, efficiency, quota)


def cords_w(layout: Layout, seen: Seen) -> Floats:
    """Power of each cord [R, 2, W] by its PDU; of a silent one what the agent's reading leaves beside the other cord.

    A PDU falls silent with its feed, and its cord's load moves to the other.
    """
    cord_w = seen.node_w[layout.rack_pdu]
    other_w = cord_w[:, ::-1]
    rack_w = seen.rack_w[:, None]
    left_w = np.where(np.isfinite(other_w), np.maximum(rack_w - other_w, 0.0), layout.share * rack_w)
    return np.where(np.isfinite(cord_w), cord_w, left_w)


def to_cut(load_w: float, limit_w: float, contract_w: float) -> float:
    """Cut that a controller decides on [W]: to its target above the capping threshold, to a contract above that."""
    cut_w = load_w - CAP_TO * limit_w if load_w > CAP_AT * limit_w else 0.0
    return max(cut_w, load_w - contract_w if load_w > contract_w else 0.0)


def by_priority(power_w: Floats, least_w: Floats, priority: Ints, cut_w: float, bucket_w: Floats | float) -> Floats:
    """Cut of each rack [W]: the lowest group first, down to its SLA, high-bucket-first inside a group."""
    cuts = np.zeros(len(power_w))
    for group in np.unique(priority)[::-1]:
        mine = priority == group
        size = float(np.mean(np.broadcast_to(bucket_w, power_w.shape)[mine]))
        cuts[mine] = high_bucket_first(power_w[mine], least_w[mine], cut_w - float(cuts.sum()), size)
    return cuts


def high_bucket_first(power_w: Floats, least_w: Floats, cut_w: float, bucket_w: float) -> Floats:
    """Cut of each [W], `cut_w` together or as much as there is: the highest bucket first, evenly inside a bucket.

    Those above a bucket are brought down to its upper edge before it is touched; nobody goes below `least_w`.
    """
    able_w = np.maximum(power_w - least_w, 0.0)
    if cut_w >= float(able_w.sum()):
        return able_w
    low, high = 0, int(power_w.max() // bucket_w) + 1  # bringing all down to the lower edge of `low` is enough
    while high - low > 1:
        bucket = (low + high) // 2
        enough = float(_above(power_w, least_w, bucket * bucket_w).sum()) >= cut_w
        low, high = (bucket, high) if enough else (low, bucket)
    cuts = _above(power_w, least_w, high * bucket_w)
    here = _above(power_w - cuts, least_w, low * bucket_w)
    return cuts + evenly(here, cut_w - float(cuts.sum()))


def _above(power_w: Floats, least_w: Floats, edge_w: float) -> Floats:
    return np.maximum(power_w - np.maximum(least_w, edge_w), 0.0)


def evenly(most_w: Floats, total_w: float) -> Floats:
    """The same for each, as far as each can bear `most_w`, `total_w` together or as much as there is [W]."""
    if total_w >= float(most_w.sum()):
        return most_w
    order = np.sort(most_w)
    left = len(order) - np.arange(len(order))
    filled_w = np.concatenate(([0.0], np.cumsum(order)))[:-1] + order * left  # the sum when each bears up to order[i]
    i = int(np.searchsorted(filled_w, total_w))
    each_w = order[i] - (filled_w[i] - total_w) / left[i]
    return np.minimum(most_w, max(each_w, 0.0))


def punish_offenders(load_w: Floats, quota_w: Floats, cut_w: float) -> Floats:
    """Cut of each child [W]: offenders high-bucket-first down to their quota, the rest in proportion to load."""
    cuts = high_bucket_first(load_w, np.minimum(quota_w, load_w), cut_w, BUCKET * float(quota_w.max()))
    rest_w = cut_w - float(cuts.sum())
    left_w = load_w - cuts
    return cuts + (rest_w * left_w / left_w.sum() if rest_w > 1e-6 and left_w.sum() > 0.0 else 0.0)


class _Mean:
    """Mean of readings between two pulls; NaN where there was none."""

    def __init__(self, size: int) -> None:
        self._sum, self._count = np.zeros(size), np.zeros(size)

    def take(self, value: Floats) -> None:
        known: Bools = np.isfinite(value)
        self._sum += np.where(known, value, 0.0)
        self._count += known

    def pull(self) -> Floats:
        with np.errstate(invalid="ignore"):
            mean: Floats = self._sum / np.where(self._count > 0.0, self._count, np.nan)
        self._sum[:], self._count[:] = 0.0, 0.0
        return mean


def _depth(parent: Ints, node: int) -> int:
    depth = 0
    while parent[node] >= 0:
        node, depth = int(parent[node]), depth + 1
    return depth
