"""Alarms to people who are not at the console: webhook, mail, MQTT. Off unless notify.yaml says where to.

Each hook is a thread with a short queue: it may be slow or gone, control and the other hooks go on. What it could not
deliver after a few tries is counted and said as an alarm.
"""

import json
import logging
import os
import smtplib
import ssl
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from email.message import EmailMessage
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from controller.alarms.board import Change
from controller.alarms.catalog import PRIORITIES, Priority
from controller.alarms.machine import State
from drivers.mqtt.endpoint import Endpoint
from drivers.mqtt.notice import publish
from drivers.supervise import Outlet

FILE = "notify.yaml"
WAITING = 50  # messages of a hook
WAITS_S = (1.0, 5.0)  # before the second and the third try, the last
TAKES_S = 5.0  # a try
SAME_S = 300.0  # an alarm that is raised again within this time is not sent again
LOCAL = ("127.0.0.1", "::1", "localhost")
log = logging.getLogger(__name__)


class HookModel(BaseModel):
    """Frozen, and a misspelt key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Webhook(HookModel):
    """POST of JSON."""

    url: Annotated[str, Field(pattern=r"^https?://")]
    token_env: str = ""  # name of the environment's variable with a bearer token


class Smtp(HookModel):
    """A mail to some people."""

    host: str
    port: Annotated[int, Field(gt=0, lt=65536)] = 587
    starttls: bool = True
    user: str = ""
    password_env: str = ""
    sender: str
    to: Annotated[tuple[str, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _not_in_the_clear(self) -> Self:
        if self.user and not self.starttls and self.host not in LOCAL:
            raise ValueError("a password would travel in the clear: set starttls, or leave the user out")
        return self


class Mqtt(HookModel):
    """A message to a topic of a broker."""

    host: str
    port: Annotated[int, Field(gt=0, lt=65536)] = 8883
    topic: str = "headroom/alarms"
    ca: str | None = None  # file; none: no TLS
    user: str = ""
    password_env: str = ""


class Notify(HookModel):
    """notify.yaml."""

    least: Priority = "high"  # and all that is graver
    webhook: Webhook | None = None
    smtp: Smtp | None = None
    mqtt: Mqtt | None = None


def load(state: Path) -> Notify:
    """The site's hooks; none without the file. ValueError or OSError where it cannot be read or taken."""
    try:
        text = (state / FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return Notify()
    try:
        return Notify.model_validate(yaml.safe_load(text) or {})
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


class Hooks:
    """All hooks of a site; `tell` never waits."""

    def __init__(self, notify: Notify, site: str, environ: Mapping[str, str] = os.environ) -> None:
        self._notify, self._site = notify, site
        self._closing = threading.Event()
        self._sent: dict[str, float] = {}
        self.failed = 0
        self.problem = ""
        self._said = 0
        sends: list[tuple[str, Callable[[bytes], None]]] = []
        if notify.webhook is not None:
            hook = notify.webhook
            sends.append(("webhook", lambda data: _post(hook, _secret(environ, hook.token_env), data)))
        if notify.smtp is not None:
            mail = notify.smtp
            sends.append(("mail", lambda data: _mail(mail, _secret(environ, mail.password_env), data)))
        if notify.mqtt is not None:
            bus = notify.mqtt
            sends.append(("MQTT", lambda data: _publish(bus, _secret(environ, bus.password_env), data)))
        self._outlets = [self._outlet(name, send) for name, send in sends]

    def tell(self, now_s: float, changes: Sequence[Change]) -> None:
        """Send what was raised or returned, grave enough and not sent just now; one message for all of them."""
        wanted = [c for c in changes if self._outlets and self._wanted(c, now_s)]
        if not wanted:
            return
        data = json.dumps({"site": self._site, "alarms": [asdict(c) for c in wanted]}).encode()
        for outlet in self._outlets:
            outlet.put(data)

    def complaint(self) -> str:
        """What could not be delivered since this was asked last, or nothing."""
        lost = self.failed + sum(o.dropped for o in self._outlets)
        new, self._said = lost - self._said, lost
        return f"{new} messages of alarms not delivered: {self.problem or 'too many at once'}" if new else ""

    def close(self, within_s: float = 2.0) -> None:
        """Send what waits, without further tries."""
        self._closing.set()
        for outlet in self._outlets:
            outlet.close(within_s)

    def _wanted(self, change: Change, now_s: float) -> bool:
        if PRIORITIES.index(self._notify.least) < PRIORITIES.index(_priority(change)):
            return False
        raised = change.now == State.UNACKED and not change.by
        returned = change.now in (State.NORMAL, State.RETURNED) and change.was in (State.UNACKED, State.ACKED)
        if raised:
            if now_s - self._sent.get(change.id, float("-inf")) < SAME_S:
                return False
            self._sent[change.id] = now_s
        return raised or (returned and self._sent.get(change.id) is not None)

    def _outlet(self, name: str, send: Callable[[bytes], None]) -> Outlet[bytes]:
        def tried(data: bytes) -> None:
            for wait_s in (*WAITS_S, None):
                try:
                    return send(data)
                except Exception as error:  # a receiver may answer whatever it likes
                    self.problem = f"{name}: {error}"
                if wait_s is None or self._closing.wait(wait_s):
                    break
            self.failed += 1
            log.warning("alarm not delivered by %s", self.problem)
            return None

        @contextmanager
        def opening() -> Iterator[Callable[[bytes], None]]:
            yield tried

        return Outlet(opening, WAITING)


def _priority(change: Change) -> Priority:
    return next(p for p in PRIORITIES if p == change.priority)


def _secret(environ: Mapping[str, str], name: str) -> str:
    if not name:
        return ""
    if name not in environ:
        raise OSError(f"the environment has no {name}")
    return environ[name]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an error: the token is for the one address that the file names."""

    def redirect_request(self, *_: object, **__: object) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirect)


def _post(hook: Webhook, token: str, data: bytes) -> None:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    request = urllib.request.Request(hook.url, data, headers, method="POST")  # noqa: S310  (http or https, checked)
    with _opener.open(request, timeout=TAKES_S) as answer:
        answer.read(1024)


def _mail(hook: Smtp, password: str, data: bytes) -> None:
    given = json.loads(data)
    first = given["alarms"][0]
    message = EmailMessage()
    message["From"], message["To"] = hook.sender, ", ".join(hook.to)
    subject = f"[{given['site']}] {first['priority']}: {first['text'] or first['id']}"
    message["Subject"] = "".join(c for c in subject if c.isprintable())[:200]
    message.set_content("\n".join(_line(x) for x in given["alarms"]) + "\n")
    with smtplib.SMTP(hook.host, hook.port, timeout=TAKES_S) as server:
        if hook.starttls:
            server.starttls(context=ssl.create_default_context())
        if hook.user:
            server.login(hook.user, password)
        server.send_message(message)


def _publish(hook: Mqtt, password: str, data: bytes) -> None:
    publish(Endpoint(hook.host, hook.port, hook.user or None, password or None, hook.ca), hook.topic, data, TAKES_S)


def _line(alarm: Mapping[str, Any]) -> str:
    mark = " (first)" if alarm["first_out"] else ""
    return f"{alarm['now']}{mark}  {alarm['priority']}  {alarm['id']}: {alarm['text']}"
