"""Requests against the Azure LLM inference trace 2023 (coding service): bursts, sizes, and what many sources add up to.

The targets are those of the trace's 57 minutes; ours are means over hours and seeds, so that no seed is tuned to.
"""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from helpers_water import DATA, with_reference

from drivers.points import Floats
from sim.plant.arrivals import AZURE_CODE, WINDOWS_S, Arrivals, Source, bursts_of, counts, dispersion, read_source
from sim.plant.base import DT_S, PlantError

FILE = DATA / "reference" / "azure_llm_2023_code.csv"
DISPERSION = np.array([13.0, 71.0, 161.0])  # variance over mean of the counts in 1, 10 and 60 s
HOURS, SEEDS = 12, (1, 2, 3)


@cache
def drawn(seed: int, sources: float = 1.0, source: Source = AZURE_CODE) -> Floats:
    """Requests, context and generated tokens of each step of HOURS, four services at once [3, steps, 4]."""
    arrivals = Arrivals(source, np.full(4, sources), np.random.default_rng(seed))
    steps = round(HOURS / 4 * 3600 / DT_S)
    return np.array([arrivals.step(np.full(4, sources)) for _ in range(steps)]).transpose(1, 0, 2)


def in_windows(n: Floats, window_s: float) -> Floats:
    """Counts of windows, from counts of steps [steps, 4]."""
    k = round(window_s / DT_S)
    whole = len(n) // k
    return np.asarray(n[: whole * k].reshape(whole, k, -1).sum(axis=1))


def test_counts_are_as_many_and_as_bursty_as_the_traces() -> None:
    n = np.concatenate([drawn(s)[0] for s in SEEDS], axis=1)
    assert n.mean() / DT_S == pytest.approx(2.57, rel=0.05)
    ours = [in_windows(n, w) for w in WINDOWS_S]
    assert [float(x.var() / x.mean()) for x in ours] == pytest.approx(list(DISPERSION), rel=0.1)


def test_the_memory_of_the_bursts_is_the_traces() -> None:
    """Autocorrelation of its seconds; nothing was fitted to it."""
    lags, seen = (1, 2, 3, 5, 10, 20), np.array([0.757, 0.627, 0.522, 0.389, 0.256, 0.034])
    n = in_windows(np.concatenate([drawn(s)[0] for s in SEEDS], axis=1), 1.0)
    x = n - n.mean()
    ours = [float((x[:-k] * x[k:]).mean() / x.var()) for k in lags]
    assert ours == pytest.approx(list(seen), abs=0.1)


def test_tokens_are_as_many_and_as_unequal_as_the_traces() -> None:
    """Of steps with a single request: mean, CV and median (1,469 and 13, to which nothing was fitted)."""
    n, context, generated = np.concatenate([drawn(s) for s in SEEDS], axis=2)
    for tokens, mean, cv, median in ((context, 2048.0, 0.96, 1469.0), (generated, 27.9, 2.1, 13.0)):
        one = tokens[n == 1.0]
        assert one.mean() == pytest.approx(mean, rel=0.05)
        assert one.std() / one.mean() == pytest.approx(cv, rel=0.15)  # of a tail as long as this, from 40,000
        assert np.median(one) == pytest.approx(median, rel=0.1)
        assert tokens.sum() / n.sum() == pytest.approx(mean, rel=0.02)


@pytest.mark.parametrize("sources", [40.0, 20_000.0])
def test_many_sources_are_as_bursty_together_and_smoother_each(sources: float) -> None:
    """A rack's and a site's: variance over mean stays, so the share by which they swing falls with the root."""
    n = drawn(7, sources)[0]
    assert n.mean() / DT_S == pytest.approx(2.57 * sources, rel=0.02)
    for w, expected in zip(WINDOWS_S, DISPERSION, strict=True):
        x = in_windows(n, w)
        assert x.var() / x.mean() == pytest.approx(expected, rel=0.25 if w == 60.0 else 0.1)  # 180 minutes a service


def test_sources_that_come_and_go_do_so_at_once() -> None:
    arrivals = Arrivals(AZURE_CODE, np.array([100.0]), np.random.default_rng(1))
    before = np.mean([arrivals.step(np.array([100.0]))[0] for _ in range(4000)]) / DT_S
    after = np.mean([arrivals.step(np.array([8000.0]))[0] for _ in range(40)]) / DT_S
    gone = [arrivals.step(np.array([0.0]))[0][0] for _ in range(40)]
    assert before == pytest.approx(257.0, rel=0.15)
    assert after == pytest.approx(8000.0 * 2.57, rel=0.1)
    assert gone == [0.0] * 40


def test_the_memory_does_not_grow_with_the_requests() -> None:
    arrivals = Arrivals(AZURE_CODE, np.full(3, 1e5), np.random.default_rng(1))
    held = {k: v.nbytes for k, v in vars(arrivals).items() if isinstance(v, np.ndarray)}
    for _ in range(100):
        arrivals.step(np.full(3, 1e5))
    assert {k: v.nbytes for k, v in vars(arrivals).items() if isinstance(v, np.ndarray)} == held


def test_bursts_are_found_again_in_what_they_make() -> None:
    for made in ((6.0, 8.0), (0.0, 3.0), (2.0, 0.0), (0.0, 0.0)):
        assert bursts_of(dispersion(np.array(made), WINDOWS_S)) == pytest.approx(made, abs=1e-9)


@with_reference
def test_the_figures_are_the_files() -> None:
    source = read_source(FILE)
    assert source.rate_per_s == pytest.approx(AZURE_CODE.rate_per_s, rel=0.005)
    assert dispersion(np.array(source.bursts), WINDOWS_S) == pytest.approx(DISPERSION, rel=0.03)
    assert source.context_tokens == pytest.approx(2048.0, rel=0.005)
    assert source.generated_tokens == pytest.approx(27.9, rel=0.005)
    assert (source.context_cv, source.generated_cv) == pytest.approx((0.96, 2.1), rel=0.03)


def test_a_trace_that_is_none_is_refused_in_words(tmp_path: Path) -> None:
    short = tmp_path / "short.csv"
    short.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n")
    with pytest.raises(PlantError, match="1 requests; give at least 1000"):
        read_source(short)
    short.write_text("when,what\n1,2\n")
    with pytest.raises(PlantError, match="columns TIMESTAMP, ContextTokens, GeneratedTokens"):
        read_source(short)


def test_counting_a_plain_stream_finds_no_bursts() -> None:
    at_s = np.cumsum(np.random.default_rng(3).exponential(0.2, 20_000))
    rate, found = counts(at_s - at_s[0])
    assert rate == pytest.approx(5.0, rel=0.02)
    assert found == pytest.approx(1.0, abs=0.3)
