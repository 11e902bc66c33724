#!/usr/bin/env python3
"""CPU per accepted durable message: Penstock beside Postfix, the same load, in turn, in one run.

Both servers listen on loopback, sync every message before their 250, and keep what they accept: Postfix defers every
transport, Penstock runs with `relay.paused = true`. Counted is the processor time of all of a server's processes.

    cargo build --release && benches/beside_postfix.py [--rounds 5] [--messages 6400] [--cores 1]

Needs Debian's postfix (smtp-source drives the plain rows) and dovecot (Postfix's passwords); run as root. Everything
lives in a temporary folder under target/ and stops with the script.
"""
import argparse
import contextlib
import os
import pathlib
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
RELEASE = ROOT / "target/release"
TICK = os.sysconf("SC_CLK_TCK")
USER, PASSWORD = "anna", "correct horse"

MAIN_CF = """
compatibility_level = 3.6
queue_directory = {queue}
data_directory = {data}
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = {folder}/mail.log
maillog_file_prefixes = {folder}
myhostname = postfix.test
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
# Keep what is accepted, as Penstock does with relay.paused.
defer_transports = smtp, relay, local, lmtp
smtpd_tls_cert_file = {folder}/cert.pem
smtpd_tls_key_file = {folder}/key.pem
smtpd_tls_security_level = may
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = private/auth
smtpd_tls_auth_only = yes
# The load is one address; these brakes are not what is measured.
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtputf8_enable = no
alias_maps =
alias_database =
"""

MASTER_CF = """
127.0.0.1:{port} inet n - n - 200 smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""

DOVECOT = """
base_dir = {folder}/dovecot
state_dir = {folder}/dovecot
log_path = {folder}/dovecot.log
protocols =
ssl = no
auth_mechanisms = plain login
service auth {{
  unix_listener {queue}/private/auth {{
    mode = 0660
    user = postfix
    group = postfix
  }}
}}
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {folder}/passwords
}}
userdb {{
  driver = static
  args = uid=65534 gid=65534 home=/tmp
}}
"""

PENSTOCK = """
hostname = "penstock.test"
cores = {cores}
local_domains = ["local.test"]
trusted_networks = ["127.0.0.0/8"]
[spool]
directory = "{folder}/spool"
[tls]
certificate = "{folder}/cert.pem"
key = "{folder}/key.pem"
[auth]
users_file = "{folder}/users"
[[listener]]
name = "smtp"
address = "127.0.0.1:{port}"
role = "smtp"
tls = "offered"
[relay]
paused = true
[[relay.route]]
maildir = "{folder}/maildir"
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port, seconds=20):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=2) as probe:
                if probe.recv(3) == b"220":
                    return
        except OSError:
            pass
        time.sleep(0.05)
    sys.exit(f"no server answers on port {port}")


def stat_of(pid):
    """Parent, and processor time in ticks: its own and its reaped children's, user and system."""
    text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    fields = text[text.rindex(")") + 2:].split()
    return int(fields[1]), sum(int(value) for value in fields[11:15])


class Server:
    """A server, and the processor time of its process tree in seconds. What `start` has begun when it fails, `stop` ends."""

    def cpu(self):
        children, times = {}, {}
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    parent, times[int(entry.name)] = stat_of(int(entry.name))
                except (OSError, ValueError):
                    continue
                children.setdefault(parent, []).append(int(entry.name))
        total, stack = 0, [pid for pid in self.pids() if pid in times]
        while stack:
            pid = stack.pop()
            total += times[pid]
            stack.extend(children.get(pid, []))
        return total / TICK


class Penstock(Server):
    name = "penstock"
    process = None

    def __init__(self, folder, cores):
        self.port = free_port()
        config = folder / "penstock.toml"
        config.write_text(PENSTOCK.format(folder=folder, port=self.port, cores=cores))
        if not (RELEASE / "penstock").exists():
            sys.exit("target/release/penstock is missing: run `cargo build --release` first")
        (folder / "users").touch(0o600)
        subprocess.run([RELEASE / "penstock", "user", "add", "--config", config, USER], input=PASSWORD + "\n",
                       text=True, check=True, capture_output=True)
        self.config, self.log = config, open(folder / "penstock.log", "w")

    def start(self):
        self.process = subprocess.Popen([RELEASE / "penstock", "serve", "--config", self.config], stderr=self.log)
        wait_for(self.port)

    def pids(self):
        return [self.process.pid]

    def stop(self):
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)
        self.log.close()


class Postfix(Server):
    name = "postfix"
    dovecot = None

    def __init__(self, folder):
        self.port = free_port()
        self.folder = folder / "postfix"
        queue, data = self.folder / "queue", self.folder / "data"
        queue.mkdir(parents=True)
        data.mkdir()
        shutil.chown(data, "postfix", "postfix")
        for name in ("cert.pem", "key.pem"):
            shutil.copy(folder / name, self.folder)
        values = dict(folder=self.folder, queue=queue, data=data, port=self.port)
        (self.folder / "main.cf").write_text(MAIN_CF.format(**values))
        (self.folder / "master.cf").write_text(MASTER_CF.format(**values))
        (self.folder / "passwords").write_text(f"{USER}:{PASSWORD}\n")
        (self.folder / "dovecot.conf").write_text(DOVECOT.format(**values))

    def start(self):
        subprocess.run(["postfix", "-c", self.folder, "start"], check=True, capture_output=True)
        self.dovecot = subprocess.Popen(["dovecot", "-F", "-c", self.folder / "dovecot.conf"])
        wait_for(self.port)
        self.master = int((self.folder / "queue/pid/master.pid").read_text())

    def pids(self):
        return [self.master, self.dovecot.pid]

    def stop(self):
        subprocess.run(["postfix", "-c", self.folder, "stop"], check=False, capture_output=True)
        if self.dovecot:
            self.dovecot.terminate()
            self.dovecot.wait(10)


def smtp_source(server, messages, connections):
    """Batches of 20 messages per connection; `-d` keeps the connections within a batch."""
    batch = connections * 20
    for _ in range(messages // batch):
        subprocess.run(["smtp-source", "-d", "-s", str(connections), "-m", str(batch), "-l", "4096", "-f",
                        "a@example.org", "-t", "b@example.org", f"127.0.0.1:{server.port}"], check=True)
    return messages // batch * batch


def loadgen(server, folder, messages, connections, per_connection, tls_and_auth):
    command = [RELEASE / "penstock-loadgen", "run", "--address", f"127.0.0.1:{server.port}", "--connections",
               str(connections), "--messages-per-connection", str(per_connection), "--messages", str(messages),
               "--size", "4096"]
    if tls_and_auth:
        command += ["--tls", "starttls", "--user", USER, "--password-file", folder / "password"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"loadgen against {server.name} failed:\n{done.stdout}{done.stderr}")
    return messages


def measure(server, load):
    before, started = server.cpu(), time.monotonic()
    messages = load(server)
    return (server.cpu() - before) * 1000 / messages, messages / (time.monotonic() - started)


def row(title, servers, load, rounds):
    for server in servers:
        load(server)
    figures = {server.name: [] for server in servers}
    for _ in range(rounds):
        for server in servers:
            figures[server.name].append(measure(server, load))
    medians = {name: statistics.median(cpu for cpu, _ in values) for name, values in figures.items()}
    print(title)
    for name, values in figures.items():
        cpu = sorted(value for value, _ in values)
        rate = statistics.median(rate for _, rate in values)
        print(f"  {name:9} {medians[name]:.3f} CPU s per 1000 messages (min {cpu[0]:.3f}, max {cpu[-1]:.3f}), "
              f"{rate:.0f} messages/s")
    print(f"  postfix / penstock = {medians['postfix'] / medians['penstock']:.1f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=6400)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--cores", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="beside-postfix-", dir=ROOT / "target", ignore_cleanup_errors=True) as folder:
        compare(options, pathlib.Path(folder))


def compare(options, folder):
    # Postfix's unprivileged processes must be able to reach their folder.
    folder.chmod(0o755)
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-days", "2", "-subj", "/CN=localhost", "-keyout", folder / "key.pem", "-out",
                    folder / "cert.pem"], check=True, capture_output=True)
    (folder / "password").write_text(PASSWORD + "\n")
    messages, connections = options.messages, options.connections
    servers = [Penstock(folder, options.cores), Postfix(folder)]
    # Whatever fails, all that was started is stopped.
    with contextlib.ExitStack() as running:
        for server in servers:
            running.callback(server.stop)
            server.start()
        print(f"{options.rounds} rounds in turn, {messages} messages a round, penstock on {options.cores} core(s)")
        row(f"smtp-source, plain, 4 KiB, {connections} connections, 20 per connection", servers,
            lambda server: smtp_source(server, messages, connections), options.rounds)
        row(f"penstock-loadgen, plain, 4 KiB, {connections} connections, 20 per connection", servers,
            lambda server: loadgen(server, folder, messages, connections, 20, False), options.rounds)
        row(f"penstock-loadgen, STARTTLS + AUTH, 4 KiB, {connections} connections, 1 per connection", servers,
            lambda server: loadgen(server, folder, messages // 4, connections, 1, True), options.rounds)
    totals = re.findall(r"\b(?:durable_writes|records|messages_accepted)=\S+", (folder / "penstock.log").read_text())
    print("penstock's own counters:", " ".join(totals))


if __name__ == "__main__":
    main()
