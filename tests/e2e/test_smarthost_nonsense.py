"""A next hop whose replies are slow, huge, endless, wrong, too many or full of control characters: once, and then it is well.

What it says costs no more than one connection: nothing is lost, nothing comes again that was answered, nobody is refused for a
reply that was another's, and the log shows what was said without a control character.
"""

import contextlib
import json
import time

import pytest

from appliance import free_ports, wait_for
from breaking import Breaking, Conversation, Cut, instead, says
from mail import Maildir, message
from test_queue import rows
from test_smarthost_breaks import RELAY
from wire import Wire

PIPELINING, ONE_BY_ONE = ("PIPELINING", "8BITMIME"), ("8BITMIME",)
LONG = b"x" * 100_000 + b"\r\n"
# A title for the terminal, a colour, a bell, NUL, a lone CR, and an octet that is no UTF-8.
UGLY = b"\x1b]0;evil\x07 \x1b[31mred \x00\x07 \rInjected: field\xff"
ENDLESS_BYTES_MAX = 30_000_000


def endless(line):
    """A fault: a reply that never ends. How much of it was taken is in `endless.taken`."""
    def fault(connection):
        connection.settimeout(20)
        try:
            for _ in range(ENDLESS_BYTES_MAX // len(line) // 1000):
                connection.sendall(line * 1000)
                fault.bytes += len(line) * 1000
        finally:
            connection.close()
        raise Cut
    fault.bytes = 0
    return fault


# A step and what is said there.
TABLE = [
    ("connect", says(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
    ("connect", says(b"\x00\x01\x02\xff\xfe" * 30 + b"\r\n")),
    ("connect", says(b"220 " + LONG)),
    ("connect", endless(b"220-more and more\r\n")),
    ("connect", endless(b"no end of a line")),
    ("connect", says(b"220-a\r\n221 two codes\r\n")),
    # One greeting too many.
    ("banner", says(b"220 once more\r\n")),
    ("hello", instead(b"999 what\r\n")),
    ("hello", instead(b"2 5 0\r\n")),
    ("hello", instead(b"250-" + LONG + b"250 SIZE\r\n")),
    ("hello", endless(b"250-X-EXTENSION\r\n")),
    ("hello", instead(b"354 go\r\n")),
    ("mail", instead(b"354 go\r\n")),
    ("mail", instead(b"450-" + UGLY + b"\r\n450 4.3.0 " + UGLY + b"\r\n")),
    ("mail", says(b"250 2.1.0 one too many\r\n")),
    ("rcpt-1", instead(b"354 go\r\n")),
    ("rcpt-1", instead(b"450 4.2.1 " + UGLY + b"\r\n")),
    ("rcpt-1", instead(b"250 " + LONG)),
    ("rcpt-2", says(b"250 2.1.5 one too many\r\n")),
    ("rcpt-2", says(b"550 5.1.1 one too many\r\n")),
    ("rcpt-3", endless(b"250-more\r\n")),
    ("data", instead(b"250 2.0.0 taken, without a look at it\r\n")),
    ("data", instead(b"220 hello\r\n")),
    ("data", says(b"354 go\r\n")),
    ("data", says(b"250 2.0.0 one too many\r\n")),
    ("354", says(b"250 2.0.0 taken, without a look at it\r\n")),
    ("body", says(b"250 2.0.0 I have seen enough\r\n")),
    ("dot", instead(b"354 and then?\r\n")),
    ("dot", instead(b"\xff\xff\xff\r\n")),
    ("dot", instead(b"451 4.3.0 " + UGLY + b"\r\n")),
    ("taken", endless(b"250-more\r\n")),
    # It is in RFC 1047's window for whom cannot read it.
    ("taken", instead(b"250 " + LONG)),
    ("replied", says(b"250 2.0.0 and again\r\n")),
    ("replied", says(b"421 4.3.2 enough\r\n")),
    ("replied", says(b"\x00\x1b nonsense\r\n")),
    ("drip", None),
]
CASES = [(step, fault, offers) for step, fault in TABLE for offers in (PIPELINING, ONE_BY_ONE)]


class Drip:
    """A socket that sends octet by octet."""

    def __init__(self, connection):
        self.connection = connection

    def __getattr__(self, name):
        return getattr(self.connection, name)

    def sendall(self, data):
        for octet in data:
            self.connection.sendall(bytes([octet]))
            time.sleep(0.0005)


class Dripping(Breaking):
    def talk(self, connection):
        self.fired = 1
        with contextlib.suppress(Cut):
            Conversation(self, Drip(connection)).run()


class Case:
    """A row: two messages to three recipients, of whom the first is refused."""

    def __init__(self, number, port):
        self.step, self.fault, offers = CASES[number]
        self.name = f"{number}: {self.step}, {'pipelined' if offers is PIPELINING else 'one by one'}"
        kind = Dripping if self.step == "drip" else Breaking
        self.host = kind(self.step, self.fault, offers=offers, refuses={"a": "550 5.1.1 Nobody here"}, port=port)
        self.recipients = [f"{local}@case{number}.example.org" for local in "abc"]
        self.tags = [f"first{number}", f"second{number}"]
        self.route = {"domains": [f"case{number}.example.org"], "smarthost": f"127.0.0.1:{port}", "tls": "none"}

    def wrong(self, reports):
        """What is wrong, as text."""
        host = self.host
        if host.fired != 1:
            yield f"{self.name}: nothing was said"
        for tag in self.tags:
            for recipient in self.recipients[1:]:
                # One reply too many before the end of the content may stand where the answer to it is awaited.
                astray = tag == self.tags[0] and self.step in ("data", "354", "body")
                count, most = host.taken[tag, recipient], 1 + host.windows[tag, recipient] + astray
                if not 1 <= count <= most:
                    yield f"{self.name}: {tag} came to {recipient} {count} times, expected 1 to {most}"
            told = [[local for local in self.recipients if f"Final-Recipient: rfc822; {local}" in report]
                    for report in reports if f"<{tag}@" in report]
            if told != [self.recipients[:1]]:
                yield f"{self.name}: the sender of {tag} is told that it failed for {told}"


# covers: 11.2 12.5 12.6 12.11
@pytest.mark.slow
def test_nonsense_costs_a_connection_and_no_mail(appliance, directory):
    inbox = Maildir(directory / "inbox")
    server = appliance(relay={**RELAY, "paused": True})
    ports = free_ports(len(CASES) + len(server.port)) - set(server.port.values())
    cases = [Case(number, port) for number, port in zip(range(len(CASES)), ports)]
    with contextlib.ExitStack() as hosts:
        for case in cases:
            hosts.enter_context(case.host)
        server.settings["relay.route"] = [{"maildir": inbox.path}, *(case.route for case in cases)]
        server.write_config()
        with server, Wire(server.port["submissions"], tls=True) as wire:
            wire.login()
            for case in cases:
                for tag in case.tags:
                    content = message(tag, b"A line of the message, and then some more.\r\n" * 100)
                    assert wire.mail(content, recipients=case.recipients).startswith("250 2.0.0")
        server.settings["relay"]["paused"] = False
        server.write_config()
        with server:
            missing = lambda: [case.name for case in cases if len(case.host.taken) < 4]
            wait_for(lambda: not missing(), 60, lambda: f"not delivered: {missing()}")
            wait_for(lambda: time.sleep(0.2) or not rows(server, "list"), 20, lambda: f"still queued: {rows(server, 'list')}")
    reports = [report.decode() for report in inbox.contents()]
    wrong = [text for case in cases for text in case.wrong(reports)]
    assert not wrong, "\n".join(wrong)
    taken = [fault.bytes for _, fault, _ in CASES if hasattr(fault, "bytes")]
    assert max(taken) < ENDLESS_BYTES_MAX, f"it listened to {taken}"
    for line in server.log_text().splitlines():
        said = "".join(map(str, json.loads(line).values()))
        # A reply of several lines is one text.
        assert all(character >= " " or character == "\n" for character in line + said), repr(line)
    assert not any("\x1b" in report or "\nInjected:" in report for report in reports)
    print(f"measured: {len(cases)} kinds of nonsense, {4 * len(cases)} deliveries, 0 lost, "
          f"{sum(sum(case.host.taken.values()) - 4 for case in cases)} twice")
