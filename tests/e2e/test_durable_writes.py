"""What the server says of its writes is what the kernel sees: every one synchronous, many messages in each."""

import os
import re
import subprocess
import time

import pytest
from appliance import BINARIES, wait_for

CONNECTIONS = 32
MESSAGES = 640


def totals(server):
    """The last totals in the log."""
    line = re.findall(r'.*"event":"totals".*', server.log_text())[-1]
    return {name: int(count) for name, count in re.findall(r'"(\w+)":"(\d+)"', line)}


def send_many(server):
    """32 connections at once, 20 messages through each."""
    done = subprocess.run(
        [BINARIES / "penstock-loadgen", "run", "--address", f"127.0.0.1:{server.port['smtp']}", "--connections",
         str(CONNECTIONS), "--messages-per-connection", str(MESSAGES // CONNECTIONS), "--messages", str(MESSAGES),
         "--to", "ben@example.edu", "--strict"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def one_core(appliance):
    return appliance(top={"cores": 1}, relay={"paused": True})


def test_segments_are_open_for_synchronous_writes_only(appliance):
    with one_core(appliance) as server:
        send_many(server)
        found = 0
        process = f"/proc/{server.process.pid}"
        for number in os.listdir(f"{process}/fd"):
            name = os.readlink(f"{process}/fd/{number}")
            if not name.endswith(".seg"):
                continue
            with open(f"{process}/fdinfo/{number}") as info:
                flags = int(re.search(r"^flags:\s+(\d+)", info.read(), re.M).group(1), 8)
            assert flags & os.O_ACCMODE == os.O_RDONLY or flags & os.O_DSYNC, f"{name}: flags {flags:o}"
            found += bool(flags & os.O_DSYNC)
        assert found >= 1


def test_many_messages_share_a_durable_write(appliance):
    with one_core(appliance) as server:
        send_many(server)
    counted = totals(server)
    assert counted["messages_accepted"] == counted["records"] == MESSAGES
    # Alone each would take one. How few it can be is what the benches measure; that they are shared is a promise.
    assert counted["durable_writes"] <= MESSAGES // 2, counted


@pytest.mark.parametrize("io", ["epoll"])
def test_the_count_is_the_kernels(appliance, io, directory):
    """Under epoll a durable write is a system call, so strace can count it too."""
    with one_core(appliance) as server:
        trace = directory / "trace"
        tracer = subprocess.Popen(["strace", "-f", "-y", "-e", "trace=pwrite64", "-o", trace, "-p",
                                   str(server.process.pid)], stderr=subprocess.PIPE, text=True)
        try:
            wait_for(lambda: "attached" in tracer.stderr.readline(), 10, "strace did not attach")
            send_many(server)
            time.sleep(0.2)
        except BaseException:
            tracer.kill()
            raise
    tracer.wait(20)
    counted = totals(server)
    # Writes at 0 are headers of segments.
    seen = [int(offset) for offset in re.findall(r"pwrite64\(\d+<[^>]*\.seg>.*?, (\d+)\)? ", trace.read_text())]
    assert len([offset for offset in seen if offset > 0]) == counted["durable_writes"], (len(seen), counted)
