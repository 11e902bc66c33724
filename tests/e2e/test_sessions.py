"""Sessions over real sockets where a read may end anywhere: what the cores promise must survive their drivers."""

import re
import signal
import socket
import time

import pytest
from appliance import wait_for
from wire import Wire

# Content as sent behind DATA in pieces with a pause between, and what must arrive from a trusted client.
HEADER = b"Subject: odd\r\n\r\n"
PIECES = [
    ([HEADER + b"a\r", b"b\r\n.\r\n"], b"a\nb\n"),
    ([HEADER + b"a\r", b"\nb\r\n.\r\n"], b"a\nb\n"),
    ([HEADER + b"a\r\n.\r", b"b\r\n.\r\n"], b"a\n\nb\n"),
    ([HEADER + b"a\r\n.", b"\r\n"], b"a\n"),
    ([HEADER + b"a\r\n", b"..b\r\n.\r\n"], b"a\n.b\n"),
    ([HEADER + b"one\r", b"two\r", b"three\r", b"\r\n.\r\n"], b"one\ntwo\nthree\n\n"),
    ([HEADER + b"a\n.\n", b"b\r\n.\r\n"], b"a\n\nb\n"),
    ([HEADER + b"a\n", b"..b\n.\r\n", b"c\r\n.\r\n"], b"a\n.b\n\nc\n"),
]


# covers: 6.4 6.6
@pytest.mark.parametrize("case", range(len(PIECES)))
def test_content_in_pieces(appliance, case):
    pieces, expected = PIECES[case]
    with appliance(top={"trusted_networks": ["127.0.0.0/8"], "cores": 1}) as server:
        with Wire(server.port["smtp"]) as wire:
            begin(wire)
            for piece in pieces:
                wire.send(piece)
                time.sleep(0.05)
            assert wire.reply().startswith("250 2.0.0")
        server.maildir.wait(1)
        message = server.maildir.contents()[0]
        assert message.partition(b"\n\n")[2] == expected


# covers: 6.11
def test_content_that_was_cut_off_is_nobodys_message(appliance):
    """A connection lost before the dot leaves nothing; one lost behind it, whose 250 nobody reads, one message."""
    with appliance(top={"trusted_networks": ["127.0.0.0/8"]}) as server:
        for content in [b"", b"Subject: lost\r\n\r\nhalf", b"Subject: lost\r\n\r\na\r\n.", b"Subject: lost\r\n\r\na\r\n.\r"]:
            with Wire(server.port["smtp"]) as wire:
                begin(wire)
                wire.send(content)
        with Wire(server.port["smtp"]) as wire:
            begin(wire)
            wire.send(b"Subject: unread\r\n\r\na\r\n.\r\n")
        server.maildir.wait(1)
        with Wire(server.port["smtp"]) as wire:
            begin(wire)
            wire.send(b"Subject: read\r\n\r\na\r\n.\r\n")
            assert wire.reply().startswith("250 2.0.0")
        server.maildir.wait(2)
        subjects = [re.search(rb"Subject: (\w+)", message)[1] for message in server.maildir.contents()]
        assert sorted(subjects) == [b"read", b"unread"]


def begin(wire):
    wire.say("EHLO client.example", "250")
    wire.say("MAIL FROM:<anna@example.edu>", "250")
    wire.say("RCPT TO:<ben@example.org>", "250")
    wire.say("DATA", "354")


def test_odd_content_of_a_stranger_is_refused_in_step(appliance):
    with appliance(top={"cores": 1}) as server, Wire(server.port["smtp"]) as wire:
        wire.say("EHLO client.example", "250")
        for tail in (b"a\rb\r\n.\r\n", b"a\nb\r\n.\r\n", b"a\0b\r\n.\r\n"):
            wire.say("MAIL FROM:<stranger@example.org>", "250")
            wire.say("RCPT TO:<ben@example.edu>", "250")
            wire.say("DATA", "354")
            wire.send(HEADER + tail)
            assert wire.reply().startswith("550 5.6.0")
        wire.say("NOOP", "250")
        server.wait_log(
            r'"event":"refused".*"sender":"stranger@example\.org","recipient":"ben@example\.edu","reply":"550 5\.6\.0', times=3
        )
        server.process.send_signal(signal.SIGUSR1)
        server.wait_log(r'"event":"totals".*"messages_refused":"3"')


def test_too_many_wrong_passwords_end_the_connection(server):
    with Wire(server.port["submissions"], tls=True) as wire:
        wire.say("EHLO client.example", "250")
        for _ in range(5):
            wire.say("AUTH PLAIN AGFubmEAd3Jvbmc=", "535 5.7.8")
        assert wire.reply().startswith("421 4.7.0")
        assert wire.at_end(), "said 421 and stayed"


def test_relaying_denied_is_logged(server):
    with Wire(server.port["smtp"]) as wire:
        wire.say("EHLO client.example", "250")
        wire.say("MAIL FROM:<stranger@example.org>", "250")
        wire.say("RCPT TO:<victim@example.org>", "550 5.7.1 Relaying denied. Authentication required.")
        wire.say('RCPT TO:<"\\"\x1b[2J">', "5")
    server.wait_log(r'"event":"refused".*"client":"127\.0\.0\.1:\d+".*"recipient":"victim@example\.org","reply":"550 5\.7\.1')


def resident_kib(server):
    with open(f"/proc/{server.process.pid}/status") as status:
        return int(re.search(r"VmRSS:\s+(\d+)", status.read()).group(1))


def ask_much(port, count):
    """So many trusted sessions, each of which has asked for 250 KiB of replies, read them, and is idle now."""
    sessions = []
    for _ in range(count):
        session = socket.create_connection(("127.0.0.1", port), timeout=30, source_address=("127.9.9.9", 0))
        assert session.recv(4096).startswith(b"220 ")
        session.sendall(b"EHLO x\r\nMAIL FROM:<a@example.edu>\r\n" + b"RCPT TO:<nobody@example.edu>\r\n" * 6000)
        received = 0
        while received < 6000 * len("550 5.1.1 There is no such recipient here\r\n"):
            piece = session.recv(1 << 20)
            assert piece, "it was closed"
            received += len(piece)
        sessions.append(session)
    return sessions


def test_idle_sessions_give_back_what_their_replies_took(appliance):
    top = {"cores": 1, "trusted_networks": ["127.9.9.9/32"], "local_recipients": "recipients"}
    server = appliance(top=top, limits={"recipients_max": 10_000})
    (server.directory / "recipients").write_text("anna@example.edu\nben@example.edu\n")
    with server:
        # What is pooled is there once.
        sessions = ask_much(server.port["smtp"], 50)
        before = resident_kib(server)
        sessions += ask_much(server.port["smtp"], 400)
        wait_for(lambda: (resident_kib(server) - before) / 400 < 40, 10,
                 lambda: f"{(resident_kib(server) - before) / 400} KiB a session")
        for session in sessions:
            session.close()
