"""A smarthost that lies about TLS, in its reply to STARTTLS or by its certificate, at each level of a route's `tls`.

The table says how the message goes at last: in the clear, in TLS, or not before the lie is over. While it does not go, and where
it goes in TLS, nothing of it is said in the clear: no sender, no recipient, no password.
"""

import contextlib
import subprocess
import time

import pytest

from appliance import certificate, free_ports, wait_for
from breaking import Breaking, Conversation, Cut, silent
from mail import message
from wire import Wire

LEVELS = ["none", "opportunistic", "required", "verified", "login"]
CLEAR, TLS, WAITS = "clear", "tls", "waits"
NO_TLS = [CLEAR, CLEAR, WAITS, WAITS, WAITS]
ALL_WELL = [CLEAR, TLS, TLS, TLS, TLS]
NO_NAME = [CLEAR, TLS, TLS, WAITS, WAITS]

# The lie, and how a message goes at each level. `login` is `verified`, with a password.
TABLE = {
    "honest": ALL_WELL,
    "offers nothing": NO_TLS,
    "454 4.7.0 TLS not available": NO_TLS,
    "501 5.5.4 No parameters": NO_TLS,
    "502 5.5.1 What?": NO_TLS,
    "421 4.3.2 Not now": [CLEAR, WAITS, WAITS, WAITS, WAITS],
    "354 Go ahead": [CLEAR, WAITS, WAITS, WAITS, WAITS],
    # 220, and then no TLS: hangs up, says nothing, says something else, goes on in the clear.
    "closes": NO_TLS,
    "stalls": NO_TLS,
    "garbage": NO_TLS,
    "alert": NO_TLS,
    "goes on": NO_TLS,
    # What stands in one segment with the 220 was said by whoever sits between (CVE-2011-0411, CVE-2021-38371).
    "injected": ALL_WELL,
    "injected in part": ALL_WELL,
    # What was offered in the clear is forgotten: EHLO again (RFC 3207 section 4.2).
    "other offers": ALL_WELL,
    "wrong name": NO_NAME,
    "expired": NO_NAME,
    "self-signed": NO_NAME,
    "unknown CA": NO_NAME,
}

CA = """\
[ca]
default_ca = this
[this]
database = index
serial = serial
new_certs_dir = .
default_md = sha256
policy = policy
[policy]
commonName = supplied
"""


def certificates(directory):
    """A chain and a key for each certificate that is not to be believed. `directory` has one that is."""
    chain, key, ca = certificate(directory)
    run = lambda *arguments: subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60, cwd=directory)
    (directory / "other").write_text("subjectAltName=DNS:other.example\n")
    run("x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial", "-days", "30",
        "-extfile", "other", "-out", "wrong-name.pem")
    (directory / "ca.conf").write_text(CA)
    (directory / "index").write_text("")
    (directory / "serial").write_text("0100\n")
    run("ca", "-batch", "-notext", "-config", "ca.conf", "-cert", "ca.pem", "-keyfile", "ca-key.pem", "-in", "request.pem",
        "-startdate", "20200101000000Z", "-enddate", "20200201000000Z", "-extfile", "names", "-out", "expired.pem")
    run("req", "-x509", "-key", "key.pem", "-days", "30", "-subj", "/CN=localhost", "-out", "self-signed.pem",
        "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    stranger = directory / "stranger"
    stranger.mkdir(exist_ok=True)
    made = {"wrong name": "wrong-name.pem", "expired": "expired.pem", "self-signed": "self-signed.pem"}
    return {"": (chain, key), "unknown CA": certificate(stranger)[:2], **{lie: (directory / file, key) for lie, file in made.items()}}


class Liar(Breaking):
    """Lies until it repents."""

    def __init__(self, lie, certificates, port):
        super().__init__(tls=certificates.get(lie, certificates[""]), port=port)
        self.lie, self.well = lie, certificates[""]
        self.secured_hellos = 0
        # How each message came.
        self.ways = []

    def repent(self):
        self.lie, self.tls = "honest", self.well

    def talk(self, connection):
        conversation = Lying(self, connection)
        with contextlib.suppress(Cut):
            conversation.run()
        conversation.close()


class Lying(Conversation):
    """One connection to a [`Liar`]."""

    def offered(self):
        if self.secured:
            self.host.secured_hellos += 1
            return super().offered()
        return ["SIZE 10"] if self.host.lie == "other offers" else super().offered()

    def hello(self, command):
        tls = self.host.tls
        self.host.tls = tls if self.host.lie != "offers nothing" else None
        super().hello(command)
        self.host.tls = tls

    def starttls(self, command):
        lie = self.host.lie
        if lie[:3].isdigit():
            return self.say(lie)
        after = {
            "garbage": b"\x00\xff\x16\x03 what is this?\r\n" * 3,
            # A fatal alert: handshake_failure (RFC 8446 section 6.2).
            "alert": b"\x15\x03\x03\x00\x02\x02\x28",
            "injected": b"250-evil.example\r\n250-SIZE 10\r\n250 AUTH PLAIN\r\n235 2.7.0 Known\r\n250 2.1.0 Ok\r\n",
            "injected in part": b"250-evil.example\r\n250-SI",
        }.get(lie, b"")
        # In one segment, as one write.
        self.connection.sendall(b"220 2.0.0 Go\r\n" + after)
        if lie == "closes":
            raise Cut
        if lie in ("stalls", "garbage", "alert"):
            silent(self.connection)
        if lie != "goes on":
            self.handshake()

    def take(self, content):
        self.host.ways.append(TLS if self.secured else CLEAR)
        super().take(content)


class Case:
    """A lie at a level."""

    def __init__(self, lie, level, expected, number, port, made, directory):
        self.name, self.level, self.expected = f"{lie} at {level}", level, expected
        self.tag, self.domain = f"m{number}", f"case{number}.example.org"
        self.host = Liar(lie, made, port)
        self.route = {"domains": [self.domain], "smarthost": f"127.0.0.1:{port}", "tls": "verified" if level == "login" else level}
        if level in ("verified", "login"):
            self.route["ca_file"] = directory / "ca.pem"
        if level == "login":
            self.route |= {"username": "penstock", "password_file": directory / "password"}

    def is_settled(self):
        """Has it gone, or been tried again?"""
        return self.host.connections >= 3 if self.expected == WAITS else self.host.ways

    def wrong(self):
        ways = self.host.ways
        if ways != ([] if self.expected == WAITS else [self.expected]):
            yield f"{self.name}: went {ways}, expected {self.expected}"
        told = [line for line in self.host.clear if any(word in line for word in ("AUTH ", "MAIL FROM", "RCPT TO", "anna@", "ben@"))]
        if told and self.expected != CLEAR:
            yield f"{self.name}: said in the clear: {told}"
        if TLS in ways and not self.host.secured_hellos:
            yield f"{self.name}: no EHLO in TLS"


# covers: 11.2 12.10
@pytest.mark.slow
def test_a_lie_about_tls_gets_no_more_than_the_route_allows(appliance, directory):
    made = certificates(directory)
    (directory / "password").write_text("secret\n")
    relay = {"retry_first_s": 1, "retry_max_s": 1, "handshake_timeout_s": 2, "reply_timeout_s": 2}
    server = appliance(relay={**relay, "paused": True})
    rows = [(lie, level, expected) for lie, ways in TABLE.items() for level, expected in zip(LEVELS, ways)]
    ports = free_ports(len(rows) + len(server.port)) - set(server.port.values())
    cases = [Case(*row, number, port, made, directory) for number, (row, port) in enumerate(zip(rows, ports))]
    with contextlib.ExitStack() as hosts:
        for case in cases:
            hosts.enter_context(case.host)
        server.settings["relay.route"] = [{"maildir": directory / "inbox"}, *(case.route for case in cases)]
        server.settings["relay"]["paused"] = False
        server.write_config()
        with server:
            with Wire(server.port["submissions"], tls=True) as wire:
                wire.login()
                for case in cases:
                    assert wire.mail(message(case.tag), recipients=[f"ben@{case.domain}"]).startswith("250 2.0.0")
            unsettled = lambda: [case.name for case in cases if not case.is_settled()]
            wait_for(lambda: not unsettled(), 60, lambda: f"neither gone nor tried again: {unsettled()}")
            wrong = [text for case in cases for text in case.wrong()]
            # The truth brings what waited, as the route demands it.
            for case in cases:
                case.host.repent()
            late = lambda: [case.name for case in cases if not case.host.ways]
            wait_for(lambda: not late(), 30, lambda: f"never gone: {late()}")
            time.sleep(0.2)
            wrong += [f"{case.name}: went {case.host.ways} at last" for case in cases
                      if case.host.ways != [TLS if case.expected == WAITS else case.expected]]
    assert not wrong, "\n".join(wrong)
    assert not (directory / "inbox").exists() or not list((directory / "inbox").glob("new/*")), "nobody is told of a delivery"
    assert "secret" not in server.log_text()
    print(f"measured: {len(cases)} lies, {sum(case.expected == WAITS for case in cases)} of them kept waiting, 0 lost, 0 twice")
