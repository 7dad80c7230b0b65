"""Requests as they arrive at inference: bursty in time, heavy-tailed in size, and as many sources as one wants.

A source is a service with its users. Bursts begin at random (Poisson), hold an exponential number of requests, and
give them off within a time constant of 1 or of 12 s: a shot-noise Cox process (Neyman, Scott 1958, doi
10.1111/j.2517-6161.1958.tb00272.x; Moeller 2003, doi 10.1239/aap/1059486821). Its counts over a window w have
  variance / mean = 1 + sum of 2 A tau (1 - tau / w (1 - exp(-w / tau))),
so the two A of a trace follow from its counts alone. Any number of independent sources is again such a process, with as
many times the bursts: a rack and a site are drawn as fast as one source, and grow smoother as they grow. Tokens of k
requests are one draw: lognormal of k times the mean and 1 / sqrt(k) of the spread (exact in both for every k, in all
for k = 1, after Fenton 1960). What it has not: the trace's dead silence between bursts (56 % of its 10 s are empty,
here a quarter), which no second moment shows and many sources do not have.
"""

import csv
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from drivers.points import Floats
from sim.plant.base import DT_S, PlantError

TAU_S = np.array([1.0, 12.0])
QUICK_SHARE = 0.2  # of the requests in bursts of the first time constant; second moments do not depend on it
WINDOWS_S = np.array([1.0, 10.0, 60.0])
LEAST_REQUESTS = 1000  # of a trace: fewer tell nothing of its bursts


@dataclass(frozen=True)
class Source:
    """What a trace of requests amounts to; a CV is the standard deviation over the mean."""

    rate_per_s: float
    bursts: tuple[float, float]  # A of each time constant [requests]
    context_tokens: float
    context_cv: float
    generated_tokens: float
    generated_cv: float


def dispersion(bursts: Floats, window_s: Floats) -> Floats:
    """Variance over mean of the counts in windows [W, s] of a source with A of `bursts` [2]."""
    return np.asarray(1.0 + _growth(window_s) @ bursts)


def _growth(window_s: Floats) -> Floats:
    w, tau = np.asarray(window_s, dtype=float)[:, None], TAU_S[None, :]
    return np.asarray(2.0 * tau * (1.0 - tau / w * (1.0 - np.exp(-w / tau))))


def bursts_of(counted: Floats) -> tuple[float, float]:
    """A of each time constant from variance over mean at WINDOWS_S: least relative squares, none below 0."""
    wanted = np.maximum(np.asarray(counted, dtype=float), 1.0)
    growth, excess = _growth(WINDOWS_S) / wanted[:, None], (wanted - 1.0) / wanted
    both, *_ = np.linalg.lstsq(growth, excess, rcond=None)
    alone = np.maximum(growth.T @ excess / (growth**2).sum(axis=0), 0.0)
    choices = [both] * bool((both >= 0.0).all()) + [np.array([alone[0], 0.0]), np.array([0.0, alone[1]])]
    best = min(choices, key=lambda a: float(((growth @ a - excess) ** 2).sum()))
    return float(best[0]), float(best[1])


# The 8,819 requests in 57 minutes of the coding service in the Azure LLM inference trace 2023 (CC-BY-4.0; Patel et
# al., ISCA 2024, doi 10.1109/ISCA59077.2024.00019): 2.57 a second, variance over mean of its counts 13, 71 and 161.
AZURE_CODE = Source(2.57, bursts_of(np.array([13.0, 71.0, 161.0])), 2048.0, 0.96, 27.9, 2.1)


def read_source(path: Path) -> Source:
    """A source like the requests of a CSV file with columns TIMESTAMP, ContextTokens, GeneratedTokens, as Azure's.

    PlantError where it cannot be read or holds fewer than LEAST_REQUESTS.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [(_seconds(r["TIMESTAMP"]), float(r["ContextTokens"]), float(r["GeneratedTokens"]))
                    for r in csv.DictReader(file)]  # fmt: skip
    except (OSError, KeyError, ValueError, TypeError) as error:
        what = "give a CSV file with columns TIMESTAMP, ContextTokens, GeneratedTokens"
        raise PlantError(f"arrivals {path}: {error}; {what}") from error
    if len(rows) < LEAST_REQUESTS:
        raise PlantError(f"arrivals {path}: {len(rows)} requests; give at least {LEAST_REQUESTS}")
    at_s, context, generated = np.array(rows).T
    at_s = np.sort(at_s) - at_s.min()
    rate, counted = counts(at_s)
    return Source(rate, bursts_of(counted), context.mean(), _cv(context), generated.mean(), _cv(generated))


def counts(at_s: Floats) -> tuple[float, Floats]:
    """Requests a second, and variance over mean of the counts at WINDOWS_S, of sorted times from 0 [s]."""
    found = []
    for w in WINDOWS_S:
        whole = int(at_s[-1] // w)
        n = np.bincount((at_s[at_s < whole * w] // w).astype(np.int64), minlength=whole)
        found.append(n.var() / max(n.mean(), 1e-9) if whole > 1 else 1.0)
    return len(at_s) / float(at_s[-1]), np.array(found)


def _seconds(stamp: str) -> float:
    """Azure writes seven digits of a second, Python reads six."""
    whole, _, part = stamp.strip().partition(".")
    return datetime.fromisoformat(whole).timestamp() + float(f"0.{part or 0}")


def _cv(values: Floats) -> float:
    return float(values.std() / values.mean())


class Arrivals:
    """Requests of J services, each of any number of equal independent sources; memory and time go with J alone."""

    def __init__(self, source: Source, sources: Floats, rng: np.random.Generator) -> None:
        self.source, self._rng = source, rng
        bursts, share = np.array(source.bursts), np.array([QUICK_SHARE, 1.0 - QUICK_SHARE])
        share = np.where(bursts > 0.0, share, 0.0)
        share = share / share.sum() if share.any() else np.array([1.0, 0.0])
        self._steady = 0.0 if bursts.any() else 1.0  # a source without bursts is plain Poisson
        self._size = np.where(share > 0.0, bursts * TAU_S / np.maximum(share, 1e-9), 0.0)  # requests a burst
        self._per_s = np.where(self._size > 0.0, source.rate_per_s * share / np.maximum(self._size, 1e-9), 0.0)
        self._mean = self._per_s * self._size * TAU_S  # requests that a source's bursts still hold, in the mean
        self._gone = 1.0 - np.exp(-DT_S / TAU_S)
        self._sources = np.asarray(sources, dtype=float).copy()  # [J]
        self._held: Floats = self._of_bursts(self._sources[:, None] * self._per_s * TAU_S)  # [J, 2], at rest

    def step(self, sources: Floats) -> tuple[Floats, Floats, Floats]:
        """Requests of one step, their context tokens and the tokens that they will generate [J].

        Sources that come bring what they hold in the mean; what goes takes its part along.
        """
        more = np.maximum(sources - self._sources, 0.0)[:, None] * self._mean
        left = np.minimum(sources, self._sources) / np.maximum(self._sources, 1e-12)
        self._held = self._held * left[:, None] + more
        self._sources = np.asarray(sources, dtype=float).copy()
        begun = self._rng.poisson(sources[:, None] * self._per_s * DT_S)
        self._held = self._held + self._of_bursts(begun.astype(float))
        given = self._held * self._gone
        self._held = self._held - given
        even = self._steady * self.source.rate_per_s * sources * DT_S
        n = self._rng.poisson(given.sum(axis=1) + even).astype(float)
        s = self.source
        return n, self._tokens(n, s.context_tokens, s.context_cv), self._tokens(n, s.generated_tokens, s.generated_cv)

    def _of_bursts(self, bursts: Floats) -> Floats:
        """Requests that so many bursts hold: exponential each, so gamma together [J, 2]."""
        drawn: Floats = self._rng.standard_gamma(np.maximum(bursts, 1e-9)) * self._size
        return np.where(bursts > 0.0, drawn, 0.0)

    def _tokens(self, n: Floats, mean: float, cv: float) -> Floats:
        """Tokens of `n` requests each [J]."""
        spread = np.log1p(cv * cv / np.maximum(n, 1.0))
        drawn: Floats = np.exp(np.sqrt(spread) * self._rng.standard_normal(len(n)) - 0.5 * spread)
        return n * mean * drawn
