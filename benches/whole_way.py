#!/usr/bin/env python3
"""From a client's DATA to the next server's 250: rates, and CPU per message of accepting and of relaying, beside Postfix.

    cargo build --release && benches/whole_way.py [--rounds 5] [--messages 25600] [--size 4096]

penstock-loadgen sends on one processor, the server runs on another, and both relay to `penstock-loadgen sink`, which
notes each message in a file as it comes and shares the client's processor: so a server's rate is that of one processor.
Three rows, Penstock and Postfix in turn in each round:

  accept    Penstock keeps what it accepts (relay.paused), Postfix too (defer_transports)
  relay     what was accepted before is relayed: no client
  together  accepted and relayed at once

CPU is that of all of a server's processes; of Penstock also by thread, from /proc/PID/task. Outcomes are on disk before
the end of a row: both servers' queues are empty then. Postfix gets a sixteenth of the messages, because it takes so
much longer. Needs Debian's postfix and dovecot, root and two processors; takes three minutes.
"""
import argparse
import collections
import contextlib
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import beside_postfix as beside

CONNECTIONS, PER_CONNECTION = 32, 20
PATIENCE = 120
ROUTE = '[[relay.route]]\nsmarthost = "127.0.0.1:{sink}"\ntls = "none"\n'


class Sink:
    """Takes everything, and knows how much came and when."""

    def __init__(self, folder, processor):
        self.ledger = folder / "received"
        self.port = beside.free_port()
        self.process = subprocess.Popen(
            ["taskset", "-c", str(processor), beside.RELEASE / "penstock-loadgen", "sink", "--threads", "1", "--address",
             f"127.0.0.1:{self.port}", "--ledger", self.ledger], stdout=subprocess.DEVNULL)
        beside.wait_for(self.port)
        self.file = open(self.ledger, "rb")
        self.count = 0

    def received(self):
        while piece := self.file.read(1 << 20):
            self.count += piece.count(b"\n")
        return self.count

    def stop(self):
        self.process.terminate()
        self.process.wait(10)


class Watch(threading.Thread):
    """Notes when the first of `wanted` messages came to the sink, and when the last."""

    def __init__(self, sink, wanted):
        super().__init__(daemon=True)
        self.sink, self.before, self.wanted = sink, sink.received(), wanted
        self.first = self.last = None
        self.start()

    def run(self):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            came = self.sink.received() - self.before
            now = time.monotonic()
            if came and self.first is None:
                self.first = now
            if came >= self.wanted:
                self.last = now
                return
            time.sleep(0.002)

    def finished(self, server):
        while self.is_alive():
            self.join(1)
            server.flush()
        if self.last is None:
            came = self.sink.received() - self.before
            sys.exit(f"{server.name}: only {came} of {self.wanted} messages were relayed in {PATIENCE} s")
        return self.last - self.first


class Penstock(beside.Penstock):
    """Stopped and started anew for each row: paused, or not."""

    def __init__(self, folder, sink, processor):
        super().__init__(folder, 1)
        self.processor = processor
        text = self.config.read_text()
        self.head = text[:text.index("[[relay.route]]")].replace("paused = true", "paused = PAUSED")
        self.tail = ROUTE.format(sink=sink.port)

    def begin(self, paused):
        self.config.write_text(self.head.replace("PAUSED", str(paused).lower()) + self.tail)
        self.process = subprocess.Popen(
            ["taskset", "-c", str(self.processor), beside.RELEASE / "penstock", "serve", "--config", self.config],
            stderr=self.log)
        beside.wait_for(self.port)

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self.process = None

    def start(self):
        pass

    def accept_only(self):
        self.begin(paused=True)

    def relay_kept(self):
        """The queue goes out from the start on."""
        self.end()
        self.begin(paused=False)

    def flush(self):
        pass

    def is_empty(self):
        """Are all outcomes on disk?"""
        shown = subprocess.run([beside.RELEASE / "penstock", "queue", "stats", "--json", "--config", self.config],
                               capture_output=True, text=True, check=True).stdout
        return '"messages":0' in shown.replace(" ", "")

    def threads(self):
        """Processor seconds by thread; a worker of a ring counts for the thread whose ring it is."""
        tasks, seconds = {}, collections.Counter()
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            with contextlib.suppress(OSError):
                tasks[task.name] = ((task / "comm").read_text().strip(), int((task / "schedstat").read_text().split()[0]))
        for name, nanoseconds in tasks.values():
            if name.startswith("iou-wrk-"):
                name = tasks.get(name.removeprefix("iou-wrk-"), (name, 0))[0]
            seconds[name.partition("-")[0]] += nanoseconds / 1e9
        return seconds


class Postfix(beside.Postfix):
    def __init__(self, folder, sink, processor):
        super().__init__(folder)
        self.processor = processor
        with open(self.folder / "main.cf", "a") as main:
            main.write(f"relayhost = [127.0.0.1]:{sink.port}\nsmtp_tls_security_level = none\n")
        with open(self.folder / "master.cf", "a") as master:
            # Without it nobody believes that the mail system is up.
            master.write("pickup unix n - n 60 1 pickup\n")
        # All of its processes inherit this one's processor.
        self.command = ["taskset", "-c", str(processor)]

    def start(self):
        subprocess.run([*self.command, "postfix", "-c", self.folder, "start"], check=True, capture_output=True)
        self.dovecot = subprocess.Popen([*self.command, "dovecot", "-F", "-c", self.folder / "dovecot.conf"])
        beside.wait_for(self.port)
        self.master = int((self.folder / "queue/pid/master.pid").read_text())

    def keep(self, transports):
        for command in (["postconf", "-c", self.folder, "-e", f"defer_transports = {transports}"],
                        ["postfix", "-c", self.folder, "reload"]):
            subprocess.run(command, check=True, capture_output=True)
        time.sleep(1)

    def begin(self, paused):
        self.keep("smtp, relay" if paused else "")

    def end(self):
        pass

    def accept_only(self):
        self.begin(paused=True)

    def relay_kept(self):
        self.begin(paused=False)
        self.flush()

    def flush(self):
        """What was deferred by a process that had not heard of the change goes with the next."""
        subprocess.run(["postqueue", "-c", self.folder, "-f"], check=True)

    def is_empty(self):
        queue = self.folder / "queue"
        kept = (path for name in ("incoming", "active", "deferred") for path in (queue / name).rglob("*"))
        return not any(path.is_file() for path in kept)

    def threads(self):
        return collections.Counter()


class Measured:
    """One server in one row: all rounds."""

    def __init__(self):
        self.figures = collections.defaultdict(list)

    def add(self, **figures):
        for name, value in figures.items():
            self.figures[name].append(value)

    def median(self, name):
        return statistics.median(self.figures[name])

    def spread(self, name):
        values = self.figures[name]
        return f"{min(values):.0f}-{max(values):.0f}"


def load(server, messages, size):
    """Returns the rate at which the server accepted."""
    done = subprocess.run(
        ["taskset", "-c", "1", beside.RELEASE / "penstock-loadgen", "run", "--address", f"127.0.0.1:{server.port}",
         "--connections", str(CONNECTIONS), "--messages-per-connection", str(PER_CONNECTION), "--messages",
         str(messages), "--size", str(size)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"loadgen against {server.name} failed:\n{done.stdout}{done.stderr}")
    first = done.stdout.split("\n", 1)[0]
    return float(first.split(": ")[1].split(" messages/s")[0].replace(",", ""))


class Meter:
    """What a server uses from here on, per message in microseconds."""

    def __init__(self, server, messages):
        self.server, self.messages = server, messages
        self.cpu, self.by_thread = server.cpu(), server.threads()

    def figures(self):
        each = 1e6 / self.messages
        by_thread = self.server.threads() - self.by_thread
        figures = {name: seconds * each for name, seconds in by_thread.items()}
        return {**figures, "cpu": (self.server.cpu() - self.cpu) * each}


def wait_until_empty(server):
    deadline = time.monotonic() + PATIENCE
    while not server.is_empty():
        if time.monotonic() > deadline:
            sys.exit(f"{server.name} still has messages")
        time.sleep(0.2)


def one_round(server, sink, messages, size, rows):
    """All three rows of one server."""
    server.accept_only()
    meter = Meter(server, messages)
    rate = load(server, messages, size)
    rows["accept", server.name].add(rate=rate, **meter.figures())

    watch = Watch(sink, messages)
    server.relay_kept()
    meter = Meter(server, messages)
    seconds = watch.finished(server)
    wait_until_empty(server)
    if server.name == "penstock":
        # A new process, which began before the meter did: all of its time counts.
        meter.by_thread.clear()
        meter.cpu = 0
    rows["relay", server.name].add(rate=messages / seconds, **meter.figures())

    meter, watch = Meter(server, messages), Watch(sink, messages)
    begun = time.monotonic()
    accepted = load(server, messages, size)
    watch.finished(server)
    seconds = watch.last - begun
    wait_until_empty(server)
    rows["together", server.name].add(rate=messages / seconds, accepted=accepted, **meter.figures())
    server.end()


def report(rows):
    print(f"{'':10} {'':9} {'messages/s':>10} {'':>13} {'CPU us/message':>15}")
    for (row, name), measured in rows.items():
        line = f"{row:10} {name:9} {measured.median('rate'):10.0f} {measured.spread('rate'):>13} {measured.median('cpu'):15.1f}"
        threads = sorted(set(measured.figures) - {"rate", "cpu", "accepted"}, key=lambda name: -measured.median(name))
        parts = [f"{name} {measured.median(name):.1f}" for name in threads if measured.median(name) >= 0.5]
        if "accepted" in measured.figures:
            parts.insert(0, f"accepted at {measured.median('accepted'):.0f}")
        print(line, " ", ", ".join(parts))
    for row in ("accept", "relay", "together"):
        ratio = rows[row, "postfix"].median("cpu") / rows[row, "penstock"].median("cpu")
        print(f"{row}: postfix / penstock = {ratio:.1f} in CPU")
    ratio = rows["relay", "penstock"].median("rate") / rows["accept", "penstock"].median("rate")
    print(f"penstock relays at {ratio:.2f} of the rate at which it accepts, each on one processor", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=25600)
    parser.add_argument("--size", type=int, default=4096)
    options = parser.parse_args()
    target = beside.ROOT / "target"
    with tempfile.TemporaryDirectory(prefix="whole-way-", dir=target, ignore_cleanup_errors=True) as folder:
        compare(options, pathlib.Path(folder))


def compare(options, folder):
    folder.chmod(0o755)
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-days", "2", "-subj", "/CN=localhost", "-keyout", folder / "key.pem", "-out",
                    folder / "cert.pem"], check=True, capture_output=True)
    rows = collections.defaultdict(Measured)
    with contextlib.ExitStack() as running:
        sink = Sink(folder, 1)
        running.callback(sink.stop)
        servers = [Penstock(folder, sink, 0), Postfix(folder, sink, 0)]
        for server in servers:
            running.callback(server.stop)
            server.start()
        print(f"{options.rounds} rounds in turn, {options.messages} messages of {options.size} octets a row")
        for _ in range(options.rounds):
            for server in servers:
                messages = options.messages if server.name == "penstock" else options.messages // 16
                one_round(server, sink, messages, options.size, rows)
    report(dict(sorted(rows.items(), key=lambda item: ["accept", "relay", "together"].index(item[0][0]))))


if __name__ == "__main__":
    main()
