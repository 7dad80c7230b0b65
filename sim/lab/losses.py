"""The elements that a drill takes away: which there are, a sample of them by class."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from drivers.site.model import Site
from sim.plant.plant import Plant

NODE_KINDS = ("utility_feed", "substation", "transformer", "ups", "switchboard", "busway")
RETURNING = ("utility_feed", "substation", "transformer")  # above batteries: their return is a stage of its own
RETURN_S = 30.0


class LossError(ValueError):
    """There is nothing to lose by that name."""


@dataclass(frozen=True)
class Element:
    """One element to lose; `return_s` after the loss it is back, never where None."""

    id: str
    kind: str
    return_s: float | None = None


def elements(site: Site) -> list[Element]:
    """Every element whose loss the site must bear, in the order of the site's tables."""
    found = [Element(n.id, n.kind) for n in site.nodes if n.kind in NODE_KINDS]
    found += [Element(c.id, "cdu") for c in site.cdus]
    found += [Element(u.id, u.kind) for u in site.cooling]
    return found + [Element(s.id, "storage") for s in site.storage]


def sample(site: Site, count: int, kinds: Sequence[str], rng: np.random.Generator) -> list[Element]:
    """`count` elements, the same number of each kind as far as there are as many; all of them when they are fewer.

    Half of those whose return is a stage of its own come back after RETURN_S. LossError for a kind the site has none
    of.
    """
    of_kind: dict[str, list[Element]] = {}
    for element in elements(site):
        if not kinds or element.kind in kinds:
            of_kind.setdefault(element.kind, []).append(element)
    if not of_kind or set(kinds) - set(of_kind):
        have = ", ".join(dict.fromkeys(e.kind for e in elements(site)))
        raise LossError(f"{site.name} has no element of kind {', '.join(kinds)}; it has {have}")
    take = dict.fromkeys(of_kind, 0)
    while sum(take.values()) < min(count, sum(map(len, of_kind.values()))):
        short = min((k for k in take if take[k] < len(of_kind[k])), key=lambda k: take[k])
        take[short] += 1
    drawn = []
    for kind, members in of_kind.items():
        chosen = np.sort(rng.permutation(len(members))[: take[kind]])
        for turn, i in enumerate(chosen):
            return_s = RETURN_S if kind in RETURNING and turn % 2 else None
            drawn.append(Element(members[i].id, kind, return_s))
    return drawn


def disobey(plant: Plant, share: float, rng: np.random.Generator) -> None:
    """One rack in every 1/`share` neighbours ignores its cap from now on."""
    racks = len(plant.site.racks)
    for part in np.array_split(np.arange(racks), round(racks * share)) if racks * share >= 0.5 else ():
        plant.director.faults.ignores_caps[rng.choice(part)] = True
