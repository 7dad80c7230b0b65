"""Studies: drawn scenarios repeat, finished runs are never made twice, and nothing that ends a study costs them."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import distributed
import numpy as np
import pytest
from helpers_run import MAIN
from helpers_site import tiny_site
from typer.testing import CliRunner

from controller.frames import Floats
from drivers.clock import RealClock
from drivers.profile import load_profiles
from drivers.site.load import resolve_site
from drivers.site.write import write_site
from sim.cli import app
from sim.lab import study
from sim.lab.cases import Asked, cases_of, conduct
from sim.lab.drawn import by_name, drawn
from sim.lab.incidents import Incidents
from sim.lab.rivals import Layout, PolicyError, Seen
from sim.lab.study import Case, Results, StudyError, Where, code_digest, run_case, runs_of
from sim.plant.director import Director
from sim.plant.events import Scenario
from sim.plant.plant import Plant
from sim.scenarios import ScenarioError, load_scenario

STEADY = load_scenario("steady")


class Stumbles:
    """A policy that breaks down after some cycles."""

    def __init__(self, layout: Layout, seed: int) -> None:
        self.left, self.caps = 5 + 0 * seed, layout.max_w

    def caps_w(self, seen: Seen) -> Floats:
        """Nameplate, then nothing at all."""
        self.left -= 1
        return self.caps / (self.left and 1.0) if self.left and seen else self.caps[:0]


def case(seed: int = 1, scenario: Scenario = STEADY, policy: str = "fair", seconds: int = 5) -> Case:
    return Case(tiny_site(), scenario, policy, seed, seconds)


def quiet(_: str) -> None:
    pass


@pytest.mark.parametrize("kind", ["random", "combined"])
def test_drawn_scenarios_repeat_differ_and_fit_the_site(kind: str) -> None:
    site = resolve_site("hall")
    plant = Plant(site, load_profiles(), STEADY)
    texts, actions = set(), set()
    for number in range(60):
        scenario = drawn(site, kind, 7, number)
        assert scenario == drawn(site, kind, 7, number) == by_name(site, scenario.name)
        texts.add(scenario.model_dump_json(exclude={"name"}))
        actions |= {e.do for e in scenario.events if e.at_s > 0.0}
        rng = np.random.default_rng(1)
        Director(site, scenario, plant.network, plant.jobs, plant.elec, plant.thermal, plant.gensets, rng)
        Incidents(site, plant.inventory, scenario, plant.agents.groups, 1)
        assert all(e.at_s == 0.0 or 240.0 <= e.at_s < 600.0 for e in scenario.events)
    assert len(texts) == 60
    assert len(actions) >= 8
    assert drawn(site, kind, 8, 0) != drawn(site, kind, 7, 0)
    assert by_name(site, "random") is None


def test_what_is_asked_becomes_cases_each_with_a_name_of_its_own() -> None:
    site = tiny_site()
    cases = cases_of(site, "steady, random:3,combined:2", ["fair", "uniform"], 5, 2, 60.0)
    assert len(cases) == (1 + 3 + 2) * 2 * 2
    assert len({c.key() for c in cases}) == len(cases)
    assert {c.seed for c in cases if c.scenario.name == "random-5-2"} == {7, 8}
    assert {c.seconds for c in cases_of(site, "curtail_half", ["fair"], 1, 1, None)} == {3300}
    with pytest.raises(ScenarioError, match="Did you mean 'steady'"):
        cases_of(site, "stedy", ["fair"], 1, 1, None)
    with pytest.raises(StudyError, match="--scenario"):
        cases_of(site, " ,", ["fair"], 1, 1, None)


def test_a_key_names_all_that_a_result_depends_on() -> None:
    base = case()
    site = base.site.model_copy(update={"title": "another"})
    moved = STEADY.model_copy(update={"start_hour": 3.0})
    others = [case(2), case(scenario=moved), case(policy="static"), case(seconds=6), Case(site, STEADY, "fair", 1, 5)]
    assert len({base.key(), *(c.key() for c in others)}) == 6
    assert base.key() == case().key()
    assert len(code_digest()) == 32


def test_a_policy_of_ones_own_that_has_changed_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    keys = set()
    for share in (0.5, 0.6):
        (tmp_path / "mine_of_test.py").write_text(f"class Mine:\n    share = {share}  # {'x' * round(10 * share)}\n")
        study._policy_digest.cache_clear()
        keys.add(case(policy="mine_of_test:Mine").key())
    assert len(keys) == 2


def test_finished_runs_are_kept_and_never_made_twice(tmp_path: Path) -> None:
    cases, results, said = [case(s) for s in (1, 2, 3)], Results(tmp_path / "runs"), list[str]()
    first = dict(_by_seed(runs_of(cases[:2], Where(1), results, said.append)))
    stamps = {p: p.stat().st_mtime_ns for p in results.folder.iterdir()}
    (results.folder / "torn.part").write_text("{")
    again = dict(_by_seed(runs_of(cases, Where(1), results, said.append)))
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps
    assert set(again) == {1, 2, 3}
    assert first == {s: again[s] for s in (1, 2)}
    assert any("2 of 3 runs are there already" in words for words in said)
    fresh = run_case(cases[2])
    assert {k: v for k, v in fresh.items() if k in again[3] and k != "x_realtime"} == {
        k: v for k, v in again[3].items() if k != "x_realtime"
    }


def test_a_torn_file_is_a_run_that_is_not_there(tmp_path: Path) -> None:
    results = Results(tmp_path)
    list(runs_of([case()], Where(1), results, quiet))
    (path,) = tmp_path.iterdir()
    path.write_text(path.read_text()[:100])
    assert results.get(case()) is None
    assert len(list(runs_of([case()], Where(1), results, quiet))) == 1
    assert results.get(case()) is not None


def test_what_fails_is_said_and_not_kept_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    asked = Asked(
        "steady,tower_out", f"{Path(__file__).stem}:Stumbles,fair", seconds=8, where=Where(1), results=tmp_path
    )
    summary = conduct(tiny_site(), asked, quiet)
    assert [r["policy"] for r in summary["failed"]] == [f"{Path(__file__).stem}:Stumbles"]
    assert "at 5.00 s" in summary["failed"][0]["failed"]
    assert [r["policy"] for r in summary["runs"]] == ["fair"]
    assert len(summary["skipped"]) == 2
    assert any("skipped: tower_out" in words for words in summary["table"])


def test_an_unknown_policy_or_cluster_is_said_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="Did you mean 'uniform'"):
        conduct(tiny_site(), Asked(policies="unifrom", results=tmp_path), quiet)
    result = CliRunner().invoke(app, ["study", "hall", "--cluster", "slurm"])
    assert result.exit_code == 2


def test_a_study_that_is_killed_loses_the_runs_in_flight_alone(tmp_path: Path, warm_kernels: None) -> None:
    write_site(tiny_site(), tmp_path / "site")
    folder = tmp_path / "runs"
    asked = [str(tmp_path / "site"), "--scenario", "steady", "--seeds", "24", "--seconds", "40", "--jobs", "2"]
    command = [sys.executable, "-c", MAIN, "study", *asked, "--results", str(folder), "--json"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
    clock = RealClock()
    end_s = clock.now_s() + 60.0
    while len(list(folder.glob("*.json"))) < 4 and clock.now_s() < end_s:
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = {p.name: p.stat().st_mtime_ns for p in folder.glob("*.json")}
    assert 4 <= len(kept) < 24
    end_s = clock.now_s() + 10.0
    while (left := _in_session(process.pid)) and clock.now_s() < end_s:
        subprocess.run(["sleep", "0.1"], check=True)
    assert not left, "workers outlive the study that was killed"
    done = subprocess.run(command, capture_output=True, timeout=100, check=False, text=True)
    assert done.returncode == 0, done.stderr
    assert {p.name: p.stat().st_mtime_ns for p in folder.glob("*.json") if p.name in kept} == kept
    runs = json.loads(done.stdout)["runs"]
    assert [r["seed"] for r in runs] == list(range(1, 25))
    assert f"{len(kept)} of 24 runs are there already" in done.stderr


def test_a_local_dask_cluster_gives_the_same_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dask: Any = distributed  # untyped
    here = dict(_by_seed(runs_of([case(1), case(2)], Where(1), Results(tmp_path / "here"), quiet)))
    with (
        dask.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None, processes=False) as cluster,
        dask.Client(cluster),
    ):
        there = dict(_by_seed(runs_of([case(1), case(2)], Where(cluster="dask"), Results(tmp_path / "there"), quiet)))
    assert {s: _timeless(r) for s, r in here.items()} == {s: _timeless(r) for s, r in there.items()}


class _Page(HTMLParser):
    """Counts what a page draws and what it would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.charts = 0
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Count."""
        names = dict(attrs)
        self.charts += tag == "svg" and names.get("role") == "img"
        self.fetched += [str(v) for k, v in attrs if k in ("src", "href") and not str(v).startswith("#")]
        self.fetched += [tag] * (tag in ("script", "link", "img", "iframe"))


def test_the_report_stands_alone_and_shows_every_policy_beside_the_other(tmp_path: Path) -> None:
    loss = Scenario.model_validate(
        {
            "name": "loss",
            "title": "A <UPS> goes",
            "lasts_s": 20,
            "events": [{"do": "outage", "at_s": 5, "for_s": 5, "kind": "ups"}],
            "outcome": {"work_done": 1.5},
        }
    )
    path = tmp_path / "loss.yaml"
    path.write_text(loss.model_dump_json(exclude_defaults=True))
    asked = Asked(
        str(path), "fair,uniform", seconds=20, where=Where(1), results=tmp_path / "r", html=tmp_path / "h.html"
    )
    summary = conduct(tiny_site(), asked, quiet)
    assert len(summary["broken"]) == 1
    text = (tmp_path / "h.html").read_text()
    page = _Page()
    page.feed(text)
    assert page.charts == 7
    assert page.fetched == []
    for words in ("A &lt;UPS&gt; goes", "outage ups", "end of outage ups", "not shown: loss fair seed 1", "uniform"):
        assert words in text
    assert "http" not in text


def test_the_command_ends_with_what_headroom_has_not_shown(tmp_path: Path) -> None:
    text = "name: hopeless\ntitle: t\nlasts_s: 5\nevents: []\noutcome: {work_done: 2}\n"
    (tmp_path / "hopeless.yaml").write_text(text)
    asked = ["study", "hall", "--scenario", str(tmp_path / "hopeless.yaml"), "--jobs", "1", "--results", str(tmp_path)]
    got = CliRunner().invoke(app, [*asked, "--policy", "fair,static", "--json"])
    assert got.exit_code == 1
    told = json.loads(got.stdout)
    assert [words[:31] for words in told["broken"]] == ["hopeless fair seed 1: work_done"]
    assert {r["policy"] for r in told["runs"] if r["missed"]} == {"fair", "static"}
    assert CliRunner().invoke(app, [*asked, "--policy", "static"]).exit_code == 0


def _by_seed(runs: Any) -> Any:
    return ((c.seed, run) for c, run in runs)


def _timeless(run: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in run.items() if k != "x_realtime"}


def _in_session(session: int) -> list[int]:
    """Processes that are alive in a session, from /proc (proc(5): the session is field 6 of stat)."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, _, of = stat.read_text().rsplit(")", 1)[1].split()[:4]
            if int(of) == session and state != "Z":
                found.append(int(stat.parent.name))
    return found
