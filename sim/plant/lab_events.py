"""What may happen around a plant: to its controller, its wires, and what the grid asks. The lock-step acts on these.

The plant itself carries them and does nothing.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sim.plant.event_model import Count, EventModel, Seconds, Share

Finite = Annotated[float, Field(allow_inf_nan=False)]


class BrokerDown(EventModel):
    """The MQTT broker is gone: no report of an agent or of the BMS comes, no lease arrives."""

    do: Literal["broker_down"]
    at_s: Seconds
    for_s: Seconds = 0.0  # 0 is for good


class ControllerDown(EventModel):
    """The controller dies; after `for_s` another process starts and has heard nothing yet."""

    do: Literal["controller_down"]
    at_s: Seconds
    for_s: Seconds = 0.0


class ControllerStall(EventModel):
    """The controller stands still, as a suspended machine does, and goes on with what it remembers."""

    do: Literal["controller_stall"]
    at_s: Seconds
    for_s: Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ClockJump(EventModel):
    """The clock of the controller's machine jumps: wall time either way, monotonic time forward."""

    do: Literal["clock_jump"]
    at_s: Seconds
    by_s: Finite
    of: Literal["wall", "monotonic"] = "wall"

    @model_validator(mode="after")
    def _forward(self) -> Self:
        if self.of == "monotonic" and self.by_s < 0.0:
            raise ValueError("monotonic time only goes forward: give by_s of 0 or more")
        return self


class EnvelopeRequest(EventModel):
    """The utility asks for a share of the site's envelope, to be reached `within_s` after it asked."""

    do: Literal["envelope"]
    at_s: Seconds
    for_s: Seconds = 0.0
    to: Share
    within_s: Seconds


class Spoof(EventModel):
    """What some devices or agents tell arrives changed: a lying sensor, or somebody who writes on the wire.

    A value becomes `scale` times itself plus `add`.
    """

    do: Literal["spoof"]
    at_s: Seconds
    for_s: Seconds = 0.0
    measures: Literal["pdu", "meter", "cdu", "unit", "loop", "storage", "agent"]
    point: str = "power_w"
    scale: Finite = 1.0
    add: Finite = 0.0
    count: Count = 1  # evenly over the site
    share: Share | None = None  # of all such devices, drawn by the run's seed, instead


class ForgedLeases(EventModel):
    """Somebody publishes leases once a second for `count` rack groups, caps at `to` of nameplate.

    `replay` sends again what the controller sent up to 30 s before; `outrank` invents a higher epoch and answers the
    newest heartbeats, as one who hears the bus can.
    """

    do: Literal["forged_leases"]
    at_s: Seconds
    for_s: Seconds = 0.0
    how: Literal["replay", "outrank"]
    to: Share = 1.0
    count: Count = 1


LabEvent = BrokerDown | ControllerDown | ControllerStall | ClockJump | EnvelopeRequest | Spoof | ForgedLeases
LAB_ACTIONS: dict[str, type[EventModel]] = {
    "broker_down": BrokerDown,
    "controller_down": ControllerDown,
    "controller_stall": ControllerStall,
    "clock_jump": ClockJump,
    "envelope": EnvelopeRequest,
    "spoof": Spoof,
    "forged_leases": ForgedLeases,
}
