"""Somebody between client and server takes STARTTLS away: no password crosses in the clear, and no message is taken without one."""

import base64

import pytest

from clients import CLIENTS, Sending
from interferer import Interferer
from mail import added_fields, lf, message
from mail_programs import LIBRARIES, PROGRAMS, with_library
from wire import Wire, plain, submit

ALL = {
    **CLIENTS,
    **{name: lambda sending, name=name: with_library(name, sending) for name in LIBRARIES},
    **{name: PROGRAMS[name][0] for name in ("mutt", "s-nail")},
}
# The user name and the password by themselves and as AUTH sends them.
SECRETS = [b"sesame", plain("anna", "sesame").encode(), base64.b64encode(b"sesame")]


def leaked(interferer):
    return [secret for secret in SECRETS if secret in interferer.sent]


# covers: 4.1 4.2
@pytest.mark.parametrize("way", Interferer.WAYS)
def test_no_program_gives_its_password_away(server, way):
    # The programs do the same under epoll; one shows it.
    programs = ALL if server.settings[""]["io"] == "auto" else CLIENTS
    for name, send in programs.items():
        for mechanism in ("PLAIN",) if name in LIBRARIES else ("PLAIN", "LOGIN"):
            with Interferer(server.port["submission"], way) as between:
                sending = Sending(between.port, "starttls", server.ca, message("seen"), mechanism, directory=server.directory)
                taken, words = send(sending)
                assert not taken, (name, words[-3000:])
                assert not leaked(between), (name, leaked(between))
                assert between.sent or "refused" not in words, (name, words[-3000:])
    assert not server.maildir.files()


# covers: 4.1 4.2
@pytest.mark.parametrize("way", Interferer.WAYS)
@pytest.mark.parametrize("client", CLIENTS)
def test_a_program_that_goes_on_in_the_clear_is_refused(server, way, client):
    with Interferer(server.port["submission"], way) as between:
        sending = Sending(between.port, "none", server.ca, message("clear"), directory=server.directory)
        taken, words = CLIENTS[client](sending)
        assert not taken and not leaked(between), words[-3000:]
        taken, words = CLIENTS[client](Sending(**{**sending.__dict__, "mechanism": None}))
        assert not taken and ("530" in words or "5.7.0" in words), words[-3000:]
    assert not server.maildir.files()


# covers: 4.1 4.2 10.14
@pytest.mark.parametrize("way", Interferer.WAYS)
def test_a_password_sent_all_the_same_is_not_taken(server, way):
    """A program that was told to use AUTH and looks at nothing: it is never asked to go on, and a right password is refused."""
    for listener, refusal, unknown in (("submission", "530 5.7.0", "530 5.7.0"), ("smtp", "538 5.7.11", "500 5.5")):
        with Interferer(server.port[listener], way) as between, Wire(between.port) as wire:
            if way == "no-ehlo":
                wire.say("EHLO client.example", unknown)
                wire.say("HELO client.example", "530 5.7.0" if listener == "submission" else "250")
            else:
                assert "AUTH" not in wire.say("EHLO client.example", "250")
            refused = {"454": "454", "500": "500", "rewrites": unknown}.get(way)
            if refused:
                wire.say("STARTTLS", refused)
            wire.say(f"AUTH PLAIN {plain('anna', 'sesame')}", refusal)
            wire.say("AUTH LOGIN", refusal)
            wire.say("AUTH PLAIN", refusal)
            wire.say("MAIL FROM:<anna@example.edu>", "530 5.7.0" if listener == "submission" else "250")
            wire.say("RCPT TO:<ben@example.org>", "530 5.7.0" if listener == "submission" else "550 5.7.1")
            wire.say("QUIT", "221")
    assert not server.maildir.files()
    assert "sesame" not in server.log_text() and plain("anna", "sesame") not in server.log_text()


HELP = "https://help.example.edu/mail"


# covers: 4.1 4.3 1.6
@pytest.mark.parametrize("way", Interferer.WAYS)
def test_the_refusal_tells_where_help_is(appliance, way):
    """Who reads the error of a program that cannot send learns where to ask."""
    with appliance(top={"help": HELP}) as server:
        with Interferer(server.port["submission"], way) as between, Wire(between.port) as wire:
            for command in (f"AUTH PLAIN {plain('anna', 'sesame')}", "MAIL FROM:<anna@example.edu>"):
                assert HELP in wire.say(command, "530 5.7.0"), command
        with Wire(server.port["submissions"], tls=True) as wire:
            wire.say("EHLO client.example", "250")
            assert HELP in wire.say("MAIL FROM:<anna@example.edu>", "530 5.7.0")


NEVER = r'"event":"client never used STARTTLS".*"network":"127\.0\.0\.'


# covers: 4.1
@pytest.mark.parametrize("way", Interferer.WAYS)
def test_the_log_has_a_line_of_its_own_for_it(server, way):
    """Whoever runs the server learns in which network it happens, whether the client goes or goes on."""
    with Interferer(server.port["submission"], way) as between:
        with Wire(between.port) as wire:
            wire.send("EHLO client.example\r\n")
            wire.reply()
            if way in ("454", "500"):
                wire.say("STARTTLS", way)
            wire.say("MAIL FROM:<anna@example.edu>", "530 5.7.0")
            wire.say("QUIT", "221")
        server.wait_log(NEVER)


# covers: 4.1
def test_control_the_log_has_no_such_line_for_others(server):
    """Not for a session that was secured, nor for a port without STARTTLS, nor for who did not even say hello."""
    with Wire(server.port["submission"]) as wire:
        wire.starttls()
        wire.login()
        wire.say("QUIT", "221")
    submit(server.port["submissions"], message("implicit"))
    with Wire(server.port["submission"]) as wire:
        wire.say("QUIT", "221")
    server.stop()
    assert "never used STARTTLS" not in server.log_text()
    server.start()


# covers: 4.1
def test_control_through_a_proxy_that_changes_nothing_all_is_well(server):
    content = message("through")
    with Interferer(server.port["submission"], "passes") as between:
        for client in CLIENTS.values():
            taken, words = client(Sending(between.port, "starttls", server.ca, content, directory=server.directory))
            assert taken, words[-3000:]
        assert not leaked(between)
    for arrived in server.maildir.wait(len(CLIENTS)):
        added_fields(lf(content), arrived)


def test_control_a_secret_in_the_clear_is_seen(server):
    with Interferer(server.port["submission"], "strips") as between, Wire(between.port) as wire:
        wire.say("EHLO client.example", "250")
        wire.say(f"AUTH PLAIN {plain('anna', 'sesame')}", "530")
        assert leaked(between)
