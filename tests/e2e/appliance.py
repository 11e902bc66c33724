"""One Penstock process: its configuration, its ports, its log, its end.

    with Penstock(directory) as server:              # a certificate, two users, every kind of listener, a Maildir behind
        server.port["submission"]                    # 587: STARTTLS required, AUTH required
        server.maildir.wait(1)

The process is the real binary, on loopback, and is stopped with SIGTERM; `stop` holds that it exits with 0 and that its
log shows no panic. Only processes started here are ever signalled.
"""

import os
import random
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import argon2

from mail import Maildir

ROOT = Path(__file__).resolve().parents[2]
BINARIES = Path(os.environ.get("PENSTOCK_BINARIES", ROOT / "target/e2e-bin")).resolve()
PENSTOCK = BINARIES / "penstock"
START_S = 20
STOP_S = 20

USERS = {"anna": "sesame", "ben": "open up, please"}

# Name, role, tls: every kind of listener there is.
LISTENERS = [
    ("submission", "submission", "required"),
    ("submissions", "submission", "implicit"),
    ("smtp", "smtp", "offered"),
    ("smtps", "smtp", "implicit"),
]


def free_port():
    """A loopback port nobody listens on, below the range that clients' sockets are given."""
    while True:
        port = random.SystemRandom().randrange(10_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def free_ports(count):
    """So many of them, no two the same."""
    ports = set()
    while len(ports) < count:
        ports.add(free_port())
    return ports


def cheap_hash(password):
    """argon2id at its least cost."""
    return argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(password)


def write_users(path, users):
    """Replaces the users file as an editor does: a new file, renamed."""
    new = path.with_suffix(".new")
    new.write_text("".join(f"{name}:{cheap_hash(password)}\n" for name, password in users.items()))
    new.rename(path)


def certificate(directory):
    """A CA and a certificate for localhost and 127.0.0.1; made once per directory."""
    chain, key, ca = directory / "certificate.pem", directory / "key.pem", directory / "ca.pem"
    if not chain.exists():
        run = lambda *arguments: subprocess.run(
            ["openssl", *arguments], check=True, capture_output=True, timeout=60, cwd=directory
        )
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30"]
        run("req", "-x509", *curve, "-subj", "/CN=Penstock test CA", "-keyout", "ca-key.pem", "-out", "ca.pem",
            "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")
        run("req", *curve, "-subj", "/CN=localhost", "-keyout", "key.pem", "-out", "request.pem")
        (directory / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
        run("x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial",
            "-days", "30", "-extfile", "names", "-out", "leaf.pem")
        chain.write_bytes((directory / "leaf.pem").read_bytes() + ca.read_bytes())
    return chain, key, ca


def toml(value):
    """A value in TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def toml_file(settings):
    """Sections of a configuration: {"": {..}, "spool": {..}, "listener": [{..}, ..], "relay.route": [{..}]}."""
    lines = []
    for section, content in settings.items():
        for keys in content if isinstance(content, list) else [content]:
            if section:
                lines.append(f"\n[[{section}]]" if isinstance(content, list) else f"\n[{section}]")
            lines += [f"{key} = {toml(value)}" for key, value in keys.items() if value is not None]
    return "\n".join(lines) + "\n"


class Penstock:
    """A configured server; `start`ed by `with`."""

    def __init__(self, directory, io="auto", routes=None, listeners=LISTENERS, binary=None, environment=None, **changes):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.binary = binary or PENSTOCK
        self.environment = {**os.environ, **(environment or {})}
        self.process = None
        self.config = self.directory / "penstock.toml"
        self.users = self.directory / "users"
        self.log = self.directory / "log"
        self.maildir = Maildir(self.directory / "maildir")
        self.port = dict(zip((name for name, _, _ in listeners), free_ports(len(listeners))))
        chain, key, self.ca = certificate(self.directory)
        write_users(self.users, USERS)
        self.settings = {
            "": {
                "hostname": "localhost",
                "io": io,
                "cores": 2,
                "local_domains": ["example.edu"],
                "trusted_networks": None,
            },
            "spool": {
                "directory": self.directory / "spool",
                "segment_mib": 4,
                "spill_kib": 64,
                "reserve_mib": 16,
            },
            "tls": {"certificate": chain, "key": key},
            # Every client here has the same address, and most that give a wrong password mean something else by it;
            # test_brakes.py and test_users.py take this away.
            "auth": {"users_file": self.users, "domain": "example.edu", "cache_s": 600,
                     "brake_exempt_networks": ["127.0.0.0/8", "::1"], "failure_delay_ms": 0},
            "limits": {"connections_per_core": 500, "drain_s": 10, "connections_exempt_networks": ["127.0.0.0/8"]},
            "log": {"format": "json"},
            "listener": [
                {"name": name, "address": f"127.0.0.1:{self.port[name]}", "role": role, "tls": tls}
                for name, role, tls in listeners
            ],
            "relay": {"retry_first_s": 1, "retry_max_s": 2},
            "relay.route": routes or [{"maildir": self.maildir.path}],
        }
        for section, keys in changes.items():
            self.settings[{"top": ""}.get(section, section)].update(keys)
        self.write_config()

    def write_config(self):
        self.config.write_text(toml_file(self.settings))

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.stop()
        else:
            self.kill()
            print(f"--- {self.log}\n{self.log_text()[-4000:]}")

    def spawn(self, *wrapper):
        """Starts the process without waiting for it to listen. `wrapper`: a command in front of it."""
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*map(str, wrapper), str(self.binary), "serve", "--config", str(self.config)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment, cwd=self.directory,
            )

    def start(self, *wrapper):
        before = self.times_ready()
        self.spawn(*wrapper)
        deadline = time.monotonic() + START_S
        for port in self.port.values():
            while not self.answers(port):
                assert self.process.poll() is None, f"it ended at start:\n{self.log_text()[-3000:]}"
                assert time.monotonic() < deadline, f"nothing listens on {port}:\n{self.log_text()[-3000:]}"
                time.sleep(0.005)
        # The kernel may let a process that was killed a moment ago answer for a while: its ring goes later.
        says_so = "level" not in self.settings["log"]
        while says_so and self.times_ready() == before:
            assert self.process.poll() is None, f"it ended at start:\n{self.log_text()[-3000:]}"
            assert time.monotonic() < deadline, f"it is never ready:\n{self.log_text()[-3000:]}"
            time.sleep(0.005)

    def times_ready(self):
        return len(re.findall(r'"event":"ready"|^\S+ info +ready$', self.log_text(), re.MULTILINE))

    def is_up(self):
        """May clients try? Here always: that nobody listens costs them nothing."""
        return True

    def answers(self, port):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return True
        except OSError:
            return False

    def stop(self, with_signal=signal.SIGTERM):
        """Ends it in order: exit status 0, no panic."""
        self.process.send_signal(with_signal)
        self.ended()

    def ended(self):
        """Waits for its end after a signal, and holds it to its promises."""
        try:
            status = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"it did not end within {STOP_S} s:\n{self.log_text()[-3000:]}") from None
        assert status == 0, f"exit status {status}:\n{self.log_text()[-3000:]}"
        self.no_panic()

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
        if self.process:
            self.process.wait(10)

    def no_panic(self):
        assert not panics(self.log_text()), panics(self.log_text())

    def log_text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def wait_log(self, pattern, seconds=15, times=1):
        """Waits until the log has `pattern` so many times."""
        wait_for(lambda: len(re.findall(pattern, self.log_text())) >= times, seconds,
                 lambda: f"no {pattern!r} in the log:\n{self.log_text()[-4000:]}")

    def reload(self):
        self.process.send_signal(signal.SIGHUP)

    def hands(self, *arguments, stdin=None):
        """Runs another `penstock` command; the finished process."""
        return subprocess.run(
            [str(self.binary), *map(str, arguments)], input=stdin, capture_output=True, text=True, timeout=60,
            env=self.environment, cwd=self.directory, start_new_session=True,
        )


def panics(log):
    """Lines that tell of a panic: the panic's own, or a counter of them that is not 0."""
    return [line for line in log.splitlines() if "panicked at" in line or re.search(r'_panicked"?[=:]"?[1-9]', line)]


def wait_for(condition, seconds, complaint):
    """Waits until `condition()`; every test is bounded in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, complaint() if callable(complaint) else complaint
        time.sleep(0.02)
