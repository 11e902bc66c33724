"""The ledger: what a server under load promised with `250`, held against what arrived, over many kills.

    clients --SMTP--> Penstock --SMTP, LMTP or a Maildir--> arrivals
       |                  ^                                    |
       | 250: promised    | kill -9 at a random moment,        | every recipient of every promise, whole,
       v                  | start again                        v and nothing that was not sent
     ledger ------------------------------------------------> reconcile

A message's tag names it, and its content follows from the tag and the seed alone, so that whatever arrives can be held
against what was sent, octet by octet. For each message the ledger knows how far it came:

    begun      sent in part                        must never arrive
    unanswered the final dot was sent, no reply    may arrive, but only whole
    promised   250                                 must arrive, for every recipient

A second delivery is allowed only where the first was in flight at a kill: it went out in the life that a kill ended, and
its outcome could not yet be durable (RFC 1047). So: never twice in one life; never after a life that ended in order; and as
outcomes become durable in the order of the deliveries, only the last ones of each connection: what is delivered again had
nothing behind it that is not.

By hand: `python tests/e2e/ledger.py --rounds 1000 --seed 7 --route lmtp`.
"""

import argparse
import collections
import random
import shutil
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from appliance import LISTENERS, Penstock, wait_for
from fakes import Sink
from mail import Maildir, lf
from wire import Wire

CLIENTS = 4
CONNECTIONS_MAX = 8
LIFE_S = (0.02, 0.30)
PATIENCE_S = 15


def content_of(seed, tag):
    """The whole message that `tag` names."""
    chance = random.Random(f"{seed}/{tag}")
    size = chance.choices([chance.randrange(0, 4_000), chance.randrange(4_000, 40_000), chance.randrange(70_000, 300_000)],
                          [80, 17, 3])[0]
    line = bytes(chance.choices(b"abcdefghijklmnop .", k=72))
    body = b"".join(b"%08d %s\r\n" % (at, line) for at in range(size // 83))
    head = f"From: anna@example.edu\r\nSubject: {tag}\r\nDate: Mon, 21 Sep 2026 09:00:00 +0100\r\nMessage-ID: <{tag}@ledger>\r\n"
    return head.encode() + b"\r\n.a dot\r\n" + body + b"end\r\n"


def recipients_of(tag):
    """One recipient mostly, three for every seventh message."""
    number = int(tag.rsplit("-", 1)[1])
    return [f"{tag}.{index}@example.edu" for index in range(3 if number % 7 == 0 else 1)]


def tag_of(recipient):
    return recipient.split("@")[0].rsplit(".", 1)[0]


@dataclass
class Ledger:
    seed: int
    promised: dict = field(default_factory=dict)  # tag -> life
    unanswered: set = field(default_factory=set)
    begun: set = field(default_factory=set)
    # recipient -> the lives in which it was delivered to, in their order
    arrivals: dict = field(default_factory=lambda: collections.defaultdict(list))
    damaged: list = field(default_factory=list)
    ghosts: list = field(default_factory=list)
    refusals: collections.Counter = field(default_factory=collections.Counter)
    orderly: set = field(default_factory=set)  # lives that ended with SIGTERM
    # The recipients of each connection, in the order of their deliveries; a Maildir's life is one.
    streams: dict = field(default_factory=lambda: collections.defaultdict(list))
    kills: int = 0
    damage_logged: list = field(default_factory=list)  # a kill damages nothing, so there is nothing to log
    lock: threading.Lock = field(default_factory=threading.Lock)

    def arrived(self, life, recipients, content, connection=None):
        """`connection`: which, within its life."""
        for recipient in recipients:
            tag = tag_of(recipient)
            with self.lock:
                self.streams[life, connection].append(recipient)
                if not lf(content).endswith(lf(content_of(self.seed, tag))):
                    self.damaged.append((tag, content[:300]))
                if tag in self.begun or tag not in self.promised and tag not in self.unanswered:
                    self.ghosts.append(tag)
                self.arrivals[recipient].append(life)

    def missing(self):
        with self.lock:
            return [recipient for tag in self.promised for recipient in recipients_of(tag) if recipient not in self.arrivals]

    def reconcile(self):
        """What is wrong, as text; empty if nothing is."""
        wrong = [f"lost: {recipient} (promised in life {self.promised[tag_of(recipient)]})" for recipient in self.missing()]
        wrong += [f"damaged: {tag}: {start!r}" for tag, start in self.damaged]
        wrong += [f"never sent whole, but arrived: {tag}" for tag in self.ghosts]
        wrong += [f"the server says: {line}" for line in self.damage_logged]
        repeated = collections.Counter()
        for recipient, lives in self.arrivals.items():
            for first, second in zip(lives, lives[1:]):
                if first == second:
                    wrong.append(f"delivered twice in one life: {recipient} (lives {lives})")
                elif first in self.orderly:
                    wrong.append(f"delivered again after a life that ended in order: {recipient} (lives {lives})")
                else:
                    repeated[first] += 1
        wrong += [line for (life, _), recipients in self.streams.items() for line in self.out_of_turn(life, recipients)]
        self.repeated = repeated
        return wrong

    def out_of_turn(self, life, recipients):
        """`recipients` of one connection: what came again later, although the outcome of a delivery behind it was durable."""
        again = [max(self.arrivals[recipient]) > life for recipient in recipients]
        if all(again):
            return []
        kept = max(at for at, came_again in enumerate(again) if not came_again)
        # One message's recipients have one outcome record, and their order is nothing.
        return [f"delivered again, and {recipients[kept]} behind it was not: {recipient} (life {life})"
                for recipient, came_again in zip(recipients[:kept], again)
                if came_again and tag_of(recipient) != tag_of(recipients[kept])]

    def summary(self):
        repeated = sorted(self.repeated.values())
        return (f"seed {self.seed}: {self.kills} kills, {len(self.promised)} promised, {len(self.unanswered)} unanswered, {len(self.begun)} begun, "
                f"{sum(map(len, self.arrivals.values()))} arrivals, {len(self.missing())} lost, {len(self.damaged)} damaged, "
                f"{sum(repeated)} delivered again after a kill (at most {repeated[-1] if repeated else 0} after one), "
                f"refusals {dict(self.refusals)}")


class Load:
    """Clients that send as fast as they are answered, and go on through every kill. `first`: above all numbers in tags of
    those before."""

    def __init__(self, ledger, server, life=0, first=0):
        self.ledger, self.server = ledger, server
        self.life, self.first = life, first
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.client, args=(number,), daemon=True) for number in range(CLIENTS)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join(30)
            assert not thread.is_alive(), "a client hangs"

    def client(self, number):
        count = self.first
        while not self.over.is_set():
            if not self.server.is_up():
                time.sleep(0.02)
                continue
            try:
                with self.connection(number) as wire:
                    for _ in range(20):
                        if self.over.is_set():
                            break
                        count += 1
                        self.send(wire, f"c{number}-{count}", abandon=count % 50 == 49)
            except (OSError, AssertionError):
                time.sleep(0.005)  # It was killed, or is not up yet.

    def connection(self, number):
        """One client of four uses TLS and AUTH."""
        if number == 0:
            wire = Wire(self.server.port["submissions"], tls=True)
            wire.login()
        else:
            wire = Wire(self.server.port["smtp"])
            wire.say("EHLO client.example", "250")
        return wire

    def send(self, wire, tag, abandon):
        ledger = self.ledger
        recipients = recipients_of(tag)
        envelope = "".join(f"RCPT TO:<{recipient}>\r\n" for recipient in recipients)
        with ledger.lock:
            ledger.begun.add(tag)
        wire.send(f"MAIL FROM:<anna@example.edu>\r\n{envelope}DATA\r\n")
        replies = [wire.reply() for _ in range(2 + len(recipients))]
        assert replies[-1], "the connection ended"
        if not replies[-1].startswith("354"):
            reply = next(reply for reply in replies if not reply.startswith("250"))
            with ledger.lock:
                ledger.refusals[reply] += 1
            time.sleep(0.01)  # It will not be better at once.
            return
        content = content_of(ledger.seed, tag).replace(b"\r\n.", b"\r\n..")
        if abandon:
            wire.send(content[: len(content) // 2])
            wire.close()
            raise OSError("abandoned on purpose")
        wire.send(content)
        with ledger.lock:
            ledger.begun.discard(tag)
            ledger.unanswered.add(tag)
        wire.send(b".\r\n")
        reply = wire.reply()
        with ledger.lock:
            if reply.startswith("250 2.0.0"):
                ledger.unanswered.discard(tag)
                ledger.promised[tag] = self.life
            elif reply:
                ledger.refusals[reply] += 1
        assert reply, "the connection ended"


class LedgerSink(Sink):
    """Puts what arrives into the ledger, under the life in which its connection began."""

    def __init__(self, ledger, **settings):
        super().__init__(keep=self.arrived, **settings)
        self.ledger = ledger
        self.life = 0
        self.local = threading.local()

    def talk(self, connection):
        self.local.life = self.life
        self.local.connection = object()
        super().talk(connection)

    def arrived(self, _, __, recipients, content):
        self.ledger.arrived(self.local.life, recipients, content, self.local.connection)


class LedgerMaildir:
    """Puts what is in a Maildir into the ledger; deliveries of one life are counted when it has ended."""

    def __init__(self, ledger, path):
        self.ledger, self.maildir, self.life = ledger, Maildir(path), 0
        self.seen = set()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def look(self, life):
        # It is written by one thread, one file after the other.
        for file in sorted(self.maildir.files(), key=lambda file: file.stat().st_mtime_ns):
            if file.name not in self.seen:
                self.seen.add(file.name)
                content = file.read_bytes()
                recipient = content.split(b"Delivered-To: ", 1)[1].split(b"\n", 1)[0].strip(b"\r <>").decode()
                self.ledger.arrived(life, [recipient], content)


def run(directory, rounds, seed, io="auto", route="smtp", binary=None, environment=None, patience=PATIENCE_S, paused=0.12,
        life_s=LIFE_S, promised_min=0, orderly=0.05, make=Penstock):
    """Kills the server so many times; the ledger when all is delivered that ever will be.

    `paused` is the share of lives in which everything is kept, so that the next one finds a long backlog; `orderly` the
    share of those that end with SIGTERM; `life_s` begins when so many promises were made. `make`: what is killed; tests/power has a whole machine.
    """
    ledger = Ledger(seed)
    chance = random.Random(seed)
    maildir = Path(directory) / "inbox"
    arrivals = LedgerMaildir(ledger, maildir) if route == "maildir" else LedgerSink(ledger, lmtp=route == "lmtp")
    target = {
        "smtp": lambda: {"smarthost": f"127.0.0.1:{arrivals.port}", "tls": "none"},
        "lmtp": lambda: {"lmtp": f"127.0.0.1:{arrivals.port}"},
        "maildir": lambda: {"maildir": maildir},
    }[route]()
    listeners = [listener for listener in LISTENERS if listener[0] in ("submissions", "smtp")]
    server = make(
        Path(directory) / "penstock", io=io, routes=[target], listeners=listeners, binary=binary, environment=environment,
        spool={"segment_mib": 2, "spill_kib": 64}, relay={"connections_max": CONNECTIONS_MAX},
    )
    look = arrivals.look if route == "maildir" else lambda life: None
    with arrivals:
        try:
            with Load(ledger, server) as load:
                for life in range(rounds):
                    load.life = arrivals.life = life
                    server.settings["relay"]["paused"] = chance.random() < paused
                    server.write_config()
                    before = len(ledger.promised)
                    server.start()
                    wait_for(lambda: len(ledger.promised) >= before + promised_min, 120, "nothing is promised")
                    time.sleep(chance.uniform(*life_s))
                    if chance.random() < orderly:
                        ledger.orderly.add(life)
                        server.stop()
                    else:
                        server.kill()
                        ledger.kills += 1
                    time.sleep(0.01)  # What is in the sink's sockets is of this life.
                    look(life)
            deliver_the_rest(server, ledger, arrivals, rounds, look, patience)
            nothing_comes_twice(server, ledger, arrivals, rounds + 1, look)
        finally:
            server.kill()
    server.no_panic()
    ledger.damage_logged = [line for line in server.log_text().splitlines() if "damaged" in line]
    return ledger


def deliver_the_rest(server, ledger, arrivals, life, look, patience):
    """One more life, without load, until all promises are kept or nothing more happens."""
    arrivals.life = life
    ledger.orderly.add(life)
    server.settings["relay"]["paused"] = False
    server.write_config()
    server.start()
    progress, last = time.monotonic(), -1
    while ledger.missing() and time.monotonic() < progress + patience:
        time.sleep(0.1)
        look(life)
        if len(ledger.arrivals) != last:
            progress, last = time.monotonic(), len(ledger.arrivals)
    time.sleep(0.5)  # Whatever is unanswered may still come.
    server.stop()
    look(life)


def nothing_comes_twice(server, ledger, arrivals, life, look):
    """What is done stays done: a life after all is delivered delivers nothing that was delivered before."""
    arrivals.life = life
    server.start()
    time.sleep(1)
    server.stop()
    look(life)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--io", default="auto")
    parser.add_argument("--route", default="smtp", choices=["smtp", "lmtp", "maildir"])
    parser.add_argument("--binary", type=Path)
    parser.add_argument("--keep", action="store_true", help="keep the directory, which is kept anyway when something is wrong")
    options = parser.parse_args()
    directory = tempfile.mkdtemp(prefix="penstock-ledger-")
    print(f"seed {options.seed}, {directory}", flush=True)
    ledger = run(directory, options.rounds, options.seed, options.io, options.route, options.binary)
    wrong = ledger.reconcile()
    print(ledger.summary())
    print("\n".join(wrong[:40]))
    if not wrong and not options.keep:
        shutil.rmtree(directory)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
