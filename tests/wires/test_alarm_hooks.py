"""Alarms that leave the house: real servers take them, none of them, slow, gone or hostile, holds anything up."""

import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from helpers_programs import free_port, need_program

from controller.alarms import Change, hooks
from controller.alarms.hooks import Hooks, Notify, load
from drivers.clock import RealClock
from drivers.mqtt.endpoint import Endpoint
from drivers.mqtt.notice import publish
from sim.lab.broker import Broker, Kind

RAISED = Change(
    1_767_225_600_000, "element_lost/feed1", "element_lost", "feed1", "critical", "lost: utility feed feed1", "normal",
    "unacknowledged", True,
)  # fmt: skip
LOW = replace(RAISED, id="mode/site", code="mode", element="site", priority="low")
RETURNED = replace(RAISED, was="acknowledged", now="normal")


@contextmanager
def web(answers: list[int], elsewhere: str = "") -> Iterator[tuple[str, list[tuple[dict[str, str], Any]]]]:
    """A web server that answers with these codes in turn, then 200; its address and what it was sent."""
    heard: list[tuple[dict[str, str], Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["Content-Length"]))
            heard.append((dict(self.headers), json.loads(data)))
            self.send_response(answers.pop(0) if answers else 200)
            if elsewhere:
                self.send_header("Location", elsewhere)
            self.end_headers()

        def do_GET(self) -> None:
            heard.append((dict(self.headers), None))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/alarms", heard
        server.shutdown()
        thread.join()


def until(condition: Any, seconds: float = 20.0) -> None:
    clock = RealClock()
    end_s = clock.now_s() + seconds
    pause = threading.Event()
    while not condition():
        assert clock.now_s() < end_s
        pause.wait(0.01)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "WAITS_S", (0.02, 0.05))
    monkeypatch.setattr(hooks, "TAKES_S", 1.0)


def test_nothing_is_sent_unless_somebody_says_where_to(tmp_path: Path) -> None:
    assert load(tmp_path) == Notify()
    told = Hooks(load(tmp_path), "tiny", {})
    told.tell(0.0, [RAISED])
    assert told.complaint() == ""
    told.close()


def test_a_webhook_gets_what_is_grave_with_its_token_and_not_the_same_again(tmp_path: Path) -> None:
    with web([]) as (url, heard):
        (tmp_path / "notify.yaml").write_text(f"webhook: {{url: '{url}', token_env: HOOK_TOKEN}}\n")
        told = Hooks(load(tmp_path), "tiny", {"HOOK_TOKEN": "secret"})
        told.tell(10.0, [RAISED, LOW])
        until(lambda: len(heard) == 1)
        told.tell(20.0, [RAISED, LOW])
        told.tell(30.0, [RETURNED])
        until(lambda: len(heard) == 2)
        told.tell(10.0 + hooks.SAME_S, [RAISED])
        until(lambda: len(heard) == 3)
        told.close()
    headers, body = heard[0]
    assert headers["Authorization"] == "Bearer secret"
    assert body["site"] == "tiny"
    assert [(a["id"], a["first_out"]) for a in body["alarms"]] == [("element_lost/feed1", True)]
    assert heard[1][1]["alarms"][0]["now"] == "normal"
    assert told.complaint() == ""


def test_a_receiver_that_fails_is_tried_again_and_then_given_up_and_said() -> None:
    with web([500, 503]) as (url, heard):
        told = Hooks(Notify.model_validate({"webhook": {"url": url}}), "tiny", {})
        told.tell(0.0, [RAISED])
        until(lambda: len(heard) == 3)
        assert told.complaint() == ""
        told.close()
    told = Hooks(Notify.model_validate({"webhook": {"url": url}}), "tiny", {})
    told.tell(0.0, [RAISED])
    until(lambda: told.failed == 1)
    assert told.complaint().startswith("1 messages of alarms not delivered: webhook: ")
    assert told.complaint() == ""
    told.close()


def test_a_redirect_is_not_followed_the_token_is_for_one_address() -> None:
    with web([]) as (elsewhere, stolen), web([302, 307, 308], elsewhere) as (url, heard):
        hook = {"webhook": {"url": url, "token_env": "HOOK_TOKEN"}}
        told = Hooks(Notify.model_validate(hook), "tiny", {"HOOK_TOKEN": "secret"})
        told.tell(0.0, [RAISED])
        until(lambda: told.failed == 1)
        told.close()
    assert len(heard) == 3
    assert stolen == []


def test_a_receiver_that_never_answers_holds_nobody_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/"
        told = Hooks(Notify.model_validate({"webhook": {"url": url}}), "tiny", {})
        began_s = RealClock().now_s()
        for i in range(500):
            told.tell(0.0, [replace(RAISED, id=f"element_lost/{i}")])
        assert RealClock().now_s() - began_s < 1.0
        assert told.complaint().split()[0] >= "400"
        told.close(0.1)


def test_a_missing_secret_is_named_and_nothing_is_sent_without_it() -> None:
    with web([]) as (url, heard):
        told = Hooks(Notify.model_validate({"webhook": {"url": url, "token_env": "HOOK_TOKEN"}}), "tiny", {})
        told.tell(0.0, [RAISED])
        until(lambda: told.failed == 1)
        assert "the environment has no HOOK_TOKEN" in told.complaint()
        told.close()
    assert heard == []


class Mailbox:
    """What a mail server was sent."""

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], bytes]] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802  (its name there)
        self.mails.append((envelope.rcpt_tos, envelope.content))
        return "250 taken"


def test_a_mail_says_the_cause_first_and_cannot_be_bent_by_a_name() -> None:
    box = Mailbox()
    port = free_port()
    server = Controller(box, hostname="127.0.0.1", port=port)
    server.start()
    try:
        mail = {"host": "127.0.0.1", "port": port, "starttls": False, "sender": "h@site", "to": ["a@site", "b@site"]}
        told = Hooks(Notify.model_validate({"smtp": mail}), "tiny", {})
        told.tell(0.0, [replace(RAISED, text="lost: x\r\nBcc: evil@site"), replace(RAISED, id="shed/site")])
        until(lambda: box.mails)
        told.close()
    finally:
        server.stop()
    ((to, data),) = box.mails
    message = message_from_bytes(data, policy=policy.default)
    assert to == ["a@site", "b@site"]
    assert message["Subject"] == "[tiny] critical: lost: xBcc: evil@site"
    assert message["Bcc"] is None
    assert "unacknowledged (first)  critical  element_lost/feed1" in message.get_content()
    assert "shed/site" in message.get_content()


def test_a_password_never_travels_in_the_clear() -> None:
    mail = {"host": "mail.site", "starttls": False, "user": "h", "sender": "h@site", "to": ["a@site"]}
    with pytest.raises(ValueError, match="in the clear"):
        Notify.model_validate({"smtp": mail})


@pytest.mark.parametrize("text", ["webhook: {url: 'file:///etc/passwd'}", "least: grave", "web: {}", "[1]", "{", "7"])
def test_a_file_that_cannot_be_taken_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "notify.yaml").write_text(text)
    with pytest.raises(ValueError):  # noqa: PT011  (each says something else)
        load(tmp_path)


@pytest.mark.parametrize("kind", ["nats", "mosquitto"])
def test_a_broker_gets_them_with_name_and_password(kind: Kind) -> None:
    if kind == "mosquitto":
        need_program("mosquitto", "mosquitto")
    listener = need_program("mosquitto_sub", "mosquitto-clients")
    with Broker(free_port(), kind, "ann", "secret") as broker:
        login = ["-h", "127.0.0.1", "-p", str(broker.port), "-u", "ann", "-P", "secret"]
        sub = subprocess.Popen(
            ["stdbuf", "-oL", listener, *login, "-t", "headroom/alarms", "-C", "1", "-W", "20", "-d"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert sub.stdout is not None
        for line in sub.stdout:
            if "SUBACK" in line:
                break
        bus = {"host": "127.0.0.1", "port": broker.port, "user": "ann", "password_env": "BUS_PASSWORD"}
        told = Hooks(Notify.model_validate({"mqtt": bus}), "tiny", {"BUS_PASSWORD": "secret"})
        told.tell(0.0, [RAISED])
        got = next(line for line in sub.stdout if line.startswith("{"))
        sub.communicate()
        told.close()
        assert json.loads(got)["alarms"][0]["id"] == "element_lost/feed1"
        with pytest.raises(OSError, match=r"."):
            publish(Endpoint("127.0.0.1", broker.port, "ann", "wrong"), "headroom/alarms", b"{}", 2.0)
    with pytest.raises(OSError, match=r"."):
        publish(Endpoint("127.0.0.1", broker.port), "headroom/alarms", b"{}", 1.0)
