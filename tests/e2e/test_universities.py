"""The five example configurations, each started and used as the university's page tells its users to.

Only paths, ports and destinations are replaced; all that says who may send where stays as it is printed.
"""

import re

import pytest

from appliance import Penstock, free_port, write_users
from clients import CLIENTS, Sending
from mail import added_fields, lf, message
from wire import Wire, plain

DENIED = "550 5.7.1 Relaying denied. Authentication required."
STARTTLS_FIRST = "530 5.7.0 Must issue a STARTTLS command first"


class University(Penstock):
    """`penstock config example NAME`, moved into a directory."""

    def __init__(self, directory, name, domain, io, users=None, networks=None):
        super().__init__(directory, io=io)
        text = self.hands("config", "example", name).stdout
        assert f"tls = " in text
        text = text.replace("/var/lib/penstock/spool", str(self.directory / "spool")).replace("/etc/penstock", str(self.directory))
        text = text.replace('self_signed = true\n', '')
        self.port = {}

        def moved(match):
            port = int(match[1])
            assert port not in self.port
            self.port[port] = free_port()
            return f'address = "127.0.0.1:{self.port[port]}"'

        text = re.sub(r'address = "0\.0\.0\.0:(\d+)"', moved, text)
        text = re.sub(r'^(smarthost|lmtp) = .*$', f'maildir = "{self.maildir.path}"', text, flags=re.M)
        text = re.sub(r'(maildir = .*\n)tls = .*\n', r'\1', text)
        if networks is not None:
            text, count = re.subn(r'^trusted_networks = .*$', f"trusted_networks = {networks}", text, flags=re.M)
            assert count == 1
        # What any machine here has: two cores, few descriptors, less free disk than a mail server.
        text = text.replace("[spool]\n", "[spool]\nsegment_mib = 4\nreserve_mib = 16\n")
        text = f'io = "{io}"\ncores = 2\n' + text.replace("[limits]\n", "[limits]\nconnections_per_core = 200\n")
        self.config.write_text(text)
        write_users(self.users, users or {f"anna@{domain}": "sesame"})
        self.domain = domain

    def write_config(self):
        if not self.config.exists():
            super().write_config()

    def send(self, client, port, tls, tag, **changes):
        """Sends as the page says; whether the program says that it went, and what it printed."""
        sending = Sending(self.port[port], tls, self.ca, message(tag), directory=self.directory,
                          **{"user": f"anna@{self.domain}", "sender": f"anna@{self.domain}", **changes})
        return CLIENTS[client](sending)

    def sends(self, client, port, tls, tag, **changes):
        taken, words = self.send(client, port, tls, tag, **changes)
        assert taken, words[-3000:]
        added_fields(lf(message(tag)), self.maildir.find(f"<{tag}@"))


@pytest.fixture
def university(directory, io):
    made = []

    def make(name, domain, **changes):
        made.append(University(directory / name, name, domain, io, **changes))
        return made[-1]

    yield make
    for server in made:
        server.kill()


CLIENT_NAMES = list(CLIENTS)


def refuses_plain_text_logins(server, port):
    """No AUTH offered, and none taken, before TLS."""
    with Wire(server.port[port]) as wire:
        assert "AUTH" not in wire.say("EHLO client.example", "250")
        wire.send(f"AUTH PLAIN {plain('anna', 'sesame')}\r\n")
        assert wire.reply()[:9] in ("538 5.7.1", "530 5.7.0")
        wire.send("AUTH LOGIN\r\n")
        assert wire.reply()[:3] in ("538", "530"), "no 334 invites the password"


def wants_starttls(server, port):
    with Wire(server.port[port]) as wire:
        wire.say("EHLO client.example", "250")
        assert wire.say("MAIL FROM:<anna@example.edu>", "530") == STARTTLS_FIRST


def wants_auth(server, port, tls):
    with Wire(server.port[port], tls=tls == "implicit") as wire:
        if tls == "starttls":
            wire.starttls()
        wire.say("EHLO client.example", "250")
        assert wire.say("MAIL FROM:<anna@example.edu>", "530") == "530 5.7.0 Authentication required"


def test_bristol(university):
    """STARTTLS and AUTH on 25 and on 587, with the university user name, from anywhere."""
    with university("bristol", "bristol.ac.uk") as server:
        assert set(server.port) == {25, 587}
        for port in server.port:
            for client in CLIENT_NAMES:
                server.sends(client, port, "starttls", f"{client}-{port}", user="anna")
            server.sends("curl", port, "starttls", f"full-{port}", mechanism="LOGIN")
            wants_starttls(server, port)
            wants_auth(server, port, "starttls")
            refuses_plain_text_logins(server, port)
            taken, words = server.send("curl", port, "starttls", "wrong", password="wrong")
            assert not taken and "535" in words


def test_alberta(university):
    """587 with STARTTLS, 465 for programs that only speak TLS from the first byte; AUTH and TLS both required."""
    with university("alberta", "cs.ualberta.ca") as server:
        assert set(server.port) == {587, 465}
        for client in CLIENT_NAMES:
            server.sends(client, 587, "starttls", f"{client}-587")
            server.sends(client, 465, "implicit", f"{client}-465")
        wants_starttls(server, 587)
        wants_auth(server, 587, "starttls")
        wants_auth(server, 465, "implicit")
        refuses_plain_text_logins(server, 587)


def test_simon_fraser(university):
    """25 and 465, AUTH only once TLS is up; who is not authenticated or not encrypted reaches local recipients only."""
    with university("simon-fraser", "sfu.ca", networks="[]") as server:
        assert set(server.port) == {25, 465}
        for client in CLIENT_NAMES:
            server.sends(client, 25, "starttls", f"{client}-25")
            server.sends(client, 465, "implicit", f"{client}-465")
        refuses_plain_text_logins(server, 25)
        for tls, port in (("none", 25), ("starttls", 25), ("implicit", 465)):
            with Wire(server.port[port], tls=tls == "implicit") as wire:
                if tls == "starttls":
                    wire.starttls()
                wire.say("EHLO client.example", "250")
                if tls != "none":
                    wire.say(f"AUTH PLAIN {plain('anna', 'wrong')}", "535 5.7.8")
                wire.say("MAIL FROM:<guest@example.org>", "250")
                assert wire.say("RCPT TO:<ben@example.org>", "550") == DENIED
                wire.say("RCPT TO:<ben@sfu.ca>", "250 2.1.5")
            server.sends("curl", port, tls, f"local-{tls}", mechanism=None, recipients=("ben@sfu.ca",))


def test_simon_fraser_on_campus(university):
    """Campus addresses may relay without AUTH."""
    with university("simon-fraser", "sfu.ca", networks='["127.0.0.0/8"]') as server:
        for client in CLIENT_NAMES:
            server.sends(client, 25, "none", f"{client}-campus", mechanism=None)


def test_toronto(university):
    """587 with STARTTLS required, 465; so that travelling users need not change their settings."""
    with university("toronto", "utoronto.ca") as server:
        assert set(server.port) == {587, 465}
        for client in CLIENT_NAMES:
            server.sends(client, 587, "starttls", f"{client}-587")
            server.sends(client, 465, "implicit", f"{client}-465")
        wants_starttls(server, 587)
        wants_auth(server, 587, "starttls")
        wants_auth(server, 465, "implicit")


def test_loughborough(university):
    """User names of the form user@domain, plain-text mechanisms inside TLS, on 25, 465 and 587."""
    with university("loughborough", "lboro.ac.uk") as server:
        assert set(server.port) == {25, 465, 587}
        for port, tls in ((25, "starttls"), (587, "starttls"), (465, "implicit")):
            for client in CLIENT_NAMES:
                for mechanism in ("PLAIN", "LOGIN"):
                    server.sends(client, port, tls, f"{client}-{mechanism}-{port}", mechanism=mechanism)
            taken, words = server.send("curl", port, tls, "bare", user="anna")
            assert not taken and "535" in words, words[-3000:]
            wants_auth(server, port, tls)
        refuses_plain_text_logins(server, 25)
        refuses_plain_text_logins(server, 587)
