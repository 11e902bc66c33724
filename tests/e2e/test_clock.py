"""The wall clock is set back while mail waits: pauses last as long as they were meant to."""

import glob
import time

import pytest

from appliance import free_port, wait_for
from fakes import Sink
from mail import message
from wire import ask, submit

LIBRARY = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")


class Clock:
    """What a process is told of the time, beside what really passes. `environment`: for that process."""

    def __init__(self, file):
        self.file = file
        self.set("+0")
        # The library reads the file each time; io_uring's and the runtime's pauses are of the other clock.
        self.environment = {"LD_PRELOAD": LIBRARY[0], "FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_NO_CACHE": "1",
                            "FAKETIME_DONT_FAKE_MONOTONIC": "1"}

    def set(self, offset):
        # In one piece: it is read at any time.
        new = self.file.with_suffix(".new")
        new.write_text(offset + "\n")
        new.rename(self.file)


@pytest.fixture
def clock(directory):
    return Clock(directory / "clock")


def waiting(server, *recipients):
    for recipient in recipients:
        reply = submit(server.port["submissions"], message(recipient), recipients=[f"ben@{recipient}"])
        assert reply.startswith("250 2.0.0"), reply


def test_what_waits_for_another_try_waits_no_longer(appliance, clock):
    """What a server has put off; what is for one that is down; and a host of a pool is asked again."""
    down, half = free_port(), free_port()
    with Sink(replies={"RCPT": "451 4.2.1 Not now"}) as sink, Sink() as other:
        routes = [
            {"domains": ["example.org"], "smarthost": f"127.0.0.1:{sink.port}", "tls": "none"},
            {"domains": ["example.net"], "smarthost": f"127.0.0.1:{down}", "tls": "none"},
            {"smarthost": [f"127.0.0.1:{half}", f"127.0.0.1:{other.port}"], "tls": "none"},
        ]
        with appliance(routes=routes, environment=clock.environment, relay={"retry_first_s": 5, "retry_max_s": 10}) as server:
            # Which of two hosts a message is handed to is by chance, and any mail there asks for a probe of the other.
            heard = lambda words: f'"event":"{words}' in server.log_text() or waiting(server, "example.info")
            waiting(server, "example.org", "example.net")
            server.wait_log('"event":"deferred"')
            server.wait_log('"event":"destination unreachable')
            wait_for(lambda: heard("host is down"), 20, "it is not asked")
            clock.set("-1h")
            server.wait_log('"event":"clock was set back","by_s":"3[56]\\d\\d"')
            sink.replies = {}
            with Sink(down) as late, Sink(half):
                wait_for(lambda: sink.messages, 30, lambda: f"what was deferred waits:\n{server.log_text()[-3000:]}")
                wait_for(lambda: late.messages, 30, lambda: f"what was down is left alone:\n{server.log_text()[-3000:]}")
                wait_for(lambda: heard("host is back"), 30, lambda: f"its host is left out:\n{server.log_text()[-3000:]}")


def test_what_is_to_wait_until_a_time_waits_for_that_time(appliance, clock):
    with Sink() as sink:
        routes = [{"smarthost": f"127.0.0.1:{sink.port}", "tls": "none"}]
        with appliance(routes=routes, environment=clock.environment) as server:
            until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 60))
            ask(server, message("held"), f" HOLDUNTIL={until}")
            clock.set("-1h")
            server.wait_log('"event":"clock was set back"')
            waiting(server, "example.org")
            wait_for(lambda: len(sink.messages) == 1, 20, "the other does not arrive")
            clock.set("+2m")
            wait_for(lambda: len(sink.messages) == 2, 20, lambda: f"it is not released:\n{server.log_text()[-3000:]}")
            assert b"<held@" in sink.messages[1][3]
