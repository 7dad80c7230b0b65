"""What the building does by itself after a loss, stage by stage.

R1 a rack with one dead cord moves whole to the other at once; with both dead it is dark. Other consumers share
   equally over their live feeds.
R2 a UPS whose input dies runs on its battery, its rating for `ups_battery_s`; then its output is dead until the input
   returns, and it recharges with a tenth of its rating.
R3 a UPS that is lost is dead at its output: its bypass is not counted on.
R4 a tie closes when its bus has had no voltage for transfer_s and the other has; a substation's or transformer's bus
   is sound when it is lost itself, that of a switchboard, busway or UPS is not.
   Never onto what its source hangs on itself: a UPS does not feed its own input.
R5 what is fed from dead nodes only is dead with them.
R6 a generator carries a dead bus once it has started, if no other source has taken it over; UPS do not
   recharge on it, and no further tie closes onto what it feeds.
Every case is followed with all ties that may close, with none, and with those to generators alone.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from controller.contingency.building import Building

RECHARGE_SHARE = 0.1  # of a UPS's rating, after it has run on its battery


Tie = tuple[int, int, float, str]  # as in Building.ties


@dataclass(frozen=True)
class State:
    """The building at one stage; node positions."""

    name: str
    at_s: float  # after the loss
    dead: frozenset[int]  # no voltage at the output
    fed: tuple[tuple[int, int], ...] = ()  # (bus, the bus that feeds it through a closed tie)
    riding: frozenset[int] = frozenset()  # UPS on battery
    recharging: frozenset[int] = frozenset()  # UPS that take power to recharge
    rode: frozenset[int] = frozenset()  # UPS that have used their battery so far
    empty: frozenset[int] = frozenset()  # UPS without a battery to ride on: their input has been out for long
    begin_s: float = 0.0  # of the last sudden change: delays of ties count from it

    def same(self, other: "State") -> bool:
        """The same building, however it came about."""
        return replace(other, name=self.name, at_s=self.at_s, begin_s=self.begin_s, rode=self.rode) == self


def stages(b: Building, lost: frozenset[int], before: State | None = None) -> tuple[State, ...]:
    """Every stage after the loss of nodes, the instant first; `before` is the state that they are lost in."""
    start = before or State("", 0.0, frozenset())
    out: list[State] = []
    alone = tuple(x for x in b.ties if {x[0], x[1]} & b.generators)
    for ties in (b.ties, (), alone):
        waited = not ties and any(s.fed != start.fed for s in out)
        for state in _branch(b, lost, start, ties):
            if not any(state.same(s) for s in out):
                out.append(replace(state, name=f"no tie closed, {state.name}") if waited else state)
    rode = frozenset().union(*(s.riding for s in out))
    if rode and not before:
        battery_s = b.site.control.ups_battery_s
        out.append(State("source back", battery_s, frozenset(), recharging=rode))
    return tuple(out)


def _branch(b: Building, lost: frozenset[int], start: State, ties: tuple[Tie, ...]) -> Iterator[State]:
    """Stages with these ties, each of which closes when it may."""
    state = _settle(b, lost, State("instant", 0.0, frozenset(), start.fed, empty=start.empty), drained=False)
    yield state
    delays = sorted({delay_s for _, _, delay_s, _ in ties})
    for transfer_s in delays:
        state, moved = _transfer(b, lost, state, ties, transfer_s, drained=False)
        if moved:
            yield state
    if not state.riding:
        return
    battery_s = b.site.control.ups_battery_s
    named = replace(state, name=_and(state.name, "battery ended"), at_s=battery_s, begin_s=battery_s)
    empty = _settle(b, lost, named, drained=True)
    yield empty
    for transfer_s in delays:  # a bus below the UPS may have a tie of its own
        empty, moved = _transfer(b, lost, empty, ties, transfer_s, drained=True)
        if moved:
            yield empty


def _and(name: str, more: str) -> str:
    return more if name == "instant" else f"{name}, {more}"


def _transfer(
    b: Building, lost: frozenset[int], state: State, ties: tuple[Tie, ...], transfer_s: float, *, drained: bool
) -> tuple[State, bool]:
    """Close the ties of up to this delay that have a dead bus on one side and a live one on the other."""
    closed: list[str] = []
    begin_s = state.begin_s if drained else 0.0
    while True:
        fed, before = dict(state.fed), len(closed)
        for one, other, delay_s, tie in ties:
            for bus, source in ((one, other), (other, one)) if delay_s <= transfer_s else ():
                sound = bus not in lost or b.winding[bus]
                locked = source not in b.generators and _source(b, source, fed) in b.generators
                waits = bus in state.dead and source not in state.dead and sound and bus not in fed
                if waits and not locked and not _hangs_on(b, fed, source, bus):
                    fed[bus] = source
                    closed.append(tie)
        if len(closed) == before:
            break
        state = _settle(b, lost, replace(state, fed=tuple(sorted(fed.items()))), drained=drained)
    if not closed:
        return state, False
    words = closed[0] if len(closed) == 1 else f"{len(closed)} ties"
    return replace(state, name=_and(state.name, f"{words} closed"), at_s=begin_s + transfer_s), True


def _hangs_on(b: Building, fed: Mapping[int, int], node: int, above: int) -> bool:
    """Whether `node` gets its power from `above`, through ties as they are."""
    while node >= 0 and node != above:
        node = fed.get(node, int(b.parent[node]))
    return node == above


def _settle(b: Building, lost: frozenset[int], state: State, *, drained: bool) -> State:
    """Dead nodes and UPS on battery with the ties as they are."""
    fed = dict(state.fed)
    dead: set[int] = set()
    rode, riding = set(state.rode), set[int]()
    stack = sorted(lost)
    while stack:
        node = stack.pop()
        if node in dead or (node in fed and fed[node] not in dead and (node not in lost or b.winding[node])):
            continue
        if node not in lost and b.is_ups[node]:
            rode.add(node)
            if not drained and node not in state.empty:
                riding.add(node)
                continue
        dead.add(node)
        stack += b.children[node]
        stack += [bus for bus, source in fed.items() if source == node]
    back = {u for u in rode - dead - riding if b.parent[u] not in dead and _source(b, u, fed) not in b.generators}
    return replace(
        state, dead=frozenset(dead), riding=frozenset(riding), rode=frozenset(rode), recharging=frozenset(back)
    )


def _source(b: Building, node: int, fed: dict[int, int]) -> int:
    """Where a node's power comes from in the end; -1 where ties go round."""
    for _ in range(len(b.parent)):
        above = fed.get(node, int(b.parent[node]))
        if above < 0:
            return node
        node = above
    return -1
