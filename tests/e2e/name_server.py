"""A real name server, NSD, on a loopback port, with the zones of a test.

    with NameServer(directory, {"test": "several MX 10 dead\\nseveral MX 20 good\\ngood A 127.0.0.2\\n"}) as names:
        names.address          # for relay.name_servers
        names.pause()          # no answer any more; names.go_on()

A zone whose text is None is known and cannot be read: SERVFAIL. A zone that is not there: REFUSED.
"""

import os
import signal
import socket
import struct
import subprocess
from pathlib import Path

from appliance import free_port, wait_for

CONF = """\
server:
    ip-address: 127.0.0.1@{port}
    server-count: 1
    username: ""
    chroot: ""
    zonesdir: "{directory}"
    zonelistfile: "{directory}/zone.list"
    xfrdfile: "{directory}/xfrd.state"
    pidfile: ""
    logfile: "{directory}/log"
    database: ""
    hide-version: yes
    do-ip6: no
remote-control:
    control-enable: no
"""


class NameServer:
    """Started and stopped by `with`."""

    def __init__(self, directory, zones, ttl=1):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.ttl = ttl
        self.zones = zones
        self.serial = 0

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def write(self):
        self.serial += 1
        text = CONF.format(port=self.port, directory=self.directory)
        for name, records in self.zones.items():
            text += f'zone:\n    name: "{name}"\n    zonefile: "{name}.zone"\n'
            if records is not None:
                (self.directory / f"{name}.zone").write_text(
                    f"$ORIGIN {name}.\n$TTL {self.ttl}\n"
                    f"@ SOA ns.{name}. hostmaster.{name}. {self.serial} 3600 900 604800 {self.ttl}\n@ NS ns.{name}.\nns A 127.0.0.1\n{records}"
                )
        (self.directory / "nsd.conf").write_text(text)

    def __enter__(self):
        self.write()
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        # A process group of its own, so that its children can be stopped with it.
        self.process = subprocess.Popen(
            ["nsd", "-d", "-c", str(self.directory / "nsd.conf")], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=open(self.directory / "words", "ab"), start_new_session=True,
        )
        wait_for(self.answers, 20, lambda: (self.directory / "words").read_text() + self.log_text())

    def log_text(self):
        log = self.directory / "log"
        return log.read_text(errors="replace") if log.exists() else ""

    def answers(self):
        """Does it answer anything at all?"""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.settimeout(0.2)
            probe.connect(("127.0.0.1", self.port))
            try:
                probe.send(struct.pack(">6H", 4711, 0, 1, 0, 0, 0) + b"\4test\0\0\6\0\1")
                return len(probe.recv(512)) >= 12
            except OSError:
                return False

    def signal(self, number):
        os.killpg(self.process.pid, number)

    def pause(self):
        self.signal(signal.SIGSTOP)

    def go_on(self):
        self.signal(signal.SIGCONT)

    def stop(self):
        if self.process:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
            self.process.wait(timeout=20)
            self.process = None
