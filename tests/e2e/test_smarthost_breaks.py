"""A next hop breaks off, at each step and in each way: nothing is lost, and only what it had taken unanswered comes twice.

One server, and for each row of the table a next hop of its own with a domain of its own: two messages to three recipients
each. Everything is accepted first, so that the second message follows on the first one's connection.
"""

import contextlib
import re
import time

import pytest

from appliance import free_ports, wait_for
from breaking import Breaking, close, deaf, half_close, reset, silent
from mail import Maildir, message
from test_queue import rows
from wire import Wire

TIMEOUTS = {"handshake_timeout_s": 2, "reply_timeout_s": 2, "block_timeout_s": 2, "content_timeout_s": 2}
RELAY = {"connections_max": 1, "retry_first_s": 1, "retry_max_s": 1, **TIMEOUTS}
WAYS = [reset, close, half_close, silent]
PIPELINING, ONE_BY_ONE, BINARY = ("PIPELINING", "8BITMIME"), ("8BITMIME",), ("PIPELINING", "8BITMIME", "CHUNKING", "BINARYMIME")
LOCAL_PARTS = ("a", "b", "c")

# Kind of next hop, its EHLO, the steps at which it breaks off, who of the three gets the first message twice, and who is refused
# for good.
TABLE = [
    ("smtp", PIPELINING, ["connect", "half-banner", "banner", "hello", "half-hello"], ""),
    ("smtp", PIPELINING, ["mail", "rcpt-1", "rcpt-2", "data", "354", "body", "dot"], ""),
    ("smtp", ONE_BY_ONE, ["mail", "rcpt-2", "data"], ""),
    ("smtp", PIPELINING, ["taken", "half-reply"], "abc"),
    # Between transactions, and at the end.
    ("smtp", PIPELINING, ["replied", "quit"], ""),
    ("login", PIPELINING, ["starttls", "handshake", "secured", "auth", "authenticated", "354", "quit"], ""),
    ("login", PIPELINING, ["taken", "half-reply"], "abc"),
    ("binary", BINARY, ["bdat", "half-chunk", "dot"], ""),
    ("binary", BINARY, ["taken", "half-reply"], "abc"),
    ("lmtp", PIPELINING, ["hello", "rcpt-3", "body", "dot", "replied"], ""),
    # It has taken all; whom it has answered for does not get it again.
    ("lmtp", PIPELINING, ["taken", "half-reply"], "abc"),
    ("lmtp", PIPELINING, ["reply-2"], "bc"),
    ("lmtp", PIPELINING, ["reply-3"], "c"),
    ("smtp", ONE_BY_ONE, ["rcpt-2", "data", "dot"], "", "a"),
    ("smtp", PIPELINING, ["rcpt-3", "dot"], "", "a"),
    ("smtp", PIPELINING, ["taken"], "bc", "a"),
    ("lmtp", PIPELINING, ["reply-2"], "c", "a"),
]
CASES = [(kind, offers, step, way, *who) for kind, offers, steps, *who in TABLE for step in steps for way in WAYS]
# Its window is closed in the midst of a large message.
CASES.append(("smtp", PIPELINING, "body", deaf, ""))


class Case:
    """A row: its next hop, its domain and its route."""

    def __init__(self, number, port, directory, certificate):
        self.kind, self.offers, self.step, self.way, self.twice, self.refused = (*CASES[number], "")[:6]
        self.name = f"{self.kind} {self.step} {self.way.__name__}"
        self.domain = f"case{number}.example.org"
        tls = certificate[:2] if self.kind == "login" else None
        self.host = Breaking(self.step, self.way, lmtp=self.kind == "lmtp", offers=self.offers, tls=tls, port=port)
        self.host.refuses = {local: "550 5.1.1 Nobody here" for local in self.refused}
        self.recipients = [f"{local}@{self.domain}" for local in LOCAL_PARTS]
        self.taken = [recipient for recipient in self.recipients if recipient[0] not in self.refused]
        self.tags = [f"first{number}", f"second{number}"]
        smarthost = {"smarthost": f"127.0.0.1:{self.host.port}", "tls": "verified" if tls else "none"}
        login = {"username": "penstock", "password_file": directory / "password", "ca_file": certificate[2]} if tls else {}
        target = {"lmtp": f"127.0.0.1:{self.host.port}"} if self.kind == "lmtp" else {**smarthost, **login}
        self.route = {"domains": [self.domain], **target}

    def submit(self, wire):
        for tag in self.tags:
            body = b"A line of the message, and then some more.\r\n" * (200_000 if self.way is deaf else 50)
            content = message(tag, body, b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n"
                              if self.kind == "binary" else b"")
            if self.kind != "binary":
                assert wire.mail(content, recipients=self.recipients).startswith("250 2.0.0")
                continue
            wire.say("MAIL FROM:<anna@example.edu> BODY=BINARYMIME", "250")
            for recipient in self.recipients:
                wire.say(f"RCPT TO:<{recipient}>", "250")
            wire.send(b"BDAT %d LAST\r\n" % len(content) + content)
            wire.expect("250 2.0.0")

    def wrong(self, reports):
        """What is wrong, as text. `reports`: the notifications."""
        host = self.host
        expected = {(tag, recipient): 1 for tag in self.tags for recipient in self.taken}
        expected |= {(self.tags[0], recipient): 2 for recipient in self.taken if recipient[0] in self.twice}
        again = {key for key, count in expected.items() if count == 2}
        if host.fired != 1:
            yield f"{self.name}: the fault did not happen"
        if dict(host.taken) != expected:
            yield f"{self.name}: {dict(host.taken)} was taken, expected {expected}"
        if set(host.windows) != again:
            yield f"{self.name}: unanswered was {dict(host.windows)}, expected {again}"
        for tag in self.tags:
            failed = [re.findall("Final-Recipient: rfc822; ?(.*)", report) for report in reports if f"<{tag}@" in report]
            if failed != [[f"{local}@{self.domain}"] for local in self.refused]:
                yield f"{self.name}: the sender of {tag} is told that it failed for {failed}"


# covers: 6.11 11.2 12.5 12.6
@pytest.mark.slow
def test_it_breaks_off_at_each_step(appliance, directory):
    (directory / "password").write_text("secret\n")
    inbox = Maildir(directory / "inbox")
    server = appliance(relay={**RELAY, "paused": True})
    certificate = (server.directory / "certificate.pem", server.directory / "key.pem", server.ca)
    ports = free_ports(len(CASES) + len(server.port)) - set(server.port.values())
    cases = [Case(number, port, directory, certificate) for number, port in zip(range(len(CASES)), ports)]
    with contextlib.ExitStack() as hosts:
        for case in cases:
            hosts.enter_context(case.host)
        server.settings["relay.route"] = [{"maildir": inbox.path}, *(case.route for case in cases)]
        server.write_config()
        with server, Wire(server.port["submissions"], tls=True) as wire:
            wire.login()
            for case in cases:
                case.submit(wire)
        began = time.monotonic()
        server.settings["relay"]["paused"] = False
        server.write_config()
        with server:
            missing = lambda: [case.name for case in cases if len(case.host.taken) < 2 * len(case.taken)]
            wait_for(lambda: not missing(), 60, lambda: f"not delivered: {missing()}")
            wait_for(lambda: time.sleep(0.2) or not rows(server, "list"), 20, lambda: f"still queued: {rows(server, 'list')}")
        # What is done stays done.
        starts = lambda: re.findall(r'"relay started".*"queued":"(\d+)"', server.log_text())
        before = len(starts())
        with server:
            wait_for(lambda: starts()[before:] == ["0"], 20, lambda: f"queued at each start: {starts()}")
    reports = [report.decode() for report in inbox.contents()]
    wrong = [text for case in cases for text in case.wrong(reports)]
    assert not wrong, "\n".join(wrong)
    assert len(reports) == 2 * sum(bool(case.refused) for case in cases), "nobody is told of what was delivered at last"
    deliveries = sum(2 * len(case.taken) for case in cases)
    twice = sum(count for case in cases for count in case.host.windows.values())
    print(f"measured: {len(cases)} cuts, {deliveries} deliveries, 0 lost, {twice} twice, all of them taken and not answered; "
          f"{time.monotonic() - began:.1f} s")
