"""/metrics, the alert rules and the dashboard: Prometheus' own tool reads them, and they speak of the same names."""

import json
import re
import subprocess
from pathlib import Path

import httpx2
import pytest
from helpers_console import Served, Stand
from helpers_programs import need_program

from controller.console.accounts import Role
from controller.console.desk import desk
from drivers.clock import RealClock

pytestmark = pytest.mark.usefixtures("warm_kernels")
DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("state")
    with Stand(folder) as stand:
        at = desk(stand.cycles.site, folder, RealClock())
        at.accounts.first_password()
        token = at.accounts.new_token("admin", Role.VIEWER)
        with Served(at) as served:
            reply = httpx2.get(f"{served.url}/metrics", headers={"Authorization": f"Bearer {token}"})
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    return str(reply.text)


def promtool(*args: str, given: str = "") -> None:
    program = need_program("promtool", "prometheus")
    done = subprocess.run([program, *args], input=given, capture_output=True, text=True, check=False, cwd=DEPLOY)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_metrics(scraped: str) -> None:
    promtool("check", "metrics", given=scraped)


def test_promtool_accepts_the_rules_and_they_fire_when_they_should() -> None:
    promtool("check", "rules", "prometheus/headroom.rules.yml")
    promtool("test", "rules", "prometheus/headroom.rules.test.yml")


def test_rules_and_dashboard_speak_of_metrics_that_there_are(scraped: str) -> None:
    there = set(re.findall(r"^(headroom_\w+)", scraped, re.MULTILINE))
    said = (DEPLOY / "prometheus/headroom.rules.yml").read_text() + (DEPLOY / "grafana/headroom.json").read_text()
    assert set(re.findall(r"\b(headroom_\w+)", said)) <= there
    assert len(json.loads((DEPLOY / "grafana/headroom.json").read_text())["panels"]) == 10


def test_figures_are_those_of_the_cycle(scraped: str) -> None:
    lines = [line.rpartition(" ") for line in scraped.splitlines() if not line.startswith("#")]
    value = {name: float(figure) for name, _, figure in lines}
    assert value["headroom_up"] == 1.0
    assert 3e6 < value["headroom_site_load_watts"] < value["headroom_envelope_watts"] * 1.1
    assert value['headroom_mode{mode="live"}'] == 1.0
    assert value["headroom_losses"] > 100
    held = {name: n for name, n in value.items() if name.startswith("headroom_capped_racks{")}
    assert sum(held.values()) == value["headroom_racks_capped"]
    assert len(held) < 30  # kinds, not one series for each limit
