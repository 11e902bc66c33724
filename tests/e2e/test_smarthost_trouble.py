"""A next hop that is down, silent, garbled, refuses TLS, or hangs up: mail stays queued, the log says why, nothing is lost."""

import threading

import pytest

from appliance import free_port, wait_for
from fakes import Garbled, Silent, Sink
from mail import Maildir, added_fields, lf, message
from servers import Postfix
from wire import Wire, submit

COUNT = 5


def smarthost(port, tls="none"):
    return {"routes": [{"smarthost": f"127.0.0.1:{port}", "tls": tls}]}


def accept_some(server):
    for number in range(COUNT):
        assert submit(server.port["submissions"], message(f"m{number}")).startswith("250 2.0.0")


def all_arrive(messages):
    """Each of them, once, unchanged; the list is filled by a sink."""
    assert len(messages) == COUNT
    for number in range(COUNT):
        content = message(f"m{number}")
        found = [one for *_, one in messages if f"<m{number}@".encode() in one]
        assert len(found) == 1
        added_fields(content, found[0])


def deliver(sink, server, seconds=30):
    wait_for(lambda: len(sink.messages) >= COUNT, seconds, lambda: f"{len(sink.messages)} arrived:\n{server.log_text()[-3000:]}")
    all_arrive(sink.messages)


def test_down_then_up(appliance):
    port = free_port()
    with appliance(**smarthost(port)) as server:
        accept_some(server)
        server.wait_log("(?i)connection refused")
        with Sink(port) as sink:
            deliver(sink, server)


def test_down_over_a_restart(appliance):
    port = free_port()
    server = appliance(**smarthost(port))
    with server:
        accept_some(server)
        server.wait_log("(?i)connection refused")
    with server, Sink(port) as sink:
        deliver(sink, server)


def test_a_real_postfix_that_goes_and_comes_back(appliance, directory):
    postfix = Postfix(directory / "postfix")
    with appliance(**smarthost(postfix.port)) as server:
        accept_some(server)
        server.wait_log("(?i)connection refused")
        with postfix:
            for arrived in postfix.maildir.wait(COUNT, 40):
                number = arrived.split(b"Message-ID: <m")[1][:1].decode()
                added_fields(lf(message(f"m{number}")), arrived)


@pytest.mark.parametrize("kind", [Silent, Garbled])
def test_silent_or_garbled_then_well(appliance, kind):
    """A silent host holds nobody else up: the server goes on, and stops when told to."""
    port = free_port()
    server = appliance(**smarthost(port))
    with server:
        with kind(port) as host:
            accept_some(server)
            wait_for(lambda: host.connections > 0, 15, "nothing connects")
            if kind is Garbled:
                server.wait_log("deferred|unreachable")
    with server, Sink(port) as sink:
        deliver(sink, server)


def test_a_slow_host_does_not_hold_up_another(appliance, directory):
    with Silent() as silent:
        routes = [{"domains": ["example.org"], "smarthost": f"127.0.0.1:{silent.port}", "tls": "none"},
                  {"maildir": directory / "inbox"}]
        with appliance(routes=routes) as server:
            for number in range(20):
                submit(server.port["submissions"], message(f"slow{number}"), recipients=["ben@example.org"])
            submit(server.port["submissions"], message("quick"), recipients=["ben@example.edu"])
            assert b"<quick@" in Maildir(directory / "inbox").wait(1)[0]


@pytest.mark.parametrize("offers", [(), ("STARTTLS",)])
def test_tls_required_and_refused(appliance, offers):
    """Not offered, or offered and refused: never in the clear. It goes when TLS works."""
    port = free_port()
    with appliance(**smarthost(port, tls="required")) as server:
        with Sink(port, offers=offers, replies={"STARTTLS": "454 4.7.0 TLS not available"}) as sink:
            accept_some(server)
            server.wait_log("(?i)tls")
            server.wait_log("deferred|unreachable")
            assert not sink.messages


def test_tls_broken_is_tried_in_the_clear_when_opportunistic(appliance):
    with Sink(offers=("STARTTLS", "PIPELINING"), replies={"STARTTLS": "454 4.7.0 TLS not available"}) as sink:
        with appliance(**smarthost(sink.port, tls="opportunistic")) as server:
            accept_some(server)
            deliver(sink, server)


@pytest.mark.parametrize("step, reply", [
    ("", "421 4.3.2 Not now"),
    ("", "554 5.3.2 No service"),
    ("MAIL", "451 4.3.0 Later"),
    ("RCPT", "450 4.2.1 Busy"),
    ("DATA", "451 4.3.0 Later"),
    (".", "452 4.3.1 Full"),
    (".", "hang up"),
])
def test_a_temporary_error_at_each_step_is_tried_again(appliance, step, reply):
    with Sink(replies={step: reply}) as sink:
        with appliance(**smarthost(sink.port)) as server:
            accept_some(server)
            server.wait_log("deferred|unreachable")
            assert not sink.messages
            sink.replies.clear()
            deliver(sink, server)


@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA", "."])
def test_a_permanent_error_at_each_step_goes_back_to_the_sender(appliance, directory, step):
    inbox = Maildir(directory / "inbox")
    with Sink(replies={step: "550 5.7.1 Never"}) as sink:
        routes = [{"domains": ["example.edu"], "maildir": inbox.path}, {"smarthost": f"127.0.0.1:{sink.port}", "tls": "none"}]
        with appliance(routes=routes) as server:
            submit(server.port["submissions"], message("no"))
            bounce = inbox.wait(1)[0]
            assert b"550 5.7.1 Never" in bounce and b"multipart/report" in bounce
            assert not sink.messages


def test_expiry_goes_back_to_the_sender(appliance, directory):
    inbox = Maildir(directory / "inbox")
    routes = [{"domains": ["example.edu"], "maildir": inbox.path}, {"smarthost": f"127.0.0.1:{free_port()}", "tls": "none"}]
    with appliance(routes=routes, relay={"expire_s": 3}) as server:
        submit(server.port["submissions"], message("old"))
        assert b"multipart/report" in inbox.wait(1, 30)[0]


def test_paused_keeps_and_released_delivers(appliance):
    with Sink() as sink:
        server = appliance(**smarthost(sink.port), relay={"paused": True})
        with server:
            accept_some(server)
        assert not sink.messages
        server.settings["relay"]["paused"] = False
        server.write_config()
        with server:
            deliver(sink, server)


def test_what_is_delivered_stays_delivered_over_restarts(appliance):
    with Sink() as sink:
        server = appliance(**smarthost(sink.port))
        with server:
            accept_some(server)
            deliver(sink, server)
        for _ in range(3):
            with server:
                threading.Event().wait(0.5)
        all_arrive(sink.messages)


class DiesOfPoison(Sink):
    """Its scanner does: the connection is cut when the content has come."""

    def __init__(self, *arguments, **more):
        super().__init__(*arguments, **more)
        self.cut = 0

    def keep_unless_poison(self, *one):
        if b"<poison-" in one[-1]:
            self.cut += 1
            raise OSError("the scanner has died")
        self.messages.append(one)


def test_messages_that_break_the_next_hop_hold_up_nobody_else(appliance):
    """Six of one sender's, and then another sender's mail: the host is not down, those messages are."""
    with DiesOfPoison() as sink:
        sink.keep = sink.keep_unless_poison
        with appliance(**smarthost(sink.port), relay={"retry_first_s": 3600, "retry_max_s": 3600}) as server:
            for number in range(6):
                submit(server.port["submissions"], message(f"poison-{number}"))
                wait_for(lambda: sink.cut == number + 1, 20, server.log_text)
            with Wire(server.port["submissions"], tls=True) as wire:
                wire.login("ben", "open up, please")
                wire.mail(message("good"), sender="ben@example.edu", recipients=["carl@example.org"])
            wait_for(lambda: len(sink.messages) == 1, 20, server.log_text)
            assert "destination unreachable" not in server.log_text()
