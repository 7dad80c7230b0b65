"""Instruments that are broken, and those that are only wrong: they drift, follow late, or show coarse steps."""

from dataclasses import dataclass

import numpy as np

from drivers.points import Floats, Ints
from sim.plant.base import Bools


@dataclass
class Faults:
    """What is wrong with devices now, by position; True is faulty."""

    silent: Bools  # [devices]
    frozen: Bools
    sentinel: Bools
    gateway_silent: Bools  # [gateways]
    ignores_caps: Bools  # [R]


class Errors:
    """By device position; a device without an error shows what it would. Times are the plant's [s]."""

    def __init__(self, devices: int) -> None:
        self.since_s: Floats = np.full(devices, np.nan)  # nan: no error
        self.drift_per_h: Floats = np.zeros(devices)  # of a power, current or flow
        self.drift_k_per_h: Floats = np.zeros(devices)
        self.lag_s: Floats = np.zeros(devices)
        self.step: Floats = np.zeros(devices)  # smallest difference shown, in the point's own unit

    def start(
        self, which: Ints, t_s: float, drift_per_h: float, drift_k_per_h: float, lag_s: float, step: float
    ) -> None:
        """From `t_s` on these devices err so."""
        self.since_s[which], self.drift_per_h[which], self.drift_k_per_h[which] = t_s, drift_per_h, drift_k_per_h
        self.lag_s[which], self.step[which] = lag_s, step

    @property
    def some(self) -> bool:
        """Whether any device errs."""
        return bool((~np.isnan(self.since_s)).any())

    def end(self, which: Ints) -> None:
        """They have been replaced or calibrated."""
        self.since_s[which] = np.nan

    def show(
        self, device: Ints, shown: Floats, late: Floats, scaled: Floats, kelvin: Floats, t_s: float, dt_s: float
    ) -> None:
        """Spoil `shown` [rows, points] in place; `late` keeps what the rows had come to `dt_s` before, nan at first.

        `scaled` and `kelvin` [points] are 1 for points that drift in proportion, and by kelvins.
        """
        rows = np.flatnonzero(~np.isnan(self.since_s[device]))
        if not len(rows):
            return
        d = device[rows]
        hours = ((t_s - self.since_s[d]) / 3600.0)[:, None]
        values = shown[rows] * (1.0 + self.drift_per_h[d][:, None] * hours * scaled)
        values = values + self.drift_k_per_h[d][:, None] * hours * kelvin
        old = np.where(np.isnan(late[rows]), values, late[rows])
        lag_s = self.lag_s[d][:, None]
        follow = np.where(lag_s > 0.0, 1.0 - np.exp(-dt_s / np.maximum(lag_s, 1e-9)), 1.0)
        analogue = scaled + kelvin > 0.0
        values = np.where(analogue, old + (values - old) * follow, values)
        late[rows] = values
        step = self.step[d][:, None]
        shown[rows] = np.where(analogue & (step > 0.0), np.round(values / np.maximum(step, 1e-12)) * step, values)
