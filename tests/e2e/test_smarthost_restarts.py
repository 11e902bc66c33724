"""Real next hops that are stopped, aborted, started and frozen again and again under load: Postfix, and Dovecot by LMTP.

The ledger: what was answered with 250 arrives for every recipient. It arrives twice only where the log says that the reply to
the content was still out when the connection was given up, or was 421, with which Dovecot answers when it is shut down and
has the message already: RFC 1047's window, counted by message and recipient.
"""

import collections
import contextlib
import json
import re
import threading
import time
from dataclasses import dataclass, field

import pytest

from appliance import wait_for
from mail import message
from servers import Dovecot, Postfix
from test_queue import rows
from wire import Wire

# Shorter than the long freeze, longer than the short one.
SHORT_S, LONG_S = 0.4, 2.6
TIMEOUTS = {"handshake_timeout_s": 1, "reply_timeout_s": 1, "block_timeout_s": 1, "content_timeout_s": 1}
RELAY = {"retry_first_s": 1, "retry_max_s": 1, "connections_max": 4, **TIMEOUTS}
CLIENTS = 3
IN_WINDOW = "in the content or before the reply to it"
PHASES = ["connect", "before its greeting", "in EHLO", "in STARTTLS", "TLS handshake", "between messages", "in MAIL, RCPT or DATA", IN_WINDOW]


@dataclass
class Load:
    """Clients that send until `over`; `promised`: the queue ids of what was answered with 250, by tag."""

    server: object
    recipients: list
    promised: dict = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)
    troubles: list = field(default_factory=list)

    def __enter__(self):
        self.threads = [threading.Thread(target=self.client, args=(number,), daemon=True) for number in range(CLIENTS)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join(30)
        assert not self.troubles, self.troubles

    def client(self, number):
        try:
            with Wire(self.server.port["submissions"], tls=True) as wire:
                wire.login()
                count = 0
                while not self.over.is_set():
                    count += 1
                    tag = f"c{number}-{count}"
                    body = b"A line of the message, and then some more.\r\n" * (20_000 if count % 10 == 0 else 20)
                    reply = wire.mail(message(tag, body), recipients=self.recipients)
                    self.promised[tag] = re.search(r"queued as (\w{13})", reply)[1]
                    time.sleep(0.1)
        except Exception as error:
            self.troubles.append(error)


def stop_and_start(*servers):
    for server in servers:
        server.stop()
    for server in servers:
        server.start()


def abort_and_start(*servers):
    for server in servers:
        server.stop("abort")
    for server in servers:
        server.start()


def freeze(seconds, *servers):
    for server in servers:
        server.pause()
    time.sleep(seconds)
    for server in servers:
        server.resume()


def windows(server):
    """How often the reply to the content was out when a connection ended, by queue id and recipient."""
    found = collections.Counter()
    for line in server.log_text().splitlines():
        line = json.loads(line)
        if line["event"] == "deferred" and (IN_WINDOW in line.get("reason", "") or line.get("code") == "421"):
            found[line["queue_id"], line["recipient"]] += 1
    return found


def reconcile(what, server, load, arrivals):
    """`arrivals`: how often each (tag, recipient) came."""
    due = [(tag, recipient) for tag in load.promised for recipient in load.recipients]
    lost = [key for key in due if not arrivals[key]]
    ghosts = [key for key in arrivals if key[0] not in load.promised]
    allowed = windows(server)
    again = {key: count - 1 for key, count in arrivals.items() if count > 1}
    unexplained = [key for key, count in again.items() if count > allowed[load.promised.get(key[0]), key[1]]]
    reasons = re.findall(r'"reason":"((?:[^"\\]|\\.)*)"', server.log_text())
    troubles = {phase: sum(phase in reason for reason in reasons) for phase in PHASES}
    print(f"measured: {what}: {len(due)} deliveries, {len(lost)} lost, {sum(again.values())} twice in {sum(allowed.values())} windows, "
          f"{len(unexplained)} of them unexplained; given up: {troubles}")
    for tag, recipient in [*lost, *unexplained][:5]:
        print(f"{tag} {recipient}:", *[line for line in server.log_text().splitlines() if load.promised[tag] in line], sep="\n")
    assert not lost and not ghosts and not unexplained, (lost[:20], ghosts[:20], unexplained[:20])
    assert len(load.promised) > 50, "a server that takes nothing loses nothing"
    assert sum(troubles.values()) > 0, "nothing happened to it"
    assert '"event":"bounced"' not in server.log_text()


def all_delivered(server):
    wait_for(lambda: time.sleep(0.2) or not rows(server, "list"), 60, lambda: f"still queued: {len(rows(server, 'list'))}")


def by_postfix(*servers):
    """How often each (tag, recipient) was accepted: what Postfix itself delivers again after an abort has the same id of its own."""
    accepted = collections.defaultdict(set)
    for number, postfix in enumerate(servers):
        for content in postfix.maildir.contents():
            tag = re.search(rb"Message-ID: <(.*?)@", content)[1].decode()
            recipient = re.search(rb"X-Original-To: (.*)", content)[1].decode()
            accepted[tag, recipient].add((number, re.search(rb"\(Postfix\) with \w+ id (\w+)", content)[1]))
    return collections.Counter({key: len(ids) for key, ids in accepted.items()})


# covers: 12.5 12.6
@pytest.mark.slow
def test_a_pool_of_postfixes_in_trouble(appliance, directory):
    """One of two, the other, and both at once."""
    # Its own queue is tried again at once, too.
    settings = {"minimal_backoff_time": "1s", "queue_run_delay": "1s", "virtual_destination_concurrency_limit": 2}
    with contextlib.ExitStack() as stack:
        one, two = (stack.enter_context(Postfix(directory / name, settings=settings)) for name in ("one", "two"))
        pool = {"smarthost": [f"127.0.0.1:{one.port}", f"127.0.0.1:{two.port}"], "tls": "required"}
        with appliance(routes=[pool], relay=RELAY) as server:
            with Load(server, ["ben@example.org", "cleo@example.org", "dan@example.net"]) as load:
                freeze(SHORT_S, one)
                freeze(LONG_S, two)
                stop_and_start(one)
                abort_and_start(two)
                freeze(LONG_S, one, two)
                abort_and_start(one, two)
                freeze(SHORT_S, one, two)
                stop_and_start(one, two)
            all_delivered(server)
            due = len(load.promised) * len(load.recipients)
            wait_for(lambda: len(by_postfix(one, two)) >= due, 30, lambda: f"{len(by_postfix(one, two))} of {due} delivered by Postfix")
        reconcile("Postfix", server, load, by_postfix(one, two))


# covers: 12.5 12.6
@pytest.mark.slow
def test_a_dovecot_in_trouble(appliance, directory):
    with Dovecot(directory / "dovecot") as dovecot:
        routes = [{"domains": ["example.edu"], "lmtp": f"127.0.0.1:{dovecot.lmtp_port}"}, {"lmtp": f"unix:{dovecot.lmtp_socket}"}]
        with appliance(routes=routes, relay=RELAY) as server:
            with Load(server, ["ben@example.edu", "cleo@example.edu", "dan@example.org"]) as load:
                freeze(SHORT_S, dovecot)
                stop_and_start(dovecot)
                freeze(LONG_S, dovecot)
                stop_and_start(dovecot)
            all_delivered(server)
        arrivals = collections.Counter()
        for recipient in load.recipients:
            for content in dovecot.maildir(recipient.split("@")[0]).contents():
                arrivals[re.search(rb"Message-ID: <(.*?)@", content)[1].decode(), recipient] += 1
        reconcile("Dovecot", server, load, arrivals)
