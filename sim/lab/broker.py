"""An MQTT broker of our own on loopback: nats-server from PyPI, or Mosquitto where a test asks for it."""

import ctypes
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from drivers.clock import RealClock

READY_S = 10.0
PR_SET_PDEATHSIG = 1
STOP_S = 5.0
CONNECT = bytes.fromhex("101000044d515454040200050004") + b"test"  # MQTT 3.1.1 CONNECT, clean session, id "test"
Kind = Literal["nats", "mosquitto"]


@dataclass(frozen=True)
class Tls:
    """Files of a broker that speaks TLS only, and only with clients whose certificate `ca` has signed."""

    ca: Path
    cert: Path
    key: Path


class BrokerError(RuntimeError):
    """The broker cannot run; the message says what to do."""


class Broker:
    """A broker process for `with`: MQTT 3.1.1 on 127.0.0.1:`port`, its data in a folder that goes with it.

    Loopback only. With `username` and `password` no one else gets in. `port` 0 takes a free one. `kill` and
    `start` again are a broker's crash and return; what it had stored survives, as on a real machine.
    """

    def __init__(
        self,
        port: int = 0,
        kind: Kind = "nats",
        username: str | None = None,
        password: str | None = None,
        tls: Tls | None = None,
    ) -> None:
        if (username is None) != (password is None):
            raise BrokerError("give both username and password, or neither")
        self.kind, self.username, self.password, self.tls = kind, username, password, tls
        self.port = port or free_port()
        self._clock = RealClock()
        self._folder = Path(tempfile.mkdtemp(prefix="headroom-broker-"))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process is not None else None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        """Start and wait until it answers; BrokerError when the port is taken, the program is missing or it dies."""
        if self._process is not None:
            return
        self._refuse_taken_port()
        command = self._command()
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us: the broker goes last
                preexec_fn=_die_with_parent,  # noqa: PLW1509  (one system call, no lock)
            )
        try:
            self._wait_ready()
        except BaseException:
            self.kill()
            raise

    def revive(self) -> bool:
        """Start it again if it has died by itself; whether it had. BrokerError as `start`."""
        if self._process is None or self._process.poll() is None:
            return False
        self._process = None
        self.start()
        return True

    def stop(self) -> None:
        """End it in order, by force after a while."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _refuse_taken_port(self) -> None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", self.port))
            except OSError as error:
                raise BrokerError(
                    f"MQTT port {self.port} on 127.0.0.1 is taken ({error.strerror}): stop the other broker "
                    f"(`ss -ltnp 'sport = :{self.port}'` shows it) or give another port"
                ) from None

    def _command(self) -> list[str]:
        config = self._folder / "broker.conf"
        if self.kind == "nats":
            config.write_text(self._nats_config(), encoding="utf-8")
            return [str(nats_server()), "-c", str(config)]
        program = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin:/opt/homebrew/sbin")
        if program is None:
            raise BrokerError("mosquitto is not installed: apt-get install mosquitto")
        config.write_text(self._mosquitto_config(program), encoding="utf-8")
        return [program, "-c", str(config)]

    def _nats_config(self) -> str:
        user = ""
        if self.username is not None:
            user = f'authorization {{ user: "{_plain(self.username)}", password: "{_plain(self.password)}" }}\n'
        tls = ""
        if self.tls is not None:
            files = f'ca_file: "{self.tls.ca}", cert_file: "{self.tls.cert}", key_file: "{self.tls.key}"'
            tls = f", tls {{ {files}, verify: true }}"
        return (
            # MQTT needs JetStream and a server name; the NATS port itself is ours alone and any free one.
            f'server_name: headroom\nhost: "127.0.0.1"\nport: -1\n{user}'
            f'jetstream {{ store_dir: "{self._folder}/jetstream", max_mem: 256MB, max_file: 2GB }}\n'
            f'mqtt {{ host: "127.0.0.1", port: {self.port}{tls} }}\n'
        )

    def _mosquitto_config(self, program: str) -> str:
        text = f"listener {self.port} 127.0.0.1\nset_tcp_nodelay true\nuser root\n"
        text += f"persistence true\npersistence_location {self._folder}/\n"
        if self.tls is not None:
            text += (
                f"cafile {self.tls.ca}\ncertfile {self.tls.cert}\nkeyfile {self.tls.key}\nrequire_certificate true\n"
            )
        if self.username is None:
            return text + "allow_anonymous true\n"
        passwords = self._folder / "passwords"
        maker = Path(program).with_name("mosquitto_passwd")
        tool = str(maker) if maker.exists() else "mosquitto_passwd"
        if ":" in self.username:
            raise BrokerError("a username may not hold a colon")
        passwords.touch(mode=0o600)
        passwords.write_text(f"{_plain(self.username)}:{_plain(self.password)}\n", encoding="utf-8")
        # Hashed in place: a password among a program's arguments could be read by every user of the machine.
        subprocess.run([tool, "-U", str(passwords)], check=True, capture_output=True)  # noqa: S603
        return text + f"allow_anonymous false\npassword_file {passwords}\n"

    def _wait_ready(self) -> None:
        if not self._poll(self._answers):
            tail = (self._folder / "log").read_text(errors="replace").strip().splitlines()[-5:]
            raise BrokerError(f"{self.kind} broker on port {self.port} does not answer: " + " | ".join(tail))

    def _poll(self, good: Callable[[], bool]) -> bool:
        """Ask every 50 ms until good, dead or too late."""
        until_s = self._clock.now_s() + READY_S
        while self._clock.now_s() < until_s:
            assert self._process is not None
            if good():
                return True
            try:
                self._process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
            return False
        return False

    def _answers(self) -> bool:
        """Whether it answers a CONNECT with a CONNACK (a refusal for lack of a password is an answer too)."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2.0) as link:
                if self.tls is not None:
                    return True  # it listens; only a client with a certificate would be answered
                link.sendall(CONNECT)
                return link.recv(4)[:1] == b"\x20" or self.username is not None
        except OSError:
            return False


def _die_with_parent() -> None:
    """In the child: the broker ends with us even when we are killed (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def nats_server() -> Path:
    """The nats-server that pip installed; BrokerError when it is not there."""
    program = Path(sysconfig.get_path("scripts")) / "nats-server"
    if not program.exists():
        raise BrokerError(f"{program} is missing: run `make setup`, or pip install 'headroom-dc[sim]'")
    return program


def free_port() -> int:
    """A TCP port on loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _plain(text: str | None) -> str:
    if text is None or any(c in '"\\\n' for c in text):
        raise BrokerError("username and password may not hold quotes, backslashes or line ends")
    return text
