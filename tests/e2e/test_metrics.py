"""Metrics and health over HTTP: what is counted is what was sent; promtool finds no fault; readiness turns with the disk,
with the relay and with the end, and comes back."""

import collections
import ctypes
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from appliance import ROOT, free_port, wait_for
from fakes import Sink
from mail import message
from test_start import small_disk  # noqa: F401: a fixture
from wire import Wire, submit

BESIDE = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "beside"
PROMTOOL = BESIDE / "usr/bin/promtool"


def watched(server):
    """The same server, with a port for metrics and health."""
    server.admin = free_port()
    server.settings["admin"] = {"listen": f"127.0.0.1:{server.admin}"}
    server.write_config()
    return server


def ask(server, path):
    """Status and text of a page."""
    done = subprocess.run(
        ["curl", "-sS", "--max-time", "10", "-w", "%{http_code}", f"http://127.0.0.1:{server.admin}{path}"],
        capture_output=True, text=True, timeout=20, check=True,
    )
    return int(done.stdout[-3:]), done.stdout[:-3]


class Metrics:
    """A scrape: sums over the series of a name that have these labels."""

    def __init__(self, server):
        status, self.text = ask(server, "/metrics")
        assert status == 200
        self.samples = []
        for line in self.text.splitlines():
            if not line.startswith("#"):
                name, labels, value = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line).groups()
                self.samples.append((name, dict(re.findall(r'(\w+)="([^"]*)"', labels or "")), float(value)))

    def sum(self, name, **labels):
        found = [value for has, given, value in self.samples
                 if has == name and labels.items() <= {key: given.get(key) for key in labels}.items()]
        assert found, f"no {name} with {labels} in\n{self.text}"
        return sum(found)


def readiness(server):
    """Is it ready, and the lines that say why not."""
    status, text = ask(server, "/readyz")
    failed = [line for line in text.splitlines() if line.startswith("FAILED ")]
    assert (status == 200) == (not failed) and status in (200, 503), text
    return failed


def becomes(server, pattern, seconds=40):
    """Waits until the checks that fail are those that match; None: until it is ready."""
    def done():
        failed = readiness(server)
        return not failed if pattern is None else [line for line in failed if re.search(pattern, line)]

    wait_for(done, seconds, lambda: f"not {pattern}: {ask(server, '/readyz')}\n{server.log_text()[-2000:]}")


def test_what_is_counted_is_what_was_sent(appliance):
    with Sink(replies={"RCPT TO:<nobody": "550 5.1.1 No such user"}) as sink:
        route = f"127.0.0.1:{sink.port}"
        with watched(appliance(routes=[{"smarthost": route, "tls": "none"}])) as server:
            large = message("large", b"".join(b"%060d\r\n" % line for line in range(4000)))
            contents = [message(f"m{number}") for number in range(4)] + [large]
            for content in contents:
                assert submit(server.port["submissions"], content).startswith("250 ")
            with Wire(server.port["smtp"]) as wire:
                wire.say("EHLO client.example", "250")
                wire.say("MAIL FROM:<someone@example.com>", "250")
                wire.say("RCPT TO:<ben@elsewhere.example>", "5")
                wire.say("RCPT TO:<nobody@example.edu>", "250")
                wire.say("RCPT TO:<ben@example.edu>", "250")
                wire.say("DATA", "354")
                wire.send(message("local") + b".\r\n")
                wire.expect("250 ")
                held = Metrics(server)
                assert held.sum("penstock_connections") == 1
            with Wire(server.port["submissions"], tls=True) as wire:
                wire.say("EHLO client.example", "250")
                wire.say("AUTH PLAIN AGFubmEAd3Jvbmc=", "535")
            # The bounce of nobody's message is delivered too.
            wait_for(lambda: len(sink.messages) == 7, 20, lambda: f"{len(sink.messages)} arrived")
            delivered = lambda: Metrics(server).sum("penstock_deliveries_total", result="delivered")
            wait_for(lambda: delivered() == 7, 20, lambda: f"{delivered()} counted")
            wait_for(lambda: Metrics(server).sum("penstock_queue_messages") == 0, 20, "the queue is not empty")
            wait_for(lambda: Metrics(server).sum("penstock_spool_spill_files") == 1, 20, "no spill file")
            seen = Metrics(server)
    accepted = {"submissions": 5, "smtp": 1, "submission": 0, "smtps": 0}
    for listener, count in accepted.items():
        assert seen.sum("penstock_messages_total", listener=listener, code="250") == count
        assert seen.sum("penstock_commit_wait_seconds_count", listener=listener) == count
        assert seen.sum("penstock_reception_seconds_count", listener=listener) == count
    sent_bytes = sum(map(len, contents))
    assert seen.sum("penstock_message_bytes_total", listener="submissions") == sent_bytes
    assert seen.sum("penstock_message_size_bytes_sum") == sent_bytes + len(message("local"))
    assert seen.sum("penstock_refusals_total", listener="smtp", code="550") == seen.sum("penstock_refusals_total") == 1
    handshakes = seen.sum("penstock_tls_handshakes_total", listener="submissions", version="TLSv1.3")
    assert handshakes == seen.sum("penstock_tls_handshake_seconds_count", listener="submissions") == 6
    assert seen.sum("penstock_auth_total", listener="submissions", result="accepted") == 5
    assert seen.sum("penstock_auth_total", result="rejected") == 1
    assert seen.sum("penstock_auth_check_seconds_count") == 6
    assert 2 <= seen.sum("penstock_auth_hashes_total") <= 3
    assert seen.sum("penstock_deliveries_total", route=route, result="delivered", code="250") == 7
    assert seen.sum("penstock_deliveries_total", route=route, result="failed", code="550") == 1
    assert seen.sum("penstock_queue_time_seconds_count", route=route) == 7
    assert seen.sum("penstock_delivery_seconds_count", route=route) == 7
    assert seen.sum("penstock_bounces_total") == 1
    records = seen.sum("penstock_spool_records_total", writer="core")
    assert records == seen.sum("penstock_spool_commit_records_sum", writer="core") == 6
    assert seen.sum("penstock_spool_commit_seconds_count", writer="core") <= 6
    assert seen.sum("penstock_spool_commit_bytes_sum", writer="core") % 4096 == 0
    assert seen.sum("penstock_spool_used_bytes", files="segments") % (4 << 20) == 0
    assert seen.sum("penstock_spool_segments", state="free") >= 1 and seen.sum("penstock_spool_segments", state="written") >= 1
    assert seen.sum("penstock_spool_failures_total") == 0
    assert seen.sum("process_resident_memory_bytes") > 1 << 20
    samples = [line for line in seen.text.splitlines() if not line.startswith("#")]
    assert not re.search("anna|ben@|nobody|elsewhere|someone", "\n".join(samples)), "nobody is named"


def test_promtool_finds_no_fault_and_every_name_is_listed(appliance):
    server = watched(appliance())
    # Besides the Maildir's one with a host.
    server.settings["relay.route"].insert(0, {"domains": ["far.example"], "smarthost": "127.0.0.1:9"})
    server.write_config()
    with server:
        assert submit(server.port["submissions"], message("one")).startswith("250 ")
        server.maildir.wait(1)
        with Wire(server.port["smtp"]) as wire:
            wire.say("EHLO client.example", "250")
            wire.say("MAIL FROM:<someone@example.com>", "250")
            wire.say("RCPT TO:<ben@elsewhere.example>", "5")
        text = Metrics(server).text
        checked = subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True, text=True, timeout=60)
        assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
        listed = server.hands("metrics").stdout
        names = {line.split(" ")[0].split("{")[0] for line in listed.splitlines() if not line.startswith(" ")}
        served = set(re.findall(r"^# TYPE (\w+)", text, re.MULTILINE))
        assert served == names and len(names) > 40
        with_samples = {re.sub("_(bucket|sum|count)$", "", line.split(" ")[0].split("{")[0])
                        for line in text.splitlines() if not line.startswith("#")}
        assert with_samples == names
        assert (ask(server, "/livez"), ask(server, "/")[0]) == ((200, "ok\n"), 404)


def test_a_next_hop_that_is_down_is_seen_and_is_no_reason_to_go_elsewhere(appliance):
    port = free_port()
    route = f"127.0.0.1:{port}"
    with watched(appliance(routes=[{"smarthost": route, "tls": "none"}])) as server:
        assert submit(server.port["submissions"], message("one")).startswith("250 ")
        wait_for(lambda: Metrics(server).sum("penstock_queue_oldest_seconds", route=route) >= 2, 20, "it does not age")
        seen = Metrics(server)
        assert seen.sum("penstock_queue_messages") == seen.sum("penstock_queue_transactions", route=route) == 1
        assert seen.sum("penstock_relay_unopened_total", route=route) >= 1
        up = lambda: Metrics(server).sum("penstock_relay_host_up", route=route, host=route)
        wait_for(lambda: up() == 0, 20, "it is not seen")
        wait_for(lambda: f"{route} is unreachable" in ask(server, "/readyz")[1], 20, "it is not said")
        assert readiness(server) == []
        with Sink(port) as sink:
            wait_for(lambda: sink.messages, 30, "it is not delivered")
            wait_for(lambda: Metrics(server).sum("penstock_queue_messages") == 0, 20, "it is still queued")
            seen = Metrics(server)
            assert seen.sum("penstock_queue_oldest_seconds", route=route) == 0
            assert seen.sum("penstock_relay_unreachable", route=route) == 0
            assert seen.sum("penstock_relay_host_up", route=route, host=route) == 1


def test_which_smarthost_of_a_pool_is_down_is_seen(appliance):
    dead = free_port()
    with Sink() as sink:
        pool = [f"127.0.0.1:{dead}", f"127.0.0.1:{sink.port}"]
        route = ", ".join(pool)
        with watched(appliance(routes=[{"smarthost": pool, "tls": "none"}])) as server:
            def up(host):
                return Metrics(server).sum("penstock_relay_host_up", route=route, host=host)

            def sends_until(done, seconds):
                end, number = time.monotonic() + seconds, 0
                while not done():
                    assert time.monotonic() < end, ask(server, "/metrics")[1]
                    assert submit(server.port["submissions"], message(f"m{number}")).startswith("250 ")
                    number += 1

            sends_until(lambda: up(pool[0]) == 0, 30)
            assert up(pool[1]) == 1
            assert f"{pool[0]} is down, its pool goes on without" in ask(server, "/readyz")[1]
            assert readiness(server) == []
            seen = Metrics(server)
            assert seen.sum("penstock_relay_unreachable", route=route) == 0
            assert seen.sum("penstock_relay_host_connections_limit", host=pool[1]) >= 1
            with Sink(dead):
                sends_until(lambda: up(pool[0]) == 1, 60)


def test_clients_that_hang_and_garbage_disturb_nothing(appliance):
    with watched(appliance()) as server:
        hanging = [socket.create_connection(("127.0.0.1", server.admin)) for _ in range(300)]
        for number, client in enumerate(hanging):
            try:
                client.send([b"", b"GET /metr", b"EHLO you\r\n\r\n", b"\0" * 9000, b"POST / HTTP/1.1\r\n\r\n"][number % 5])
            except ConnectionError:
                pass  # It has made room for another.
        # One after the other, or four at a time, they would keep it for minutes.
        assert ask(server, "/livez") == (200, "ok\n")
        assert readiness(server) == []
        assert Metrics(server).sum("process_open_fds") < 200
        assert submit(server.port["submissions"], message("meanwhile")).startswith("250 ")
        for client in hanging:
            client.close()


# covers: 6.9
def test_a_full_disk_turns_readiness_and_room_turns_it_back(appliance, small_disk):  # noqa: F811
    server = watched(appliance(spool={"directory": small_disk / "spool", "segment_mib": 2, "reserve_mib": 6}, top={"cores": 1}))
    with server:
        becomes(server, None)
        ballast = small_disk / "ballast"
        ballast.write_bytes(b"x" * (14 << 20))
        becomes(server, "spool headroom: .* MiB free, and 6 MiB are the reserve")
        assert Metrics(server).sum("penstock_spool_takes_mail") == 0
        assert ask(server, "/livez") == (200, "ok\n")
        with Wire(server.port["smtp"]) as wire:
            wire.say("EHLO client.example", "250")
            wire.say("MAIL FROM:<someone@example.com>", "452")
        seen = Metrics(server)
        assert seen.sum("penstock_refusals_total", listener="smtp", code="452") == 1
        ballast.unlink()
        becomes(server, None)
        assert Metrics(server).sum("penstock_spool_takes_mail") == 1


def test_a_spool_that_is_read_only_turns_readiness_and_comes_back(appliance):
    with watched(appliance()) as server:
        becomes(server, None)
        spool = server.directory / "spool"
        if subprocess.run(["mount", "--bind", spool, spool], capture_output=True).returncode != 0:
            pytest.skip("mounting is not allowed here")
        try:
            subprocess.run(["mount", "-o", "remount,bind,ro", spool], check=True)
            becomes(server, "spool writable: Read-only file system")
            assert len(readiness(server)) == 1 and ask(server, "/livez") == (200, "ok\n")
        finally:
            subprocess.run(["umount", "-l", spool], check=True)
        becomes(server, None)


class Stopped:
    """One thread of the server that does nothing, while the others go on."""

    SEIZE, INTERRUPT, DETACH, WALL = 0x4206, 0x4207, 17, 0x40000000

    def __init__(self, server, name):
        tasks = Path(f"/proc/{server.process.pid}/task")
        self.thread = next(int(task.name) for task in tasks.iterdir() if (task / "comm").read_text().strip() == name)
        self.ptrace = ctypes.CDLL(None, use_errno=True).ptrace
        self.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]

    def __enter__(self):
        if self.ptrace(self.SEIZE, self.thread, None, None) != 0:
            pytest.skip(f"tracing is not allowed here: {os.strerror(ctypes.get_errno())}")
        assert self.ptrace(self.INTERRUPT, self.thread, None, None) == 0
        os.waitpid(self.thread, self.WALL)

    def __exit__(self, *_):
        assert self.ptrace(self.DETACH, self.thread, None, None) == 0


def test_a_relay_that_hangs_turns_readiness_and_comes_back(appliance):
    with watched(appliance()) as server:
        becomes(server, None)
        with Stopped(server, "relay"):
            becomes(server, "relay moving: no sign of life for 1. s")
            # It is ready for nothing, and keeps its word all the same.
            assert submit(server.port["submissions"], message("meanwhile")).startswith("250 ")
            assert ask(server, "/livez") == (200, "ok\n")
        becomes(server, None)
        server.maildir.wait(1)


def test_a_server_that_is_being_stopped_says_so_until_its_end(appliance):
    with watched(appliance()) as server:
        busy = Wire(server.port["submissions"], tls=True)
        busy.login()
        busy.say("MAIL FROM:<anna@example.edu>", "250")
        busy.say("RCPT TO:<ben@example.org>", "250")
        busy.say("DATA", "354")
        content = message("in-data")
        busy.send(content[:20])
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        becomes(server, "serving: it is being stopped")
        assert len(readiness(server)) == 1
        busy.send(content[20:] + b".\r\n")
        assert busy.reply().startswith("250 ")
        server.ended()


def test_a_port_in_use_is_told_before_anybody_is_served(appliance):
    with watched(appliance()) as first:
        second = appliance()
        second.settings["admin"] = first.settings["admin"]
        second.write_config()
        second.spawn()
        assert second.process.wait(20) == 1
        assert "choose another admin.listen" in second.log_text()
        assert "listening" not in second.log_text()


def test_cores_are_counted_each_for_itself(appliance):
    with watched(appliance()) as server:
        for number in range(20):
            assert submit(server.port["submissions"], message(f"m{number}")).startswith("250 ")
        seen = Metrics(server)
        by_core = collections.Counter()
        for name, labels, value in seen.samples:
            if name == "penstock_messages_total":
                by_core[labels["core"]] += value
        assert set(by_core) == {"0", "1"} and sum(by_core.values()) == 20
