"""Direct delivery: to the mail servers that a real name server names for each recipient's domain."""

import email
import email.policy
import re

import pytest

from appliance import certificate, free_port, wait_for
from fakes import Silent, Sink
from mail import Maildir, message
from name_server import NameServer
from servers import Postfix
from wire import Wire, submit

OWN = "relay.test"

# Hosts by their last octet: 127.0.0.9 is nobody.
ZONE = r"""
dead A 127.0.0.9
one A 127.0.0.1
two A 127.0.0.2
three A 127.0.0.3
relay A 127.0.0.1
several MX 20 two
several MX 10 dead
several MX 30 three
equal MX 10 two
equal MX 10 three
implicit A 127.0.0.2
null MX 0 .
alias CNAME several
aliashost MX 10 hostalias
hostalias CNAME two
nothing TXT "neither MX nor an address"
nohost MX 10 gone
nohost MX 20 nothing
private MX 10 inside
inside A 10.1.2.3
behind MX 10 two
behind MX 20 relay
behind MX 30 three
only-us MX 10 relay
only-us MX 20 three
odd MX 10 a\013\010b\027.test.
delegated NS ns.delegated
ns.delegated A 127.0.0.9
late MX 10 two
many MX 10 two
circle CNAME elcric
elcric CNAME circle
xn--mnchen-3ya MX 10 two
"""
ZONES = {"test": ZONE, "broken": None}


def routes(inbox, port, **more):
    """The senders' own domain into a Maildir, everything else to whom DNS says."""
    return [
        {"domains": ["example.edu"], "maildir": inbox.path},
        {"mx": True, "port": port, "reachable_networks": ["127.0.0.0/8"], **more},
    ]


class World:
    """A name server, two mail servers on 127.0.0.2 and 127.0.0.3 with one port, and Penstock."""

    def __init__(self, appliance, directory, zones=ZONES, route=None, relay=None, sinks=None):
        self.port = free_port()
        self.inbox = Maildir(directory / "bounces")
        self.names = NameServer(directory / "names", zones)
        two, three = sinks or ({}, {})
        self.two = Sink(self.port, host="127.0.0.2", **two)
        self.three = Sink(self.port, host="127.0.0.3", **three)
        self.server = appliance(
            top={"hostname": OWN},
            routes=routes(self.inbox, self.port, **(route or {})),
            relay={"name_servers": [self.names.address], "dns_timeout_s": 1, "retry_first_s": 1, "retry_max_s": 2, **(relay or {})},
        )

    def __enter__(self):
        for part in (self.names, self.two, self.three, self.server):
            part.__enter__()
        return self

    def __exit__(self, *error):
        for part in (self.server, self.three, self.two, self.names):
            part.__exit__(*error)

    def send(self, tag, *recipients):
        assert submit(self.server.port["submissions"], message(tag), recipients=recipients).startswith("250")

    def arrived(self, sink):
        return [recipients for _, _, recipients, _ in sink.messages]

    def bounce(self, tag):
        """The text for people and the status of the notification about the message with this tag."""
        parsed = email.message_from_bytes(self.inbox.find(f"Message-ID: <{tag}@example.edu>"), policy=email.policy.default)
        people, status, _ = parsed.iter_parts()
        return people.get_content(), "".join(str(block) for block in status.get_payload())


@pytest.fixture
def world(appliance, directory):
    with World(appliance, directory) as running:
        yield running


# covers: 12.11
def test_the_lowest_preference_that_is_there(world):
    """A dead first host costs no retry, and is not asked again for the next message."""
    for number in range(5):
        world.send(f"several-{number}", "ben@several.test")
    wait_for(lambda: len(world.two.messages) == 5, 20, world.server.log_text)
    assert not world.three.messages
    log = world.server.log_text()
    assert '"deferred"' not in log and "destination unreachable" not in log
    world.server.wait_log(r"delivered.*two\.test\[127\.0\.0\.2\]")
    world.server.wait_log("host is down, its pool goes on without.*dead.test")


def test_equal_preferences_share_the_mail(world):
    for number in range(24):
        world.send(f"equal-{number}", "ben@equal.test")
        wait_for(lambda: len(world.two.messages) + len(world.three.messages) == number + 1, 20, world.server.log_text)
        if world.two.messages and world.three.messages:
            return
        # A connection is used again as long as it is open: another begins after it.
        world.server.stop()
        world.server.start()
    raise AssertionError("24 connections to one of two equal servers")


@pytest.mark.parametrize("domain", ["implicit.test", "alias.test", "aliashost.test", "IMPLICIT.Test", "[127.0.0.2]"])
def test_where_mail_goes(world, domain):
    world.send("goes", f"ben@{domain}")
    wait_for(lambda: world.arrived(world.two) == [[f"ben@{domain}"]], 20, world.server.log_text)


# covers: 5.16 12.8
@pytest.mark.parametrize(
    "domain, code, words",
    [
        ("null.test", "556 5.1.10", "null.test does not accept mail (null MX)"),
        ("nowhere.test", "550 5.1.2", "there is no domain nowhere.test"),
        ("nothing.test", "550 5.4.4", "nothing.test has no mail server: neither MX nor an address in DNS"),
        ("nohost.test", "550 5.4.4", "the mail servers of nohost.test have no address in DNS: gone.test, nothing.test"),
        ("private.test", "550 5.4.4", "no public address: inside.test has 10.1.2.3, a private address"),
        ("[10.1.2.3]", "550 5.4.4", "[10.1.2.3] is no public address: a private address"),
        ("only-us.test", "554 5.4.6", "mail loops back to myself"),
        ("odd.test", "550 5.4.4", "are no hosts"),
    ],
)
def test_mail_that_has_nowhere_to_go_goes_back_at_once(world, domain, code, words):
    world.send("back", f"ben@{domain}")
    people, status = world.bounce("back")
    assert f"    {code} " in people and words in people and "It could not be sent from here" in people, people
    assert f"Status: {code[4:]}" in status, status
    log = world.server.log_text()
    assert '"bounced"' in log and "\x1b" not in log and "\\u001b" not in log and "\\r" not in log
    assert not world.two.messages and not world.three.messages


# covers: 12.14
def test_our_own_host_and_what_is_behind_it_are_left_out(world):
    world.send("behind", "ben@behind.test")
    wait_for(lambda: len(world.two.messages) == 1, 20, world.server.log_text)
    world.two.__exit__()
    world.send("behind-again", "ben@behind.test")
    world.server.wait_log("destination unreachable, mail stays queued.*mx of behind.test")
    assert not world.three.messages
    world.two.__enter__()


class OwnName(Sink):
    """Penstock itself, by another name and at an address of another."""

    def talk(self, connection):
        connection.sendall(f"220 {OWN}\r\n".encode())
        while line := connection.recv(4096):
            connection.sendall(f"250 {OWN}\r\n".encode() if line.startswith(b"EHLO") else b"221 Bye\r\n")


# covers: 12.14
def test_who_turns_out_to_be_ourselves_ends_the_search(appliance, directory):
    """On port 25, where no other program has our name."""
    zones = {"test": "alias MX 10 two\nalias MX 20 three\ntwo A 127.0.0.2\nthree A 127.0.0.3\n"}
    inbox = Maildir(directory / "bounces")
    try:
        ourselves, behind = OwnName(25, host="127.0.0.2"), Sink(25, host="127.0.0.3")
        ourselves.__enter__()
        behind.__enter__()
    except OSError as error:
        pytest.skip(f"port 25 is not to be had here: {error}")
    with NameServer(directory / "names", zones) as names:
        relay = {"name_servers": [names.address]}
        with appliance(top={"hostname": OWN}, routes=routes(inbox, 25, tls="none"), relay=relay) as server:
            submit(server.port["submissions"], message("circle"), recipients=["ben@alias.test"])
            assert b"5.4.6 mail loops back to myself" in inbox.find("5.4.6")
    behind.__exit__()
    ourselves.__exit__()
    assert not behind.connections


@pytest.mark.parametrize(
    "domain, words",
    [
        ("x.broken", "the name server could not find out"),
        ("example.org", "the name server refuses to answer"),
        ("delegated.test", "the name server only refers to others"),
        # RFC 5321 section 5.1: that an alias leads nowhere is no word that there is nobody.
        ("circle.test", "does not say that there is nobody"),
    ],
)
def test_trouble_of_name_servers_is_no_answer(world, domain, words):
    world.send("trouble", f"ben@{domain}")
    world.server.wait_log(f"destination unreachable, mail stays queued.*mx of {domain}.*4\\.4\\.3 .*{words}", times=2)
    assert not world.inbox.files() and '"bounced"' not in world.server.log_text()


def test_a_name_server_that_is_silent_and_comes_back(world):
    world.names.pause()
    world.send("late", "ben@late.test")
    world.server.wait_log("destination unreachable, mail stays queued.*4\\.4\\.3 .*late.test.*do not answer")
    shown = world.server.hands("queue", "list", "--config", world.server.config).stdout
    assert "mx of late.test" in shown or "late.test" in shown, shown
    world.names.go_on()
    wait_for(lambda: len(world.two.messages) == 1, 30, world.server.log_text)
    assert not world.inbox.files()


def test_recipients_of_one_domain_are_one_transaction(world):
    recipients = [f"r{number}@many.test" for number in range(20)] + ["x@implicit.test", "y@MANY.test"]
    world.send("many", *recipients)
    wait_for(lambda: len(world.two.messages) == 2, 20, world.server.log_text)
    assert sorted(len(one) for one in world.arrived(world.two)) == [1, 21]


def test_an_internationalised_domain_is_asked_for_by_its_a_labels(world):
    with Wire(world.server.port["submissions"], tls=True) as wire:
        wire.login()
        wire.say("MAIL FROM:<anna@example.edu> SMTPUTF8", "250")
        wire.say("RCPT TO:<ben@münchen.test>", "250")
        wire.say("DATA", "354")
        wire.send(message("idn") + b".\r\n")
        wire.expect("250")
    wait_for(lambda: world.arrived(world.two) == [["ben@münchen.test"]], 20, world.server.log_text)


def test_dns_that_changes_is_followed(world):
    world.send("before", "ben@late.test")
    wait_for(lambda: len(world.two.messages) == 1, 20, world.server.log_text)
    world.names.stop()
    world.names.zones = {"test": ZONE.replace("late MX 10 two", "late MX 10 three")}
    world.names.__enter__()
    number = 0
    # TTLs are a second, and a connection that is open is used.
    while not world.three.messages:
        world.send(f"after-{number}", "ben@late.test")
        wait_for(lambda: len(world.two.messages) + len(world.three.messages) == number + 2, 20, world.server.log_text)
        number += 1
        assert number < 500


# covers: 12.4 12.10
def test_tls_with_the_name_that_dns_has(appliance, directory):
    """Postfix has a certificate for localhost and 127.0.0.1: by that name it is verified, by another it is not."""
    zones = {"test": "right MX 10 localhost.\nwrong MX 10 one\none A 127.0.0.1\n"}
    with Postfix(directory / "postfix") as postfix, NameServer(directory / "names", zones) as names:
        _, _, ca = certificate(postfix.directory)
        inbox = Maildir(directory / "bounces")
        there = routes(inbox, postfix.port, tls="verified", ca_file=ca)
        relay = {"name_servers": [names.address], "retry_first_s": 1, "retry_max_s": 2}
        with appliance(top={"hostname": OWN}, routes=there, relay=relay) as server:
            submit(server.port["submissions"], message("wrong"), recipients=["ben@wrong.test"])
            server.wait_log("destination unreachable, mail stays queued.*mx of wrong.test.*one.test.*TLS handshake")
            postfix_says = lambda: postfix.log_text() + server.log_text()
            submit(server.port["submissions"], message("right"), recipients=["ben@right.test"])
            # It is not its domain: that it says so is proof enough that it was spoken to.
            wait_for(lambda: "ben@right.test" in postfix.log_text(), 20, postfix_says)
            assert "ben@wrong.test" not in postfix.log_text()
            # Nobody proves whose mail server DNS names.
            with Wire(server.port["submissions"], tls=True) as wire:
                wire.login()
                wire.say("MAIL FROM:<anna@example.edu> REQUIRETLS", "250")
                wire.say("RCPT TO:<ben@right.test>", "250")
                wire.say("DATA", "354")
                wire.send(message("proven") + b".\r\n")
                wire.expect("250")
            # The notification requires TLS too, and a Maildir is final delivery.
            assert b"550 5.7.10 the sender requires TLS with a proven name" in inbox.find("5.7.10")


def test_a_real_mail_server_is_found_behind_a_dead_one(appliance, directory):
    with Postfix(directory / "postfix") as postfix:
        zones = {"org": "example MX 10 dead.example\nexample MX 20 live.example\ndead.example A 127.0.0.9\nlive.example A 127.0.0.1\n"}
        with NameServer(directory / "names", zones) as names:
            there = routes(Maildir(directory / "bounces"), postfix.port)
            with appliance(top={"hostname": OWN}, routes=there, relay={"name_servers": [names.address]}) as server:
                for number in range(10):
                    submit(server.port["submissions"], message(f"real-{number}"), recipients=["ben@example.org"])
                postfix.maildir.wait(10)
                shown = server.hands("trace", "--config", server.config, "ben@example.org").stdout
                assert "live.example.org[127.0.0.1]" in shown, shown


# covers: 12.5
def test_a_mailing_to_very_many_domains(appliance, directory):
    """Each is a destination of its own; another sender's single mail is not behind them."""
    zones = {"test": "two A 127.0.0.2\n*.wild MX 10 two\nsingle MX 10 two\n"}
    domains = 400
    with World(appliance, directory, zones, relay={"mx_connections_max": 4}) as world:
        world.send("wild", *(f"ben@d{number}.wild.test" for number in range(domains)))
        with Wire(world.server.port["submissions"], tls=True) as wire:
            wire.login("ben", "open up, please")
            wire.mail(message("single"), sender="ben@example.edu", recipients=["carl@single.test"])
        wait_for(lambda: len(world.two.messages) == domains + 1, 60, lambda: str(len(world.two.messages)))
        arrived = [recipients[0] for recipients in world.arrived(world.two)]
        assert len(set(arrived)) == domains + 1
        assert max(len(world.two.open), 0) <= 4
        shown = world.server.hands("queue", "stats", "--config", world.server.config).stdout
        assert re.search(r"mx", shown), shown


def test_a_mailing_to_servers_that_say_nothing_holds_half_of_the_connections(appliance, directory):
    """They accept and keep silent, for minutes: another sender's mail does not wait for their end."""
    tarpits = [f"127.0.0.{number}" for number in (4, 5, 6)]
    zone = "two A 127.0.0.2\nsingle MX 10 two\n" + "".join(
        f"*.t{at} MX 10 t{at}\nt{at} A {address}\n" for at, address in enumerate(tarpits))
    with World(appliance, directory, {"test": zone}, relay={"mx_connections_max": 10}) as world:
        silent = [Silent(world.port, host=address) for address in tarpits]
        for tarpit in silent:
            tarpit.__enter__()
        held = lambda: sum(len(tarpit.open) for tarpit in silent)
        world.send("tar", *(f"ben@d{number}.t{number % 3}.test" for number in range(60)))
        wait_for(lambda: held() == 5, 20, world.server.log_text)
        for number in range(3):
            with Wire(world.server.port["submissions"], tls=True) as wire:
                wire.login("ben", "open up, please")
                wire.mail(message(f"single-{number}"), sender="ben@example.edu", recipients=["carl@single.test"])
            wait_for(lambda: len(world.two.messages) == number + 1, 20, world.server.log_text)
        assert held() == 5
        for tarpit in silent:
            tarpit.__exit__()


def test_domains_at_one_address_are_one_destination(appliance, directory):
    """Forty domains, and their mail server says nothing: few find that out for all of them."""
    zones = {"test": "*.parked MX 10 park\npark A 127.0.0.4\n"}
    domains = 40
    relay = {"reply_timeout_s": 2}
    with World(appliance, directory, zones, route={"domain_connections_max": 3}, relay=relay) as world:
        with Silent(world.port, host="127.0.0.4") as silent:
            world.send("parked", *(f"ben@d{number}.parked.test" for number in range(domains)))
            wait_for(lambda: len(silent.open) == 3, 20, world.server.log_text)
            wait_for(lambda: len(set(re.findall(r"mail stays queued.*?mx of (d\d+)\.parked", world.server.log_text()))) == domains,
                     30, world.server.log_text)
            assert silent.connections <= 6, silent.connections
            assert "as was found a moment ago" in world.server.log_text()
        with Sink(world.port, host="127.0.0.4") as back:
            wait_for(lambda: len(back.messages) == domains, 60, world.server.log_text)
            assert len({recipient for _, _, recipients, _ in back.messages for recipient in recipients}) == domains


def test_check_says_that_such_mail_is_not_signed(appliance, directory):
    server = appliance(routes=[{"mx": True}])
    done = server.hands("check", "--config", server.config)
    assert "without a DKIM signature" in done.stdout + done.stderr
