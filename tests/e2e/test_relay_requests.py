"""What senders ask for, through the real server to real next hops: DSN (RFC 3461), FUTURERELEASE (RFC 4865), BINARYMIME."""

import email
import email.policy
import re
import time

import pytest

from appliance import wait_for
from fakes import Sink
from mail import Maildir, lf, message
from servers import Dovecot, Postfix
from wire import ask

EVERYTHING = ("PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE", "DSN", "CHUNKING", "BINARYMIME")


def home_and(target, inbox):
    """The senders' own domain into a Maildir, everything else to `target`."""
    return [{"domains": ["example.edu"], "maildir": inbox.path}, target]


def report(inbox, subject, seconds=20):
    """The one notification with this subject: its text for people, and the blocks of its delivery-status part."""
    parsed = email.message_from_bytes(inbox.find(f"Subject: {subject}", seconds), policy=email.policy.default)
    assert parsed.get_content_type() == "multipart/report" and parsed["Return-Path"] == "<>"
    assert parsed["Auto-Submitted"].startswith("auto-replied")
    people, status, returned = parsed.iter_parts()
    return people.get_content(), status.get_payload(), returned


# covers: 5.11 12.9
def test_postfix_takes_over_what_was_asked_for(appliance, directory):
    """Postfix offers DSN: it says itself that it has delivered, to the sender, with our envelope id."""
    with Postfix(directory / "postfix") as postfix, appliance(routes=[{"smarthost": f"127.0.0.1:{postfix.port}"}]) as server:
        parameters = " NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Ben@example.org"
        ask(server, message("wanted"), " RET=HDRS ENVID=id+2B7", [("ben@example.org", parameters)])
        arrived = postfix.maildir.wait(2)
        status = next(one for one in arrived if b"multipart/report" in one)
        assert b"Original-Envelope-Id: id+7" in status and b"Original-Recipient: rfc822;Ben@example.org" in status
        assert b"Action: delivered" in status or b"Action: relayed" in status
        assert b"penstock" not in status.split(b"Reporting-MTA:")[1].split(b"\n")[0].lower()


# covers: 5.11 12.9
def test_a_next_hop_without_dsn_is_relayed_to(appliance, directory):
    inbox = Maildir(directory / "inbox")
    with Sink() as sink:
        with appliance(routes=home_and({"smarthost": f"127.0.0.1:{sink.port}", "tls": "none"}, inbox)) as server:
            recipients = [("ben@example.org", " NOTIFY=SUCCESS"), ("cleo@example.org", " NOTIFY=SUCCESS,DELAY"),
                          ("dan@example.org", ""), ("eva@example.org", " NOTIFY=NEVER")]
            ask(server, message("wanted"), " ENVID=id1", recipients)
            people, status, _ = report(inbox, "Successful Mail Delivery Report")
            assert status[0]["Original-Envelope-Id"] == "id1"
            assert [block["Action"] for block in status[1:]] == ["relayed", "relayed"]
            assert "ben@example.org" in people and "cleo@example.org" in people and "eva@" not in people
            assert len(inbox.files()) == 1 and len(sink.messages) == 1


# covers: 12.9
def test_dovecot_has_it_in_the_mailbox(appliance, directory):
    inbox = Maildir(directory / "inbox")
    with Dovecot(directory / "dovecot") as dovecot:
        with appliance(routes=home_and({"lmtp": f"unix:{dovecot.lmtp_socket}"}, inbox)) as server:
            ask(server, message("wanted"), recipients=[("ben@example.org", " NOTIFY=SUCCESS")])
            _, status, _ = report(inbox, "Successful Mail Delivery Report")
            assert status[1]["Action"] == "delivered" and status[1]["Status"].startswith("2.")
            dovecot.wait("ben", 1)


# covers: 12.8
def test_ret_and_never_are_obeyed(appliance, directory):
    inbox = Maildir(directory / "inbox")
    with Sink(replies={"RCPT TO:<no": "550 5.1.1 Never"}) as sink:
        with appliance(routes=home_and({"smarthost": f"127.0.0.1:{sink.port}", "tls": "none"}, inbox)) as server:
            ask(server, message("never", b"secret text\r\n"), "", [("no1@example.org", " NOTIFY=NEVER")])
            ask(server, message("full", b"the whole text\r\n"), " RET=FULL", [("no2@example.org", " NOTIFY=FAILURE")])
            full = inbox.find("no2@example.org")
            ask(server, message("header", b"text unseen\r\n"), " RET=HDRS", [("no3@example.org", "")])
            header = inbox.find("no3@example.org")
            assert b"the whole text" in full and b"message/rfc822" in full
            assert b"text unseen" not in header and b"<header@" in header
            server.wait_log("sender not to be told")
            assert len(inbox.files()) == 2


# covers: 12.7
def test_a_delay_is_told_once_over_restarts(appliance, directory):
    inbox = Maildir(directory / "inbox")
    with Sink(replies={"RCPT TO:<later": "450 4.2.1 Busy"}) as sink:
        routes = home_and({"smarthost": f"127.0.0.1:{sink.port}", "tls": "none"}, inbox)
        server = appliance(routes=routes, relay={"delay_warning_s": 2})
        with server:
            ask(server, message("late"), recipients=[("later@example.org", "")])
            _, status, _ = report(inbox, "Delayed Mail")
            assert status[1]["Action"] == "delayed" and status[1]["Status"] == "4.2.1" and status[1]["Will-Retry-Until"]
        for _ in range(2):
            with server:
                tries = server.log_text().count("deferred")
                server.wait_log("deferred", times=tries + 2)
        assert len(inbox.files()) == 1
        sink.replies.clear()
        with server:
            wait_for(lambda: len(sink.messages) == 1, 20, "it is not delivered in the end")
        assert len(inbox.files()) == 1


# covers: 3.6
@pytest.mark.parametrize("how", ["HOLDFOR", "HOLDUNTIL"])
def test_a_message_is_held_for_its_time_over_a_kill(appliance, how):
    with Sink() as sink:
        server = appliance(routes=[{"smarthost": f"127.0.0.1:{sink.port}", "tls": "none"}])
        with server:
            begun = time.time()
            until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(begun + 6))
            ask(server, message("held"), " HOLDFOR=5" if how == "HOLDFOR" else f" HOLDUNTIL={until}")
            ask(server, message("now"))
            wait_for(lambda: len(sink.messages) == 1, 20, "the other does not arrive")
            server.kill()
            server.start()
            # The other may come once more: it was killed before it had noted the delivery (RFC 1047).
            held = lambda: [content for *_, content in sink.messages if b"<held@" in content]
            wait_for(held, 30, "it is not released")
            assert time.time() >= begun + 5 and len(held()) == 1


# covers: 6.5a
def test_binary_content_arrives_octet_for_octet_or_comes_back(appliance, directory):
    """Through BDAT on both sides; to a server without BINARYMIME never, in whatever form."""
    inbox = Maildir(directory / "inbox")
    content = message("binary", bytes(range(256)) + b"\r\n.\r\n\n.\n", b"Content-Type: application/octet-stream\r\n"
                      b"Content-Transfer-Encoding: binary\r\nMIME-Version: 1.0\r\n")
    with BinarySink(offers=EVERYTHING) as able, Sink(offers=("CHUNKING", "8BITMIME")) as unable:
        routes = home_and({"smarthost": f"127.0.0.1:{able.port}", "tls": "none"}, inbox)
        routes.insert(1, {"domains": ["example.net"], "smarthost": f"127.0.0.1:{unable.port}", "tls": "none"})
        with appliance(routes=routes) as server:
            both = [("ben@example.org", ""), ("ben@example.net", "")]
            ask(server, content, " BODY=BINARYMIME RET=FULL", both, bdat=True)
            wait_for(lambda: able.messages, 20, "nothing arrives")
            assert able.messages[0][3].endswith(content) and b"BODY=BINARYMIME" in able.mail
            wait_for(lambda: inbox.files() or unable.messages, 20, "neither converted nor sent back")
            for *_, converted in unable.messages:
                assert re.search(rb"(?i)content-transfer-encoding: (base64|quoted-printable)", converted)
                assert converted.isascii() and b"\0" not in converted
            for bounce in inbox.contents():
                assert b"5.6.1" in bounce and bytes(range(256)) not in bounce


# covers: 6.5a
def test_binary_content_in_a_maildir_is_octet_for_octet_or_comes_back(appliance, directory):
    """A Maildir's lines end in LF, which would be the end of binary parts; small and spilled."""
    inbox, mailbox = Maildir(directory / "inbox"), Maildir(directory / "mailbox")
    routes = home_and({"maildir": mailbox.path}, inbox)
    octets = bytes(range(256)) + b"\r\n.\r\n\n.\n\r\r\n\0"
    part = b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n"
    with appliance(routes=routes) as server:
        for name, times in (("small", 1), ("spilled", 2000)):
            content = message(name, octets * times, part + b"MIME-Version: 1.0\r\n")
            ask(server, content, " BODY=BINARYMIME", bdat=True)
            parsed = email.message_from_bytes(mailbox.find(f"<{name}@"), policy=email.policy.default)
            assert parsed["Content-Transfer-Encoding"] == "base64" and parsed.get_content() == octets * times
        signed = b'Content-Type: multipart/signed; boundary="b"\r\nMIME-Version: 1.0\r\n'
        content = message("signed", b"--b\r\n" + part + b"\r\n" + octets + b"\r\n--b--\r\n", signed)
        ask(server, content, " BODY=BINARYMIME", bdat=True)
        _, status, _ = report(inbox, "Undelivered Mail")
        assert status[1]["Status"] == "5.6.1" and len(mailbox.files()) == 2


class BinarySink(Sink):
    """A sink that takes BDAT."""

    mail = b""

    def talk(self, connection):
        stream = connection.makefile("rb")
        connection.sendall(b"220 sink.example.net\r\n")
        while line := stream.readline():
            if line.startswith(b"EHLO"):
                connection.sendall(b"250-sink\r\n" + b"".join(b"250-%s\r\n" % offer.encode() for offer in self.offers) + b"250 HELP\r\n")
            elif line.startswith(b"BDAT"):
                _, size, last = line.split()
                assert last == b"LAST"
                self.keep(time.monotonic(), "", [], stream.read(int(size)))
                connection.sendall(b"250 2.0.0 Ok\r\n")
            elif line.startswith(b"QUIT"):
                return connection.sendall(b"221 Bye\r\n")
            else:
                self.mail = line if line.startswith(b"MAIL") else self.mail
                connection.sendall(b"250 Ok\r\n")


# covers: 12.2
@pytest.mark.parametrize("charset_known", [True, False])
def test_eight_bit_content_is_never_sent_raw(appliance, directory, charset_known):
    """To a server without 8BITMIME: as 7-bit MIME, or back to the sender."""
    inbox = Maildir(directory / "inbox")
    mime = b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
    content = message("eight", "Grüße\r\n".encode(), mime if charset_known else b"")
    with Sink(offers=("PIPELINING",)) as sink:
        with appliance(routes=home_and({"smarthost": f"127.0.0.1:{sink.port}", "tls": "none"}, inbox)) as server:
            ask(server, content, " BODY=8BITMIME")
            wait_for(lambda: sink.messages or inbox.files(), 20, "neither converted nor sent back")
            for *_, converted in sink.messages:
                assert converted.isascii()
                arrived = email.message_from_bytes(converted)
                assert lf(arrived.get_payload(decode=True)) == "Grüße\n".encode()
                assert arrived.get_content_charset() == ("utf-8" if charset_known else "unknown-8bit")
            for bounce in inbox.contents():
                assert b"5.6.3" in bounce


# covers: 12.14
def test_two_servers_that_send_to_each_other(appliance, directory):
    """A circle ends: after a hundred hops the message goes back, once."""
    inbox = Maildir(directory / "inbox")
    one, two = appliance(), appliance()
    for server, other in [(one, two), (two, one)]:
        server.settings[""]["trusted_networks"] = ["127.0.0.0/8"]
        server.settings["relay.route"] = [{"domains": ["example.edu"], "maildir": inbox.path},
                                          {"smarthost": f"127.0.0.1:{other.port['smtp']}", "tls": "none"}]
        server.write_config()
    with one, two:
        ask(one, message("circle"))
        bounce = inbox.wait(1, 60)[0]
        assert b"5.4.6" in bounce and bounce.count(b"\nReceived:") > 100


# covers: 12.14
def test_a_next_hop_with_our_own_name_on_port_25(appliance, directory):
    inbox = Maildir(directory / "inbox")
    try:
        sink = OwnName(25)
        sink.__enter__()
    except OSError as error:
        pytest.skip(f"port 25 is not to be had here: {error}")
    with appliance(routes=home_and({"smarthost": "127.0.0.1:25", "tls": "none"}, inbox)) as server:
        ask(server, message("loop"))
        assert b"5.4.6 mail loops back to myself" in inbox.wait(1)[0]
    sink.__exit__()
    assert not sink.messages


class OwnName(Sink):
    def talk(self, connection):
        connection.sendall(b"220 localhost\r\n")
        while line := connection.recv(4096):
            connection.sendall(b"250 localhost\r\n" if line.startswith(b"EHLO") else b"221 Bye\r\n")


# covers: 12.10
@pytest.mark.parametrize("host, arrives", [("localhost", True), ("127.0.0.1", True), ("localhost.", True)])
def test_a_verified_route_to_postfix(appliance, directory, host, arrives):
    with Postfix(directory / "postfix") as postfix:
        route = {"smarthost": f"{host}:{postfix.port}", "tls": "verified", "ca_file": directory / "postfix" / "ca.pem"}
        with appliance(routes=[route]) as server:
            ask(server, message("secret"))
            arrived = postfix.maildir.wait(1)[0]
            assert b"TLSv1.3" in arrived.split(b"Received:")[1]


# covers: 12.10
def test_a_verified_route_to_postfix_with_a_ca_that_nobody_knows(appliance, directory):
    """Not in the clear, not to anybody: it waits, and the log says what to do."""
    with Postfix(directory / "postfix") as postfix:
        with appliance(routes=[{"smarthost": f"localhost:{postfix.port}", "tls": "verified"}]) as server:
            ask(server, message("secret"))
            server.wait_log("signed by no CA that is trusted here; name its CA with ca_file")
            assert not postfix.maildir.files()


# covers: 12.4
def test_a_message_that_requires_tls_and_a_postfix_that_does_not_know_of_it(appliance, directory):
    """It goes back with 5.7.30; one that needs no TLS goes through a route that demands more than there is."""
    inbox = Maildir(directory / "inbox")
    with Postfix(directory / "postfix") as postfix:
        route = {"smarthost": f"localhost:{postfix.port}", "ca_file": directory / "postfix" / "ca.pem"}
        with appliance(routes=home_and(route, inbox)) as server:
            ask(server, message("secret"), " REQUIRETLS")
            bounce = inbox.wait(1)[0]
            assert b"5.7.30" in bounce and b"Hello." not in bounce
            ask(server, message("open"))
            assert b"<open@" in lf(postfix.maildir.wait(1)[0])


# covers: 12.4
def test_a_header_that_says_that_tls_is_not_required(appliance):
    with Sink() as sink:
        with appliance(routes=[{"smarthost": f"127.0.0.1:{sink.port}", "tls": "required"}]) as server:
            ask(server, message("usual"))
            server.wait_log("TLS is required and not offered")
            ask(server, message("open", mime=b"TLS-Required: No\r\n"))
            wait_for(lambda: sink.messages, 20, "it does not arrive")
            assert len(sink.messages) == 1 and b"<open@" in sink.messages[0][3]
