"""Real next hops that answer for each recipient by itself, at RCPT and after the content, for now and for good.

Each recipient has one fate: who is taken has the message once; who is put off is asked again, alone, until it is taken; who is
refused is in one notification, with the code and the words of the server, and is not asked again.
"""

import email
import email.policy
import re

import pytest

from appliance import wait_for
from mail import Maildir, message
from servers import Dovecot, Postfix
from test_queue import rows
from wire import Wire

FAST = {"retry_first_s": 1, "retry_max_s": 1}


def send(server, subject, recipients, sender="anna@example.edu", body=b"Hello.\r\n"):
    with Wire(server.port["submissions"], tls=True) as wire:
        wire.login()
        assert wire.mail(message(subject, body), sender=sender, recipients=recipients).startswith("250 2.0.0")


def failures(inbox):
    """What the sender was told: for each notification its message, and status and words by recipient."""
    told = []
    for content in inbox.contents():
        parsed = email.message_from_bytes(content, policy=email.policy.default)
        _, status, returned = parsed.iter_parts()
        blocks = status.get_payload()[1:]
        assert all(block["Action"] == "failed" for block in blocks)
        tag = re.search("<(.*)@", returned.get_content()["Message-ID"] if returned.get_content_type() == "message/rfc822"
                        else email.message_from_string(returned.get_content())["Message-ID"])[1]
        told.append((tag, {block["Final-Recipient"].split(";")[1].strip(): (block["Status"].split()[0], block["Diagnostic-Code"])
                           for block in blocks}))
    return told


def asked(postfix):
    """The recipients that Postfix refused or put off, in the order of its log."""
    return re.findall(r"\w+: reject: RCPT from .*? ([45]\d\d) .*? to=<(.*?)>", postfix.log_text())


class Choosy(Postfix):
    """By access table: `no-..` 550, `later-..` 450 until `relent`; at the end of the content: by the sender 4xx, by the subject 5xx."""

    def __init__(self, directory):
        etc = directory / "etc"
        etc.mkdir(parents=True)
        self.access = etc / "access"
        self.access.write_text("/^no-/ 550 5.1.1 Nobody of this name\n/^later-/ 450 4.2.1 Come back later\n")
        (etc / "senders").write_text("/^slow@/ 451 4.7.1 Too many of them today\n")
        (etc / "headers").write_text("/^Subject: forbidden/ REJECT 5.7.1 We do not want to read this\n")
        super().__init__(directory, settings={
            "smtpd_recipient_restrictions": f"check_recipient_access regexp:{self.access}, permit_mynetworks, reject",
            "smtpd_end_of_data_restrictions": f"check_sender_access regexp:{etc}/senders",
            "header_checks": f"regexp:{etc}/headers",
        })

    def relent(self):
        """Who was put off is taken from now on."""
        self.access.write_text("/^no-/ 550 5.1.1 Nobody of this name\n")
        (self.directory / "etc/senders").write_text("/^nobody@/ 451 4.7.1 No\n")
        done = self.command("reload")
        assert done.returncode == 0, done.stderr

    def arrived(self):
        """The subject and the recipient of each delivery."""
        found = [(re.search(rb"Message-ID: <(.*?)@", content)[1].decode(), re.search(rb"X-Original-To: (.*)", content)[1].decode())
                 for content in self.maildir.contents()]
        return sorted(found)


# covers: 12.5
def test_a_postfix_with_a_mind_of_its_own(appliance, directory):
    inbox = Maildir(directory / "inbox")
    with Choosy(directory / "postfix") as postfix:
        routes = [{"domains": ["example.edu"], "maildir": inbox.path}, {"smarthost": f"127.0.0.1:{postfix.port}", "tls": "required"}]
        with appliance(routes=routes, relay=FAST) as server:
            mixed = ["ben@example.org", "no-a@example.org", "later-a@example.org", "cleo@example.org", "no-b@example.org", "later-b@example.org"]
            send(server, "mixed", mixed)
            send(server, "refused", ["no-c@example.org", "no-d@example.org"])
            send(server, "waiting", ["later-c@example.org"])
            send(server, "forbidden", ["ben@example.org", "no-e@example.org", "later-d@example.org"])
            send(server, "slow", ["ben@example.org", "cleo@example.org"], sender="slow@example.edu")
            # Each of those who wait was asked again.
            again = {f"later-{letter}@example.org" for letter in "abcd"}
            wait_for(lambda: all(asked(postfix).count(("450", one)) > 1 for one in again), 30, lambda: f"{asked(postfix)}")
            wait_for(lambda: postfix.log_text().count("END-OF-MESSAGE") + postfix.log_text().count("Too many of them") > 1, 30,
                     lambda: postfix.log_text()[-3000:])
            assert postfix.arrived() == [("mixed", "ben@example.org"), ("mixed", "cleo@example.org")], "each once"
            postfix.relent()
            wait_for(lambda: not rows(server, "list"), 30, lambda: f"still queued: {rows(server, 'list')}")
            wait_for(lambda: len(postfix.arrived()) >= 7, 20, lambda: f"{postfix.arrived()}")
        arrived = postfix.arrived()
    assert arrived == sorted(
        [("mixed", one) for one in ("ben@example.org", "cleo@example.org", "later-a@example.org", "later-b@example.org")]
        + [("waiting", "later-c@example.org"), ("slow", "ben@example.org"), ("slow", "cleo@example.org")])
    nobody, forbidden = ("5.1.1", "Nobody of this name"), ("5.7.1", "We do not want to read this")
    expected = {
        "mixed": {"no-a@example.org": nobody, "no-b@example.org": nobody},
        "refused": {"no-c@example.org": nobody, "no-d@example.org": nobody},
        # Who was put off at RCPT is refused for the content when taken there.
        "forbidden": {"ben@example.org": forbidden, "no-e@example.org": nobody, "later-d@example.org": forbidden},
    }
    told = {}
    for subject, recipients in failures(inbox):
        assert not told.get(subject, {}).keys() & recipients.keys(), "nobody is told twice"
        told.setdefault(subject, {}).update(recipients)
    assert {subject: set(recipients) for subject, recipients in told.items()} == {subject: set(all) for subject, all in expected.items()}
    for subject, recipients in expected.items():
        for recipient, (status, words) in recipients.items():
            assert told[subject][recipient][0] == status and words in told[subject][recipient][1], told[subject][recipient]
    for recipient in ("no-a", "no-b", "no-c", "no-d", "no-e"):
        assert asked(postfix).count(("550", f"{recipient}@example.org")) == 1, "refused for good is not asked again"


# covers: 12.5
def test_a_dovecot_with_a_full_mailbox_and_nobody(appliance, directory):
    """After the content LMTP answers for each recipient: taken, full for good, full for now; and at RCPT for nobody."""
    inbox = Maildir(directory / "inbox")
    users = {"ben": "", "cleo": "", "full": "userdb_quota_rule=*:bytes=1K", "later": "userdb_quota_rule=*:bytes=1K userdb_quota_full_tempfail=yes"}
    dovecot = Dovecot(directory / "dovecot", users=users)
    if not dovecot.is_2_3():
        pytest.skip("the quota is written as version 2.3 wants it")
    with dovecot:
        routes = [{"domains": ["example.edu"], "maildir": inbox.path}, {"lmtp": f"127.0.0.1:{dovecot.lmtp_port}"}]
        with appliance(routes=routes, relay=FAST) as server:
            everybody = ["ben", "full", "nobody", "later", "cleo"]
            send(server, "mixed", [f"{user}@example.org" for user in everybody], body=b"x" * 70 + b"\r\n" + b"y" * 990 + b"\r\n")
            server.wait_log(r'"deferred".*later@example.org.*"code":"452"', times=2)
            # The mailbox has room again.
            file = dovecot.directory / "users"
            new = file.with_suffix(".new")
            new.write_text(file.read_text().replace("bytes=1K userdb_quota_full_tempfail=yes", "bytes=1M"))
            new.rename(file)
            wait_for(lambda: not rows(server, "list"), 30, lambda: f"still queued: {rows(server, 'list')}")
        arrived = {user: len(dovecot.maildir(user).files()) for user in everybody}
        log = server.log_text()
    assert arrived == {"ben": 1, "cleo": 1, "later": 1, "full": 0, "nobody": 0}, arrived
    told = {}
    for _, recipients in failures(inbox):
        assert not told.keys() & recipients.keys(), "nobody is told twice"
        told |= recipients
    assert set(told) == {"full@example.org", "nobody@example.org"}, told
    assert told["nobody@example.org"][0] == "5.1.1" and "550" in told["nobody@example.org"][1]
    assert told["full@example.org"][0] == "5.2.2" and "552" in told["full@example.org"][1]
    assert len(re.findall('"delivered".*(?:ben|cleo)@example.org', log)) == 2, "delivered to once each"
