"""SIGTERM and SIGINT: stop accepting, finish what is in DATA, 421 4.3.2 to the rest, exit 0."""

import signal
import socket
import threading
import time

import pytest

from appliance import wait_for
from mail import added_fields, lf, message
from wire import Wire


@pytest.mark.parametrize("with_signal", [signal.SIGTERM, signal.SIGINT])
def test_data_in_progress_is_finished_and_the_rest_told(appliance, with_signal):
    server = appliance()
    with server:
        content = message("in-data", b"one\r\n" * 1000)
        busy, idle, envelope, fresh = (Wire(server.port["submissions"], tls=True) for _ in range(4))
        for wire in (busy, idle, envelope):
            wire.login()
        for wire in (busy, envelope):
            wire.say("MAIL FROM:<anna@example.edu>", "250")
            wire.say("RCPT TO:<ben@example.org>", "250")
        busy.say("DATA", "354")
        busy.send(content[:2000])
        server.process.send_signal(with_signal)
        for wire in (idle, envelope, fresh):
            assert wire.reply().startswith("421 4.3.2"), "an idle session is told"
            assert wire.at_end()
        # Each core hears of it by itself, and those three may have been with one of them.
        wait_for(lambda: not server.answers(server.port["submissions"]) or refused(server), 10, "a core still listens")
        busy.send(content[2000:] + b".\r\n")
        assert busy.reply().startswith("250 2.0.0 Ok: queued as ")
        assert busy.reply().startswith("421 4.3.2")
        server.ended()
    with server:  # And the promise holds.
        added_fields(lf(content), server.maildir.wait(1)[0])


def refused(server):
    """A connection that the kernel took before the listener closed gets no greeting but the 421."""
    try:
        with socket.create_connection(("127.0.0.1", server.port["smtp"]), timeout=5) as connection:
            return b"220" not in connection.recv(100)
    except OSError:
        return True


def test_a_client_that_never_ends_its_data_is_cut_off(appliance):
    """The deadline is `drain_s`."""
    server = appliance(limits={"drain_s": 1})
    with server:
        wire = Wire(server.port["submissions"], tls=True)
        wire.login()
        wire.say("MAIL FROM:<anna@example.edu>", "250")
        wire.say("RCPT TO:<ben@example.org>", "250")
        wire.say("DATA", "354")
        wire.send(message("never"))
        server.process.send_signal(signal.SIGTERM)
        server.ended()
    with server:
        threading.Event().wait(0.5)
        assert not server.maildir.files()


def test_shutdown_under_load_loses_nothing(appliance):
    """Sessions that send all the time; every 250 before the end is there after the next start."""
    server = appliance()
    promised = []
    with server:
        def session(number):
            try:
                with Wire(server.port["smtp"]) as wire:
                    wire.say("EHLO client.example", "250")
                    for count in range(10_000):
                        tag = f"s{number}-{count}-end"
                        if not wire.mail(message(tag), recipients=["ben@example.edu"]).startswith("250"):
                            return
                        promised.append(tag)
            except (AssertionError, OSError):
                pass

        threads = [threading.Thread(target=session, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        threading.Event().wait(1)
        server.process.send_signal(signal.SIGTERM)
        server.ended()
        for thread in threads:
            thread.join(20)
    assert promised
    with server:
        there = lambda: {content.split(b"Message-ID: <")[1].split(b"@")[0].decode() for content in server.maildir.contents()}
        wait_for(lambda: there() >= set(promised), 30, lambda: f"lost: {sorted(set(promised) - there())[:10]}")


def test_an_idle_server_ends_at_once(appliance):
    with appliance(limits={"drain_s": 60}) as server:
        server.stop()
        server.start()


def in_data(server):
    """A session that has sent all of a message but its end, and one that idles."""
    busy, idle = (Wire(server.port["submissions"], tls=True) for _ in range(2))
    busy.login()
    for command, code in (("MAIL FROM:<anna@example.edu>", "250"), ("RCPT TO:<ben@example.org>", "250"), ("DATA", "354")):
        busy.say(command, code)
    busy.send(message("in-data"))
    return busy, idle


def test_two_signals_in_the_same_moment_are_one(appliance):
    """A service manager may signal the process and its group: mail that is under way is taken all the same."""
    with appliance(limits={"drain_s": 60}) as server:
        busy, idle = in_data(server)
        server.process.send_signal(signal.SIGTERM)
        server.process.send_signal(signal.SIGINT)
        assert idle.reply().startswith("421 4.3.2")
        busy.send(b".\r\n")
        assert busy.reply().startswith("250 2.0.0")
        server.ended()
        server.start()
        server.maildir.wait(1)


def test_a_second_signal_ends_it_at_once(appliance):
    server = appliance(limits={"drain_s": 60})
    server.start()
    busy, idle = in_data(server)
    server.process.send_signal(signal.SIGTERM)
    assert idle.reply().startswith("421 4.3.2")
    time.sleep(0.6)  # Half a second after the first it is a second one.
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(20) == 1
    assert "ended at once by a second signal" in server.log_text() and busy.at_end()


def test_a_handshake_under_way_does_not_hold_it_up(appliance):
    """Neither the end of draining nor that of the handshake's own time comes first."""
    with appliance(limits={"drain_s": 60, "handshake_timeout_s": 60}) as server:
        wires = [Wire(server.port["submissions"], greeting=False) for _ in range(5)]
        server.stop()
        for wire in wires:
            wire.close()
        server.start()
