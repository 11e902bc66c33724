"""What the appliance looks at in content, and what it leaves out of it: limits of the header, fields that are not sent on,
long lines; all else arrives octet for octet."""

import re

from mail import HEADER, added_fields, lf, message
from wire import Wire, submit

SUBMITTED = (
    b"Return-Path: <forged@example.net>\r\nBcc: hidden@example.org,\r\n\tothers@example.org\r\n"
    b"Authentication-Results: localhost; dkim=pass\r\nAuthentication-Results: elsewhere.example; dkim=pass\r\n"
)


# covers: 6.15
def test_fields_that_are_not_sent_on(server):
    content = message("fields", b"Bcc: body\r\n", SUBMITTED)
    expected = message("fields", b"Bcc: body\r\n", b"Authentication-Results: elsewhere.example; dkim=pass\r\n")
    assert submit(server.port["submissions"], content).startswith("250 2.0.0")
    added_fields(lf(expected), server.maildir.find("<fields@example.edu>"))


# covers: 6.15
def test_a_strangers_bcc_is_left_and_results_in_our_name_are_not(server):
    content = message("stranger", b"Hello.\r\n", SUBMITTED)
    expected = content.replace(b"Authentication-Results: localhost; dkim=pass\r\n", b"")
    with Wire(server.port["smtp"]) as wire:
        wire.say("EHLO mx.example.net", "250")
        assert wire.mail(content, sender="x@example.net", recipients=["ben@example.edu"]).startswith("250 2.0.0")
    added_fields(lf(expected), server.maildir.find("<stranger@example.edu>"))


# covers: 6.10 6.12
def test_limits_of_the_header(server):
    received = b"Received: from a by b; Mon, 21 Sep 2026 09:00:00 +0100\r\n"
    cases = [
        ("hops", received * 101, "554 5.4.6"),
        ("hops-taken", received * 100, "250 2.0.0"),
        ("size", b"X-Filler: y\r\n" + (b" " + b"y" * 70 + b"\r\n") * 3800, "552 5.3.4"),
        ("fields", b"X-Filler: y\r\n" * 1000, "554 5.6.0"),
        ("fields-taken", b"X-Filler: y\r\n" * 990, "250 2.0.0"),
    ]
    with Wire(server.port["submissions"], tls=True) as wire:
        wire.login()
        for name, fields, answer in cases:
            reply = wire.mail(message(name, mime=fields))
            assert reply.startswith(answer), f"{name}: {reply}"
        wire.say("NOOP", "250")


# covers: 6.7
def test_a_long_line_is_taken_whole(server):
    content = message("long", b"x" * 998 + b"\r\n" + b"y" * 5000 + b"\r\n" + b"z" * 300000 + b"\r\n")
    assert submit(server.port["submissions"], content).startswith("250 2.0.0")
    assert server.maildir.find("<long@example.edu>").endswith(b"\n\n" + lf(content).split(b"\n\n", 1)[1])


# covers: 6.15
def test_eight_bit_in_a_header_is_taken_without_smtputf8(server):
    content = HEADER % (b"gr\xfc\xc3\xbcn", b"eightbit") + b"\r\nHello.\r\n"
    assert submit(server.port["submissions"], content).startswith("250 2.0.0")
    added_fields(lf(content), server.maildir.find("<eightbit@example.edu>"))


# covers: 6.16
def test_received_holds_nothing_that_a_client_wrote_raw(server):
    with Wire(server.port["submissions"], tls=True) as wire:
        wire.login()
        wire.say("EHLO evil(x)[y]@z", "250")
        assert wire.mail(message("helo")).startswith("250 2.0.0")
    fields = added_fields(lf(message("helo")), server.maildir.find("<helo@example.edu>"))
    received = [value for name, value in fields if name == "received"]
    assert len(received) == 1
    assert re.match(r"from evil\?x\?\[y\]\?z \(\[127\.0\.0\.1\]\) by localhost \(Penstock\) with ESMTPSA id ", received[0]), received
    assert "anna" not in received[0] and "for <ben@example.org>;" in received[0]
