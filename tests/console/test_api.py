"""The API: who may what, what a page of another site cannot, and answers that are the controller's own."""

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from helpers_console import Served, Stand
from starlette.testclient import TestClient
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from controller import form
from controller.console.accounts import Role
from controller.console.app import build
from controller.console.desk import Desk, desk
from controller.console.intake import Intake
from controller.console.live import SIGNED_OUT
from controller.history import frame_log
from controller.history.layout import layout_of
from controller.history.paths import Paths
from drivers.clock import RealClock
from drivers.inventory import compile_inventory
from drivers.profile import load_profiles

pytestmark = pytest.mark.usefixtures("warm_kernels")
LONG = "correct horse battery"
WHY = "the utility rang"
CLOCK = RealClock()


class Room:
    """A console on a stand, a token for each role, and a client."""

    def __init__(self, client: httpx2.Client, stand: Stand, at: Desk) -> None:
        self.client, self.stand, self.desk = client, stand, at
        self.url = str(client.base_url).rstrip("/")
        for role in Role:
            at.accounts.add(role.name.lower(), role, LONG)
        self.token = {role: at.accounts.new_token(role.name.lower(), role) for role in Role}

    def ask(self, method: str, path: str, role: Role | None = Role.ENGINEER, **more: Any) -> Any:
        headers = more.pop("headers", {})
        if role is not None:
            headers = headers | {"Authorization": f"Bearer {self.token[role]}"}
        return self.client.request(method, path, headers=headers, **more)

    def act(self, role: Role, **act: Any) -> Any:
        return self.ask("POST", "/v1/acts", role, json={"why": WHY, **act})


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    folder = tmp_path_factory.mktemp("state")
    with Stand(folder) as stand:
        at = desk(stand.cycles.site, folder, RealClock())
        with Served(at) as served, httpx2.Client(base_url=served.url) as client:
            yield Room(client, stand, at)


def test_nobody_unknown_learns_or_changes_anything(room: Room) -> None:
    for path, methods in room.client.get("/v1/openapi.json").json()["paths"].items():
        for method in methods:
            if path in ("/healthz", "/readyz", "/v1/login"):
                continue
            reply = room.ask(method.upper(), path.replace("{", "").replace("}", ""), None, json={})
            assert reply.status_code == 401, (method, path)
    assert room.client.get("/", follow_redirects=False).headers["location"] == "/login"


def test_a_stolen_viewer_token_can_change_nothing(room: Room) -> None:
    before = room.desk.acts.poll()
    rack = room.stand.cycles.site.racks[0].id
    acts: list[dict[str, Any]] = [
        {"act": "envelope", "mw": 4.0}, {"act": "hold", "rack": rack}, {"act": "release", "rack": rack},
        {"act": "park", "rack": rack}, {"act": "mode", "mode": "off"}, {"act": "ack", "alarm": "lost/x"},
        {"act": "shelve", "alarm": "lost/x", "for_s": 60},
        {"act": "priority", "job": room.stand.cycles.site.jobs[0].id, "priority": 0},
    ]  # fmt: skip
    for act in acts:
        assert room.act(Role.VIEWER, **act).status_code == 403, act
    assert room.ask("POST", "/v1/jobs", Role.VIEWER, json={"id": "j", "racks": [rack]}).status_code == 403
    assert room.ask("DELETE", "/v1/jobs/j", Role.VIEWER).status_code == 403
    assert room.ask("GET", "/v1/users", Role.VIEWER).status_code == 403
    assert (
        room.ask("POST", "/v1/users", Role.VIEWER, json={"user": "x", "role": "engineer", "password": LONG}).status_code
        == 403
    )
    stolen = room.desk.accounts.new_token("engineer", Role.VIEWER)  # of an engineer, who lent it to a program
    for headers in (None, {"Authorization": f"Bearer {stolen}"}):
        role = Role.VIEWER if headers is None else None
        for wanted in ("operator", "engineer"):
            asked = room.ask("POST", "/v1/tokens", role, headers=headers or {}, json={"role": wanted})
            assert asked.status_code == 403
        assert room.ask("DELETE", "/v1/tokens", role, headers=headers or {}).status_code == 403
    assert room.ask("POST", "/v1/scenarios", Role.VIEWER, json={"scenario": "surge", "why": WHY}).status_code == 403
    assert room.desk.acts.poll() == before


def test_an_operator_holds_and_an_engineer_changes_the_mode(room: Room) -> None:
    rack = room.stand.cycles.site.racks[1].id
    done = room.act(Role.OPERATOR, act="hold", rack=rack)
    assert done.status_code == 200
    assert (done.json()["by"], done.json()["why"]) == ("operator", WHY)
    assert rack in room.ask("GET", "/v1/acts").json()["held"]
    assert room.act(Role.OPERATOR, act="mode", mode="hold").status_code == 403
    mode = room.act(Role.ENGINEER, act="mode", mode="hold")
    assert mode.status_code == 200
    for act in (mode, done):  # and both are taken back
        assert room.ask("POST", f"/v1/acts/{act.json()['id']}/undo", json={"why": WHY}).status_code == 200
    now = room.ask("GET", "/v1/acts").json()
    assert rack not in now["held"]
    assert room.desk.acts.poll().mode.name == "LIVE"
    assert now["acts"][0]["undoes"] == done.json()["id"]


def test_a_curtailment_is_planned_seen_and_cancelled(room: Room) -> None:
    now_ms = CLOCK.wall_ms()
    plan = {"act": "curtail", "mw": 4.0, "from_ms": now_ms + 3_600_000, "until_ms": now_ms + 7_200_000}
    foretold = room.ask("POST", "/v1/acts/effect", json=plan).json()
    assert foretold["envelope_w"] == pytest.approx(4e6)
    assert foretold["change_w"] < 0.0
    done = room.act(Role.OPERATOR, **plan).json()
    assert [c["id"] for c in room.ask("GET", "/v1/acts").json()["curtailments"]] == [done["id"]]
    assert room.act(Role.OPERATOR, act="cancel", plan="other").status_code == 404
    assert room.act(Role.OPERATOR, act="cancel", plan=done["id"]).status_code == 200
    assert room.ask("GET", "/v1/acts").json()["curtailments"] == []
    past = plan | {"from_ms": now_ms - 7_200_000, "until_ms": now_ms - 3_600_000}
    assert room.act(Role.OPERATOR, **past).status_code == 422


def test_every_act_says_why(room: Room) -> None:
    rack = room.stand.cycles.site.racks[0].id
    assert room.ask("POST", "/v1/acts", json={"act": "hold", "rack": rack}).status_code == 422
    assert room.ask("POST", "/v1/acts", json={"act": "hold", "rack": rack, "why": "  "}).status_code == 422


def signed_in(room: Room, user: str = "operator") -> tuple[dict[str, str], str]:
    """Cookie header and CSRF token of a browser that signs in."""
    reply = room.client.post("/v1/login", json={"user": user, "password": LONG})
    assert reply.status_code == 200, reply.text
    cookie = reply.headers["set-cookie"]
    assert {"httponly", "samesite=strict", "path=/"} <= {part.strip().lower() for part in cookie.split(";")}
    room.client.cookies.clear()
    return {"Cookie": cookie.split(";")[0]}, reply.json()["csrf"]


def test_a_page_of_another_site_can_do_nothing_with_a_session(room: Room) -> None:
    cookie, csrf = signed_in(room)
    rack = room.stand.cycles.site.racks[2].id
    act = {"act": "hold", "rack": rack, "why": WHY}
    good = cookie | {"X-CSRF-Token": csrf}
    assert room.ask("GET", "/v1/status", None, headers=cookie).status_code == 200
    assert room.ask("POST", "/v1/acts", None, headers=cookie, json=act).status_code == 403
    assert room.ask("POST", "/v1/acts", None, headers=cookie | {"X-CSRF-Token": "x"}, json=act).status_code == 403
    assert room.ask("POST", "/v1/acts", None, headers=good | {"Origin": "http://evil"}, json=act).status_code == 403
    assert room.ask("POST", "/v1/acts", None, headers=good | {"Origin": room.url}, json=act).status_code == 200
    assert room.ask("POST", "/v1/logout", None, headers=good).status_code == 200
    assert room.ask("GET", "/v1/status", None, headers=cookie).status_code == 401
    room.act(Role.OPERATOR, act="release", rack=rack)


def test_another_password_signs_out_every_browser(room: Room) -> None:
    room.desk.accounts.add("carol", Role.VIEWER, LONG)
    cookie, csrf = signed_in(room, "carol")
    assert room.ask("GET", "/v1/status", None, headers=cookie).status_code == 200
    told = {"old": "not the old one", "new": LONG + " again"}
    good = cookie | {"X-CSRF-Token": csrf}
    assert room.ask("POST", "/v1/me/password", None, headers=good, json=told).status_code == 403
    room.desk.accounts.set_password("carol", LONG + " again")  # as the command does, in another process
    assert room.ask("GET", "/v1/status", None, headers=cookie).status_code == 401


def test_a_name_that_only_points_here_is_not_answered(room: Room) -> None:
    assert room.client.get("/login", headers={"Host": "evil.example"}).status_code == 400
    assert room.client.get("/login", headers={"Host": "localhost:8600"}).status_code == 200


def test_guessing_a_password_is_slowed_down(room: Room) -> None:
    codes = [
        room.client.post("/v1/login", json={"user": "guessed", "password": f"guess number {i}"}).status_code
        for i in range(8)
    ]
    room.desk.throttle.passed(("address 127.0.0.1",))
    assert codes[0] == 401
    assert codes[-1] == 429


def test_every_answer_forbids_what_is_not_ours(room: Room) -> None:
    for path in ("/login", "/static/main.js", "/v1/status", "/nowhere"):
        headers = room.client.get(path).headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-frame-options"] == "DENY"
    assert room.ask("POST", "/v1/acts", content=b"x" * (2 << 20)).status_code == 413


def test_pictures_come_to_whoever_is_signed_in_and_to_nobody_else(room: Room) -> None:
    cookie, _ = signed_in(room, "viewer")
    url = room.url.replace("http", "ws") + "/v1/frames"
    with connect(url, additional_headers=cookie, max_size=None) as socket:
        assert json.loads(socket.recv(5.0))["connected"] is True
        pictures = [socket.recv(5.0) for _ in range(3)]
        cycles = [form.split(zlib.decompress(p))[0]["cycle"] for p in pictures if isinstance(p, bytes)]
        assert cycles == sorted(set(cycles))
        assert len(cycles) == 3
    nobody: dict[str, str] = {}
    for headers in (nobody, {"Cookie": "headroom=x"}, cookie | {"Origin": "http://evil"}):
        with connect(url, additional_headers=headers) as socket:
            with pytest.raises(ConnectionClosed):
                socket.recv(5.0)
            assert socket.close_code == SIGNED_OUT


def test_answers_are_the_controllers_own(room: Room) -> None:
    rack = room.stand.cycles.site.racks[0]
    told = room.ask("GET", f"/v1/racks/{rack.id}/explain", Role.VIEWER).json()
    assert told["lines"][0].startswith(f"Rack {rack.id} may draw ")
    figures = room.ask("GET", f"/v1/racks/{rack.id}", Role.VIEWER).json()
    assert figures["max_w"] == rack.max_w
    assert figures["rack_cap_w"] > 0
    assert room.ask("GET", "/v1/racks/nobody", Role.VIEWER).status_code == 404
    assert room.ask("GET", "/v1/racks/nobody/explain", Role.VIEWER).status_code == 404
    assert room.ask("GET", "/v1/contingencies", Role.VIEWER).json()["count"] == len(room.stand.cycles.plan.losses.cases)
    assert json.loads(room.ask("GET", "/v1/site", Role.VIEWER).content)["site"] == "hall"
    values = room.ask("GET", "/v1/history?point=site/load_w", Role.VIEWER).json()["values"]
    assert all(v > 1e6 for _, v in values)
    assert room.ask("GET", f"/v1/history?point=rack/{rack.id}/cap_w", Role.VIEWER).json()["values"]
    assert room.ask("GET", "/v1/history?point=rack/x/y", Role.VIEWER).status_code == 404


def test_the_history_on_the_disk_is_found_and_told(room: Room) -> None:
    plan = room.stand.cycles.plan
    layout = layout_of(plan, compile_inventory(plan.site, load_profiles()))
    paths, point = Paths.of(room.stand.folder), str(layout.names[5])
    assert room.ask("GET", f"/v1/series?point={point}&from_ms=0&to_ms=5000", Role.VIEWER).status_code == 404
    paths.make()
    layout.save(paths.log)
    writer, start_ms = frame_log.Writer(paths.log, layout), 1_790_000_000_000
    value = np.arange(len(layout.names), dtype=float)
    for i in range(20):
        writer.append(start_ms + 1000 * i, i, value + i, np.zeros(len(value), dtype=np.uint8))
    writer.finish()
    found = room.ask("GET", f"/v1/points?like={point[:6].upper()}", Role.VIEWER).json()
    assert point in found["points"]
    assert found["count"] >= len(found["points"]) <= 200
    where = f"/v1/series?point={point}&from_ms={start_ms}&to_ms={start_ms + 10_000}"
    told = room.ask("GET", where, Role.VIEWER).json()
    assert told["t_ms"] == [start_ms + 1000 * i for i in range(10)]
    assert told["mean"] == pytest.approx([5.0 + i for i in range(10)], abs=0.51 * layout.step[5])
    assert room.ask("GET", "/v1/series?point=no.such&from_ms=0&to_ms=9", Role.VIEWER).status_code == 404
    assert room.ask("GET", f"/v1/series?point={point}&from_ms=9&to_ms=9", Role.VIEWER).status_code == 422
    assert room.ask("GET", where, None).status_code == 401


def test_alarms_are_acknowledged_and_shelved_by_who_may(room: Room) -> None:
    room.stand.alarm_list = [
        {
            "id": "lost/feed1",
            "code": "lost",
            "priority": "critical",
            "element": "feed1",
            "text": "feed1 is lost",
            "since_ms": 1,
        }
        | {"state": "unacknowledged", "acked_by": None, "shelved_until_ms": None, "first_out": True}
    ]
    until_s = CLOCK.now_s() + 5.0
    while not any(isinstance(a, dict) for a in room.ask("GET", "/v1/alarms", Role.VIEWER).json()["alarms"]):
        assert CLOCK.now_s() < until_s
    assert room.act(Role.OPERATOR, act="ack", alarm="lost/feed1").status_code == 200
    assert room.act(Role.OPERATOR, act="shelve", alarm="lost/feed1", for_s=3600).status_code == 200
    assert room.act(Role.OPERATOR, act="shelve", alarm="lost/feed1", for_s=9 * 86_400).status_code == 422
    assert room.act(Role.OPERATOR, act="shelve", alarm="feed1", for_s=3600).status_code == 422
    assert room.act(Role.OPERATOR, act="unshelve", alarm="lost/feed1").status_code == 200
    assert 'headroom_alarms{priority="critical"} 1.0' in room.ask("GET", "/metrics", Role.VIEWER).text
    room.stand.alarm_list = None


def test_a_job_takes_its_racks_from_the_one_before(room: Room) -> None:
    racks = [r.id for r in room.stand.cycles.site.racks[:3]]
    told = {"id": "slurm-7", "racks": racks, "priority": 2, "tenant": "research", "source": "slurm"}
    assert room.ask("POST", "/v1/jobs", Role.OPERATOR, json=told).status_code == 200
    assert room.ask("POST", "/v1/jobs", Role.OPERATOR, json={"id": "j2", "racks": racks[:1]}).status_code == 200
    jobs = {j["id"]: j for j in room.ask("GET", "/v1/jobs", Role.VIEWER).json()["jobs"]}
    assert jobs["slurm-7"]["racks"] == sorted(racks[1:])
    assert room.ask("POST", "/v1/jobs", Role.OPERATOR, json={"id": "j3", "racks": ["x"]}).status_code == 422
    assert room.ask("DELETE", "/v1/jobs/slurm-7", Role.OPERATOR).status_code == 200
    assert room.ask("DELETE", "/v1/jobs/slurm-7", Role.OPERATOR).status_code == 404
    assert [j["id"] for j in Intake(room.desk.folder, room.desk.site, CLOCK).jobs()] == ["j2"]


def test_ready_means_that_the_present_is_shown(room: Room, tmp_path: Path) -> None:
    assert room.client.get("/readyz").status_code == 200
    alone = desk(room.stand.cycles.site, tmp_path, RealClock())
    with TestClient(build(alone)) as client:
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 503
        token = {"Authorization": f"Bearer {_token(alone)}"}
        assert client.get("/v1/status", headers=token).status_code == 503
        assert client.get("/v1/bottlenecks", headers=token).status_code == 503
        assert "headroom_up 0.0" in client.get("/metrics", headers=token).text
        assert client.get("/v1/scenarios", headers=token).json() == {"plant": False, "scenarios": []}


def _token(at: Desk) -> str:
    at.accounts.first_password()
    return at.accounts.new_token("admin", Role.ENGINEER)
