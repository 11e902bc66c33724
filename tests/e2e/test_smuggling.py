"""Message smuggling judged downstream: behind whatever looks like the end of a message and is not, one message that went in is one
message out of a real Postfix and of a real Exim, or none when it was refused.

Each message carries a false ending and behind it the commands of another message. Postfix is set to believe a bare LF, as it did
until 2023. `naive.py` is the control: with it the same judgement fails.
"""

import contextlib

import pytest

from exim import Exim
from naive import NaiveRelay
from servers import Postfix
from wire import Wire

# What is no end of a message, in front of what should not become commands.
ENDINGS = {
    "LF.LF": b"\n.\n",
    "LF.CRLF": b"\n.\r\n",
    "CRLF.LF": b"\r\n.\n",
    "CR.CR": b"\r.\r",
    "CR.CRLF": b"\r.\r\n",
    "CRLF.CR": b"\r\n.\r",
    "LF.CR": b"\n.\r",
    "CRLF.CRCRLF": b"\r\n.\r\r\n",
    "CRLF.NUL-CRLF": b"\r\n.\0\r\n",
    "CRLF-NUL.CRLF": b"\r\n\0.\r\n",
    "CR-NUL-LF.CRLF": b"\r\0\n.\r\n",
    "CRLF.space-CRLF": b"\r\n. \r\n",
    "CRLF-space.CRLF": b"\r\n .\r\n",
    "CRLF.tab-CRLF": b"\r\n.\t\r\n",
    "CRLF.8bit-CRLF": b"\r\n.\x85\r\n",
    "CRLF-8bit.CRLF": b"\r\n\xe2\x80\xa8.\r\n",
}
# How many octets of content stand in front: around a line's length and the sizes of buffers. 0: right behind the header.
FILLED = (0, 998, 4096, 8192, 65536)
EVIL = "evil@example.org"
SMUGGLED = (b"MAIL FROM:<evil@example.org>\r\nRCPT TO:<ben@example.org>\r\nRCPT TO:<ben@example.net>\r\nDATA\r\n"
            b"Subject: smuggled\r\n\r\nSmuggled.\r\n")


def contents():
    """(tag, content in front of the ending, ending) of each message."""
    for name, ending in ENDINGS.items():
        for filled in FILLED:
            tag = f"tag-{name}-{filled}-end"
            header = f"From: anna@example.edu\r\nSubject: {tag}\r\n\r\n".encode()
            line = b"x" * 76 + b"\r\n"
            # The ending's dot comes to stand at the octet `filled` of the content.
            body = (line * (filled // 78 + 1))[: max(0, filled - len(header))].rstrip(b"\r\n")
            yield tag, header + body.ljust(max(0, filled - len(header)), b"y"), ending


def envelope(wire):
    wire.say("MAIL FROM:<anna@example.edu>", "250")
    wire.say("RCPT TO:<ben@example.org>", "250")
    wire.say("RCPT TO:<ben@example.net>", "250")


def by_data(wire, front, ending, cut):
    """One message by DATA; `cut`: where in the ending a new TLS record begins."""
    envelope(wire)
    wire.say("DATA", "354")
    wire.send(front + ending[:cut])
    wire.send(ending[cut:] + SMUGGLED + b"\r\n.\r\n")
    return wire.reply()


def by_bdat(wire, front, ending, cut):
    """One message by BDAT, whose second chunk begins within the ending."""
    envelope(wire)
    first, rest = front + ending[:cut], ending[cut:] + SMUGGLED
    wire.send(b"BDAT %d\r\n" % len(first) + first)
    reply = wire.reply()
    wire.send(b"BDAT %d LAST\r\n" % len(rest) + rest)
    last = wire.reply()
    if reply.startswith("250"):
        return last
    assert last.startswith("503 5.5.1"), (reply, last)  # What was refused is over; the rest is swallowed.
    return reply


def session(port, tls, login):
    wire = Wire(port, tls=tls)
    if login:
        wire.login()
    else:
        wire.say("EHLO client.example", "250")
    return wire


def send_all(port, way, tls=True, login=True):
    """Sends every message; the tags of those that were taken. The session stays in step all along."""
    taken = []
    with session(port, tls, login) as wire:
        for at, (tag, front, ending) in enumerate(contents()):
            reply = way(wire, front, ending, at % len(ending))
            assert reply[:3] in ("250", "550", "554"), (tag, reply)
            wire.say("NOOP", "250")
            if reply.startswith("250"):
                taken.append(tag)
        wire.say("QUIT", "221")
    return taken


def judge(postfix, exim, taken):
    """One message in is one message out, and nobody spoke for the smuggler."""
    stored = postfix.maildir.wait(len(taken), seconds=120)
    queued = exim.wait(len(taken), seconds=120)
    assert not [one for one in queued if one.sender == EVIL or b"Subject: smuggled" in one.header]
    assert not [one for one in stored if f"Return-Path: <{EVIL}>".encode() in one.partition(b"\n\n")[0]]
    for tag in taken:
        assert sum(tag.encode() in one.partition(b"\n\n")[0] for one in stored) == 1, tag
        assert sum(tag.encode() in one.header for one in queued) == 1, tag


@contextlib.contextmanager
def judges(directory):
    postfix = Postfix(directory / "postfix", starttls=False)
    with open(postfix.directory / "etc" / "main.cf", "a") as settings:
        settings.write("smtpd_forbid_bare_newline = no\n")
    with postfix, Exim(directory / "exim") as exim:
        yield postfix, exim


def routes(postfix, exim):
    return [{"domains": ["example.net"], "smarthost": f"127.0.0.1:{exim.port}", "tls": "none"},
            {"smarthost": f"127.0.0.1:{postfix.port}", "tls": "none"}]


# covers: 6.4 6.5 6.5a 6.13 12.1
@pytest.mark.parametrize("way", [by_data, by_bdat], ids=["data", "bdat"])
def test_no_false_ending_of_an_authenticated_client(appliance, directory, way):
    """Bare CR, LF and NUL are normalized: every message is taken, as one."""
    with judges(directory) as (postfix, exim), appliance(routes=routes(postfix, exim)) as server:
        taken = send_all(server.port["submissions"], way)
        assert len(taken) == len(ENDINGS) * len(FILLED)
        judge(postfix, exim, taken)


# covers: 6.4 6.5 6.5a 6.13 12.1
@pytest.mark.parametrize("listener, tls", [("smtp", False), ("smtps", True)])
@pytest.mark.parametrize("way", [by_data, by_bdat], ids=["data", "bdat"])
def test_no_false_ending_of_a_stranger(appliance, directory, listener, tls, way):
    """Bare CR, LF and NUL are refused; what is left is text, and arrives as one message."""
    local = {"local_domains": ["example.org", "example.net"]}
    with judges(directory) as (postfix, exim), appliance(routes=routes(postfix, exim), top=local) as server:
        taken = send_all(server.port[listener], way, tls=tls, login=False)
        allowed = [name for name, ending in ENDINGS.items() if not odd(ending)]
        assert len(taken) == len(allowed) * len(FILLED), taken
        judge(postfix, exim, taken)


def odd(ending):
    """Has it a CR, LF or NUL that is not part of CRLF?"""
    return any(octet in ending.replace(b"\r\n", b"") for octet in b"\r\n\0")


@pytest.mark.parametrize("believed, ending", [
    (rb"\r?\n\.\r?\n", "LF.LF"),  # It sees two messages, and sends two.
    (rb"\r\n\.\r\n", "LF.CRLF"),  # It sees one, and passes on raw octets that Postfix takes for two.
])
def test_control_a_naive_relay_is_found_out(directory, believed, ending):
    with judges(directory) as (postfix, exim), NaiveRelay(postfix.port, believed) as relay:
        with Wire(relay.port) as wire:
            wire.say("EHLO client.example", "250")
            by_data(wire, b"Subject: tag-control-end\r\n\r\nx", ENDINGS[ending], 1)
            wire.say("QUIT", "250" if ending == "LF.LF" else "221")
            stored = postfix.maildir.wait(4)  # Two messages for two recipients.
        assert any(b"Return-Path: <evil@" in one for one in stored)
        with pytest.raises(AssertionError, match="4 messages arrived instead of 1"):
            judge(postfix, exim, ["tag-control-end"])
