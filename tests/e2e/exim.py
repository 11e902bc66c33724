"""A real Exim as next hop, unpacked beside (its Debian package conflicts with Postfix's): it takes all mail, and keeps it in its queue.

The binary wants a user that its package would make; libnss_wrapper shows it one. What it accepted is read from its queue files
(spec, chapter "Format of spool files"): `-H` has the envelope and the header, `-D` the body.
"""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from appliance import ROOT, free_port, wait_for
from servers import SUDO, Server, listens

EXIM = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "beside/usr/sbin/exim4"
USER = "Debian-exim"
UID = 65000  # of nobody else on this machine, and needed only inside


@dataclass
class Queued:
    """A message in Exim's queue."""

    sender: str
    recipients: list
    header: bytes
    body: bytes


class Exim(Server):
    """Accepts any recipient; delivers nothing."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.port = free_port()
        self.process = None
        self.input = self.directory / "spool" / "input"
        self.config = self.directory / "exim.conf"
        for part in (self.directory / "spool", self.directory / "log"):
            part.mkdir(parents=True)
            subprocess.run([*SUDO, "chown", f"{UID}:{UID}", part], check=True, timeout=30)
        # A copy without the set-user-ID bit, or the loader would not preload anything for it.
        self.binary = self.directory / "exim"
        shutil.copyfile(EXIM, self.binary)
        self.binary.chmod(0o755)
        (self.directory / "passwd").write_text(f"root:x:0:0::/:/bin/sh\nmail:x:8:8::/:/bin/false\n{USER}:x:{UID}:{UID}::/:/bin/false\n")
        (self.directory / "group").write_text(f"root:x:0:\nadm:x:4:\nmail:x:8:\n{USER}:x:{UID}:\n")
        self.config.write_text(CONFIG.format(directory=self.directory, port=self.port))

    def start(self):
        names = {"NSS_WRAPPER_PASSWD": self.directory / "passwd", "NSS_WRAPPER_GROUP": self.directory / "group"}
        preload = ["env", "LD_PRELOAD=libnss_wrapper.so", *(f"{key}={value}" for key, value in names.items())]
        with open(self.directory / "words", "ab") as words:
            self.process = subprocess.Popen(
                [*SUDO, *preload, str(self.binary), "-C", str(self.config), "-bdf"],
                stdin=subprocess.DEVNULL, stdout=words, stderr=words,
            )
        wait_for(lambda: self.process.poll() is not None or listens(self.port), 20, self.log_text)
        assert self.process.poll() is None, self.log_text()

    def stop(self):
        self.process.terminate()
        self.process.wait(20)

    def log_text(self):
        files = [self.directory / "words", *self.directory.glob("log/*")]
        return "\n".join(file.read_text(errors="replace") for file in files if file.exists())

    def count(self):
        return len(list(self.input.glob("*-H")))

    def messages(self):
        """Every message that Exim has said 250 to."""
        return [queued(head.read_bytes(), head.with_name(head.name[:-2] + "-D").read_bytes()) for head in self.input.glob("*-H")]

    def wait(self, count, seconds=60):
        wait_for(lambda: self.count() >= count, seconds, lambda: f"{self.count()} of {count} messages:\n{self.log_text()[-3000:]}")
        messages = self.messages()
        assert len(messages) == count, f"{len(messages)} messages instead of {count}"
        return messages


def queued(head, data):
    """Parses the two files of one message."""
    envelope, _, header = head.partition(b"\n\n")
    lines = envelope.decode(errors="replace").split("\n")
    at = next(at for at, line in enumerate(lines) if line.isdigit())
    recipients = [line.split()[0] for line in lines[at + 1 : at + 1 + int(lines[at])]]
    # A header line stands behind its length in decimals, a letter or space for its kind, and a space.
    fields = re.sub(rb"(?m)^\d{3,}[A-Z* ] ", b"", header)
    return Queued(lines[2].strip("<>"), recipients, fields, data.partition(b"\n")[2])


CONFIG = """\
primary_hostname = exim.example.net
exim_path = {directory}/exim
spool_directory = {directory}/spool
log_file_path = {directory}/log/%slog
pid_file_path = {directory}/spool/pid
exim_user = Debian-exim
exim_group = Debian-exim
never_users =
keep_environment =
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
smtp_accept_max = 100
smtp_accept_max_per_connection = 100000
queue_only
host_lookup =
rfc1413_hosts =
tls_advertise_hosts =
chunking_advertise_hosts = *
message_size_limit = 100M
acl_smtp_rcpt = accept
acl_smtp_data = accept
"""
