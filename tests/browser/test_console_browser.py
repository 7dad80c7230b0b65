"""What an operator does at the console, in a real browser: a surge, an alarm, a curtailment, a hold, a lost link.

Plant, broker, controller and console are real processes; one site serves all tests, in the order of the file.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers_browser import SIZES, WAIT_MS, Eyes, chromium
from helpers_programs import free_port
from helpers_run import on_free_ports
from playwright.sync_api import Browser, expect

from controller.console.accounts import Accounts, Role
from drivers.clock import RealClock
from drivers.site.write import write_site
from sim.lab.broker import Broker

pytestmark = [pytest.mark.usefixtures("warm_kernels"), pytest.mark.xdist_group("browser")]
LONG = "correct horse battery"
MAIN = "from drivers.cli import main; main()"
CLOCK = RealClock()
expect.set_options(timeout=WAIT_MS)  # plant, controller, console and browser share two cores with other tests
PAGES = ("overview", "power", "floor", "cooling", "jobs", "losses", "alarms", "history", "acts", "scenarios", "me")
FORGED = """async () => {
    const me = await (await fetch('/v1/me')).json();
    const headers = {'Content-Type': 'application/json', 'X-CSRF-Token': me.csrf};
    const body = JSON.stringify({act: 'mode', mode: 'off', why: 'because'});
    return (await fetch('/v1/acts', {method: 'POST', headers, body})).status;
}"""
GONE = re.compile("WebSocket|ERR_CONNECTION_REFUSED|Failed to load resource")


class House:
    """A site of processes whose controller and console can be ended and started again."""

    def __init__(self, folder: Path) -> None:
        self.site = on_free_ports("hall")
        self.path, self.state = folder / "site", folder / "state"
        write_site(self.site, self.path)
        (self.state / "console").mkdir(parents=True, mode=0o700)
        accounts = Accounts(self.state / "console")
        for role in Role:
            accounts.add(role.name.lower(), role, LONG)
        self.port, self.plant_socket = free_port(), folder / "plant.sock"
        self.url = f"http://127.0.0.1:{self.port}/"
        self.log = (folder / "log").open("ab")
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        """Start one of plant, controller and console."""
        state = str(self.state)
        args = {
            "plant": ("sim", str(self.path), "--scenario", "surge", "--control", str(self.plant_socket)),
            "controller": ("run", str(self.path), "--json", "--state", state, "--no-console", "--stop-within", "1"),
            "console": ("console", str(self.path), "--state", state, "--listen", f"127.0.0.1:{self.port}",
                        "--plant", str(self.plant_socket)),
        }[name]  # fmt: skip
        command = [sys.executable, "-c", MAIN, *args]
        self.processes[name] = subprocess.Popen(command, stdout=self.log, stderr=self.log)

    def end(self, name: str, sign: int = signal.SIGKILL) -> None:
        """End one of them."""
        process = self.processes.pop(name)
        process.send_signal(sign)
        process.wait(20.0)

    def until_listening(self) -> None:
        """Until the console takes connections."""
        until_s = CLOCK.now_s() + 60.0
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self.processes["console"].poll() is None
            assert CLOCK.now_s() < until_s
            self.processes["console"].poll()


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    house = House(tmp_path_factory.mktemp("house"))
    with Broker(house.site.mqtt.port), house.log:
        try:
            for name in ("plant", "controller", "console"):
                house.start(name)
            house.until_listening()
            yield house
        finally:
            for name in list(house.processes):
                house.end(name)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def eyes(browser: Browser, house: House) -> Iterator[Eyes]:
    eyes = Eyes(browser, house.url)
    eyes.sign_in("engineer", LONG)
    yield eyes
    eyes.context.close()
    assert eyes.troubles == []


@pytest.mark.parametrize("size", SIZES)
def test_a_surge_being_capped_is_seen_on_every_page(browser: Browser, house: House, size: str) -> None:
    eyes = Eyes(browser, house.url, size)
    eyes.sign_in("viewer", LONG)
    expect(eyes.page.locator("main")).to_contain_text(re.compile(r"[1-9]\d* of \d+ racks have less"), timeout=30_000)
    rack, node = house.site.racks[0].id, "h1b1u1"
    shows = {
        "overview": "racks have less", "jobs": "train-1k", "floor": "capped", "losses": "single losses",
        "power": "sub1", "cooling": "h1loop1", f"rack/{rack}": "may draw", f"node/{node}": "trip curve",
    }  # fmt: skip
    for where in (*PAGES, f"rack/{rack}", f"node/{node}"):
        eyes.go(where)
        eyes.page.wait_for_timeout(250)
        expect(eyes.page.locator("main")).to_contain_text(shows.get(where, ""))
        eyes.keep(where.replace("/", "-"))
    assert eyes.troubles == []
    eyes.context.close()


def test_a_viewer_is_refused(browser: Browser, house: House) -> None:
    eyes = Eyes(browser, house.url)
    eyes.sign_in("viewer", LONG)
    eyes.go("acts")
    assert all(button.is_disabled() for button in eyes.page.locator("main button").all())
    eyes.expected = re.compile("403")
    code = eyes.page.evaluate(FORGED)
    assert code == 403
    assert eyes.troubles == []
    eyes.context.close()


def test_a_wrong_password_is_told_and_signs_nobody_in(browser: Browser, house: House) -> None:
    eyes = Eyes(browser, house.url)
    eyes.expected = re.compile("401")
    eyes.page.goto(eyes.url)
    eyes.page.fill("[name=user]", "viewer")
    eyes.page.fill("[name=password]", "not the password")
    eyes.page.click("button[type=submit]")
    expect(eyes.page.locator("#said")).to_have_text("user or password is wrong")
    assert eyes.troubles == []
    eyes.context.close()


def test_from_an_alarm_to_its_cause(eyes: Eyes, house: House) -> None:
    """A fault is started in the simulated plant; the alarm names it and leads to the element, which says the same."""
    eyes.go("scenarios")
    eyes.page.locator("tr", has=eyes.page.get_by_text("ups_out", exact=True)).get_by_role("button").click()
    eyes.page.fill("#why", "a test of the alarms")
    eyes.page.click("dialog button[type=submit]")
    expect(eyes.page.locator("#alarmcount")).to_contain_text("alarm", timeout=20_000)
    eyes.go("alarms")
    lost = eyes.page.locator(".alarm a", has_text=re.compile(r"\bups h1b1u\d")).first
    expect(lost).to_be_visible(timeout=20_000)
    eyes.keep("alarm")
    lost.click()
    expect(eyes.page.locator("main h1")).to_have_text(re.compile(r"ups h1b1u\d"))
    expect(eyes.page.locator("main")).to_contain_text(re.compile("LOST|NO VOLTAGE"))
    eyes.keep("cause")


def test_a_curtailment_is_foretold_scheduled_and_taken_back(eyes: Eyes, house: House) -> None:
    eyes.go("acts")
    eyes.page.fill("#curtail [name=mw]", "4.2")
    eyes.page.click("#curtail button")
    expect(eyes.page.locator("dialog .effect")).to_contain_text("racks would be given")
    assert eyes.page.locator("dialog button[type=submit]").is_disabled()  # nobody has said why
    eyes.page.fill("#why", "the utility asked for it")
    eyes.keep("confirm")
    eyes.page.click("dialog button[type=submit]")
    row = eyes.page.locator("tr", has_text="4.20 MW")
    expect(row).to_be_visible()
    written = [json.loads(line) for line in (house.state / "acts.jsonl").read_text().splitlines()]
    last: dict[str, Any] = written[-1]
    assert (last["act"], last["mw"], last["by"]) == ("curtail", 4.2, "engineer")
    row.get_by_role("button").click()
    eyes.page.fill("#why", "they took it back")
    eyes.page.click("dialog button[type=submit]")
    expect(row).to_have_count(0)


def test_a_rack_is_held_and_released(eyes: Eyes, house: House) -> None:
    eyes.go(f"rack/{house.site.racks[3].id}")
    for act, shown in (("Hold", "held"), ("Release", "")):
        eyes.page.get_by_role("button", name=act, exact=True).click()
        expect(eyes.page.locator("dialog .effect")).to_contain_text("1 rack may")
        eyes.page.fill("#why", "a technician is at it")
        eyes.page.keyboard.press("Tab")
        eyes.page.keyboard.press("Enter")  # by the keyboard alone
        expect(eyes.page.locator("main h1 span")).to_have_text(shown)
    eyes.keep("rack-held")


def test_the_map_is_reached_by_keys(eyes: Eyes, house: House) -> None:
    eyes.go("floor")
    expect(eyes.page.locator("main")).to_contain_text("nameplate drawn")
    eyes.page.focus("canvas.map")
    for key in ("ArrowRight", "ArrowDown", "ArrowRight", "Enter"):
        eyes.page.keyboard.press(key)
    expect(eyes.page.locator("main h1")).to_contain_text("Rack")


def test_the_link_is_lost_and_comes_back(eyes: Eyes, house: House) -> None:
    """The controller dies: the page says how old it is. The console dies: the session outlives it."""
    eyes.expected = GONE
    house.end("controller")
    expect(eyes.page.locator("#link")).to_contain_text("no controller")
    eyes.keep("no-controller")
    house.start("controller")
    expect(eyes.page.locator("#link")).to_have_text("live", timeout=30_000)
    house.end("console")
    expect(eyes.page.locator("#link")).to_contain_text("no controller")
    house.start("console")
    expect(eyes.page.locator("#link")).to_have_text("live", timeout=30_000)


@pytest.mark.skipif("HEADROOM_SCREENSHOTS" not in os.environ, reason="no directory for pictures was given")
def test_pictures_were_kept() -> None:
    kept = {p.name for p in Path(os.environ["HEADROOM_SCREENSHOTS"]).glob("*.png")}
    assert {f"{page}-{size}.png" for page in PAGES for size in SIZES} <= kept
