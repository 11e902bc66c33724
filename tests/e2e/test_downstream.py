"""A real Postfix as smarthost, a real Dovecot by LMTP; what arrives is the same byte for byte but for added header fields."""

import email
import email.policy
import threading

import pytest

from clients import CLIENTS, Sending
from mail import BODIES, BODY_8BIT, MIME_8BIT, Maildir, added_fields, lf, message
from servers import Dovecot, Postfix
from wire import Wire, submit

CONTENTS = {**{name: message(name, body) for name, body in BODIES.items()}, "8bit": message("8bit", BODY_8BIT, MIME_8BIT)}


@pytest.mark.parametrize("tls, offered", [("none", False), ("opportunistic", False), ("opportunistic", True), ("required", True)])
def test_postfix_as_smarthost(appliance, directory, tls, offered):
    with Postfix(directory / "postfix", starttls=offered) as postfix:
        with appliance(routes=[{"smarthost": f"127.0.0.1:{postfix.port}", "tls": tls}]) as server:
            for content in CONTENTS.values():
                assert submit(server.port["submissions"], content).startswith("250 2.0.0")
            arrived = postfix.maildir.wait(len(CONTENTS))
        for name, content in CONTENTS.items():
            fields = added_fields(lf(content), postfix.maildir.find(f"<{name}@example.edu>"))
            received = [value for field, value in fields if field == "received"]
            assert len(received) == 2 and "smarthost.example.net" in received[0], fields
            assert ("TLS" in received[0]) == (offered and tls != "none"), received[0]
            assert ("return-path", "<anna@example.edu>") in fields
        assert len(arrived) == len(CONTENTS)


@pytest.mark.parametrize("transport", ["tcp", "unix"])
def test_dovecot_by_lmtp(appliance, directory, transport):
    with Dovecot(directory / "dovecot") as dovecot:
        address = f"127.0.0.1:{dovecot.lmtp_port}" if transport == "tcp" else f"unix:{dovecot.lmtp_socket}"
        with appliance(routes=[{"lmtp": address}]) as server:
            for content in CONTENTS.values():
                recipients = ["ben@example.edu", "cleo@example.edu"]
                assert submit(server.port["submissions"], content, recipients=recipients).startswith("250 2.0.0")
            for user in ("ben", "cleo"):
                arrived = dovecot.wait(user, len(CONTENTS))
                for name, content in CONTENTS.items():
                    found = [one for one in arrived if f"<{name}@example.edu>".encode() in one]
                    assert len(found) == 1
                    added_fields(content, found[0])


@pytest.mark.parametrize("client", CLIENTS)
def test_a_mail_program_at_one_end_and_imap_at_the_other(appliance, directory, client):
    """The main job, with programs that nobody here wrote at both ends."""
    with Dovecot(directory / "dovecot") as dovecot:
        with appliance(routes=[{"lmtp": f"unix:{dovecot.lmtp_socket}"}]) as server:
            content = CONTENTS["dots"]
            sending = Sending(server.port["submission"], "starttls", server.ca, content, directory=server.directory)
            taken, words = CLIENTS[client](sending)
            assert taken, words[-3000:]
            added_fields(content, dovecot.wait("ben", 1)[0])


def test_the_route_follows_the_domain(appliance, directory):
    """One message, three recipients, three next hops."""
    with Dovecot(directory / "dovecot") as dovecot, Postfix(directory / "postfix") as postfix:
        routes = [
            {"domains": ["example.edu"], "lmtp": f"127.0.0.1:{dovecot.lmtp_port}"},
            {"domains": ["example.net"], "maildir": directory / "inbox"},
            {"smarthost": f"127.0.0.1:{postfix.port}"},
        ]
        with appliance(routes=routes) as server:
            content = CONTENTS["dots"]
            submit(server.port["submissions"], content, recipients=["ben@Example.EDU", "cleo@example.net", "dan@example.org"])
            added_fields(content, dovecot.wait("ben", 1)[0])
            added_fields(lf(content), Maildir(directory / "inbox").wait(1)[0])
            added_fields(lf(content), postfix.maildir.wait(1)[0])


def test_a_bounce_for_one_recipient_of_two(appliance, directory):
    """Postfix refuses one recipient for good: the other gets the message, the sender a notification."""
    inbox = Maildir(directory / "inbox")
    with Postfix(directory / "postfix") as postfix:
        routes = [{"domains": ["example.edu"], "maildir": inbox.path}, {"smarthost": f"127.0.0.1:{postfix.port}"}]
        with appliance(routes=routes) as server:
            content = message("two-fates")
            reply = submit(server.port["submissions"], content, recipients=["nobody@example.org", "ben@example.org"])
            added_fields(lf(content), postfix.maildir.wait(1)[0])
            bounce = email.message_from_bytes(inbox.wait(1)[0], policy=email.policy.default)
            assert reply.startswith("250")
    # RFC 3464 section 2, RFC 3834 section 3.1.4.
    assert bounce.get_content_type() == "multipart/report"
    assert bounce.get_param("report-type") == "delivery-status"
    assert bounce["Auto-Submitted"].startswith("auto-replied") or bounce["Auto-Submitted"].startswith("auto-generated")
    assert "anna@example.edu" in bounce["To"]
    assert bounce["Return-Path"] in (None, "<>")
    parts = list(bounce.iter_parts())
    assert parts[0].get_content_type() == "text/plain" and "nobody@example.org" in parts[0].get_content()
    assert parts[1].get_content_type() == "message/delivery-status"
    blocks = parts[1].get_payload()
    assert "localhost" in blocks[0]["Reporting-MTA"]
    assert len(blocks) == 2, "only the refused recipient is reported"
    assert blocks[1]["Final-Recipient"].split(";")[1].strip() == "nobody@example.org"
    assert blocks[1]["Action"] == "failed"
    assert blocks[1]["Status"].startswith("5.1.1")
    assert "550 5.1.1" in blocks[1]["Diagnostic-Code"]
    assert parts[2].get_content_type() in ("message/rfc822", "text/rfc822-headers")
    returned = parts[2].as_string()
    assert "two-fates" in returned


def test_no_bounce_for_a_null_sender(appliance, directory):
    inbox = Maildir(directory / "inbox")
    with Postfix(directory / "postfix") as postfix:
        routes = [{"domains": ["example.edu"], "maildir": inbox.path}, {"smarthost": f"127.0.0.1:{postfix.port}"}]
        with appliance(routes=routes) as server:
            submit(server.port["submissions"], message("receipt"), sender="", recipients=["nobody@example.org"])
            server.wait_log(r"5\.1\.1")
            submit(server.port["submissions"], message("later"), recipients=["ben@example.edu"])
            assert b"<later@" in inbox.wait(1)[0]


def test_a_recipient_refused_for_now_is_tried_again(appliance, directory):
    with Postfix(directory / "postfix") as postfix:
        with appliance(routes=[{"smarthost": f"127.0.0.1:{postfix.port}"}]) as server:
            content = message("both")
            submit(server.port["submissions"], content, recipients=["later@example.org", "ben@example.org"])
            added_fields(lf(content), postfix.maildir.wait(1)[0])
            server.wait_log("deferred", times=2)
            assert len(postfix.maildir.files()) == 1, "the delivered recipient must not get it again"


def test_many_messages_of_many_sessions(appliance, directory):
    """20 sessions at once, 10 messages each, through Postfix: all arrive, once."""
    with Postfix(directory / "postfix") as postfix:
        with appliance(routes=[{"smarthost": f"127.0.0.1:{postfix.port}"}]) as server:
            failures = []

            def session(number):
                try:
                    with Wire(server.port["submissions"], tls=True) as wire:
                        wire.login()
                        for count in range(10):
                            reply = wire.mail(message(f"s{number}-{count}-"))
                            assert reply.startswith("250"), reply
                except Exception as error:
                    failures.append(error)

            threads = [threading.Thread(target=session, args=(number,)) for number in range(20)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            assert not failures, failures
            postfix.maildir.wait(200, seconds=60)
