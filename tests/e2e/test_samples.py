"""Real messages, as mail parsers keep them for their tests, from one end to the other: all octets arrive, but for what is documented.

That is: bare CR and bare LF become CRLF and NUL is left out where odd octets are normalized; Bcc and Return-Path fields of a submission
are not sent on; and fields are put in front of the header, with an empty line behind them when there was no header.
"""

import re
import smtplib
import ssl

import pytest

from appliance import wait_for
from fakes import Sink
from mail import added_fields, lf
from samples import samples
from wire import Wire

SAMPLES_MIN = 100


def normalized(content):
    """What the server documents to make of content, in the plainest way."""
    lines = content.replace(b"\0", b"").replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return b"\r\n".join(lines[:-1] if lines[-1] == b"" else lines) + b"\r\n"


def ended(content):
    """As it lies there, with the CRLF in front of the last dot, which smtplib would add, too."""
    return content if content.endswith(b"\r\n") else content + b"\r\n"


def sent_on(content):
    """Without the fields that a submission's header has for nobody but the server."""
    kept, drops, lines = [], False, content.split(b"\r\n")
    for at, line in enumerate(lines):
        field = re.match(rb"([!-9;-~]+)[ \t]*:", line)
        if not field and not (at and line[:1] in (b" ", b"\t")):
            return b"\r\n".join(kept + lines[at:])  # The header is over.
        if field:
            drops = field[1].lower() in (b"bcc", b"resent-bcc", b"return-path")
        if not drops:
            kept.append(line)
    return b"\r\n".join(kept)


def is_odd(content):
    return any(octet in content.replace(b"\r\n", b"") for octet in b"\r\n\0")


def session(server, listener="submissions"):
    """An independent client's, smtplib's, which does the stuffing of dots."""
    smtp = smtplib.SMTP_SSL("127.0.0.1", server.port[listener], context=ssl.create_default_context(cafile=server.ca), timeout=30)
    smtp.ehlo("client.example")
    if listener == "submissions":
        smtp.login("anna", "sesame")
    return smtp


def send(smtp, content, recipients):
    options = ["BODY=8BITMIME"] if any(octet > 127 for octet in content) else []
    assert not smtp.sendmail("anna@example.edu", recipients, content, options)


def all_there(expected, arrived, hop=""):
    """Each expected content is the end of exactly one that arrived, behind added fields only."""
    left = list(arrived)
    for name, content in sorted(expected.items(), key=lambda item: -len(item[1])):
        found = [one for one in left if one.endswith(content)]
        assert found, f"{name} did not arrive as it was: {hop}"
        whole = min(found, key=len)
        left.remove(whole)
        front = lf(whole[: len(whole) - len(content)])
        assert front, f"{name}: no Received field"
        # Content without a header gets an empty line between it and what was added.
        added_fields(b"", front.removesuffix(b"\n\n") + b"\n" if front.endswith(b"\n\n") else front)
    assert not left, f"{len(left)} messages that nobody sent"


def there_were_enough(contents):
    assert len(contents) >= SAMPLES_MIN, f"{len(contents)} sample messages: run tests/run, which fetches them"


@pytest.fixture
def hops(appliance, directory):
    """A server that sends by domain to a Maildir, by LMTP and by SMTP."""
    with Sink(lmtp=True) as lmtp, Sink() as smarthost:
        routes = [{"domains": ["example.net"], "lmtp": f"127.0.0.1:{lmtp.port}"},
                  {"domains": ["example.org"], "smarthost": f"127.0.0.1:{smarthost.port}", "tls": "none"},
                  {"maildir": directory / "inbox"}]
        with appliance(routes=routes, top={"local_domains": ["example.edu", "example.org", "example.net"]}) as server:
            server.maildir.path = directory / "inbox"
            yield server, lmtp, smarthost


RECIPIENTS = ["ben@example.edu", "ben@example.net", "ben@example.org"]


def arrive_everywhere(hops, expected, in_maildir=None):
    """`in_maildir`: what is in the Maildir, if it is not the same."""
    server, lmtp, smarthost = hops
    all_there({name: lf(content) for name, content in (in_maildir or expected).items()}, server.maildir.wait(len(expected), seconds=60), "Maildir")
    for sink in (lmtp, smarthost):
        wait_for(lambda: len(sink.messages) >= len(expected), 60, lambda: f"{len(sink.messages)} of {len(expected)}")
        all_there(expected, [content for _, _, _, content in sink.messages], "LMTP" if sink.lmtp else "SMTP")


# covers: 6.3 6.5 6.6 6.15 12.1
@pytest.mark.parametrize("form", ["by the book", "as it lies there"])
def test_samples_of_an_authenticated_client(hops, form):
    """With CRLF line ends as a good client makes them, and as the file is, with all its bare CR and LF."""
    made = {"by the book": normalized, "as it lies there": ended}[form]
    contents = {name: made(content) for name, content in samples().items()}
    there_were_enough(contents)
    with session(hops[0]) as smtp:
        for content in contents.values():
            send(smtp, content, RECIPIENTS)
    arrive_everywhere(hops, {name: sent_on(normalized(content)) for name, content in contents.items()})


# covers: 6.5
def test_samples_of_a_stranger(hops):
    """Odd octets are refused, the same message without them is taken; all in one session."""
    contents = samples()
    there_were_enough(contents)
    taken = {}
    with session(hops[0], "smtps") as smtp:
        for name, content in contents.items():
            if is_odd(content):
                with pytest.raises(smtplib.SMTPDataError) as refusal:
                    send(smtp, content, RECIPIENTS)
                assert refusal.value.smtp_code == 550 and refusal.value.smtp_error.startswith(b"5.6.0"), name
            else:
                send(smtp, content, RECIPIENTS)
                taken[name] = normalized(content)
    assert 20 < len(taken) < len(contents)
    arrive_everywhere(hops, taken)


# covers: 6.4 6.5a 6.13
def test_samples_by_bdat(hops):
    """No stuffing and no end to search for: chunks of any size."""
    contents = samples()
    there_were_enough(contents)
    with Wire(hops[0].port["submissions"], tls=True) as wire:
        wire.login()
        for at, content in enumerate(contents.values()):
            body = " BODY=8BITMIME" if any(octet > 127 for octet in content) else ""
            wire.say(f"MAIL FROM:<anna@example.edu>{body}", "250")
            for recipient in RECIPIENTS:
                wire.say(f"RCPT TO:<{recipient}>", "250")
            size = 1 + at * 37 % 4000
            pieces = [content[start : start + size] for start in range(0, len(content), size)][:50]
            pieces.append(content[sum(map(len, pieces)) :])
            for piece in pieces[:-1]:
                wire.send(b"BDAT %d\r\n" % len(piece) + piece)
                wire.expect("250 2.")
            wire.send(b"BDAT %d LAST\r\n" % len(pieces[-1]) + pieces[-1])
            wire.expect("250 2.0.0")
    # DATA to the next hop needs a CRLF at the end, and adds it.
    expected = {name: sent_on(normalized(content)) for name, content in contents.items()}
    unended = {name: content if contents[name].endswith((b"\r", b"\n")) else content.removesuffix(b"\r\n")
               for name, content in expected.items()}
    arrive_everywhere(hops, expected, in_maildir=unended)


def test_control_one_octet_less_is_seen():
    expected = {"one": b"Subject: x\r\n\r\na\r\n"}
    received = b"Received: from a by b\r\n"
    all_there(expected, [received + expected["one"]])
    for changed in (received + b"Subject: x\r\n\r\na\r", received + b"Subject: x\r\n\r\nb\r\n", b"X-Odd: y\r\n" + expected["one"]):
        with pytest.raises(AssertionError):
            all_there(expected, [changed])
    with pytest.raises(AssertionError):
        all_there(expected, [received + expected["one"]] * 2)
