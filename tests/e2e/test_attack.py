"""Attacks from outside on the real binary: while and after each, honest messages get through, and the server is as it was."""

import contextlib
import os
import re
from pathlib import Path

import pytest

from appliance import wait_for
from attacks import ATTACKS, PATIENCE_S, Attackers, garbage, slow_clients
from mail import message
from wire import Wire, submit

# What may stay of an attack: pools grow to what was needed at once, at most 256 bodies of 64 KiB and 256 buffers of 20 KiB on
# each of two cores, and the allocator keeps some pages.
KEPT_MIB_MAX = 48
HONEST_S = 15


def descriptors(server):
    """How many are open, but for the spool's segments, which come and go with the messages."""
    found = []
    for file in Path(f"/proc/{server.process.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(file))
    return sum(not file.endswith(".seg") for file in found)


def resident_mib(server):
    with open(f"/proc/{server.process.pid}/status") as status:
        return int(re.search(r"VmRSS:\s+(\d+)", status.read()).group(1)) / 1024


def honest(server, tag):
    """A message through every listener; an honest client waits seconds, not minutes."""
    for listener in ("submissions", "submission"):
        with Wire(server.port[listener], tls=listener == "submissions", timeout=HONEST_S) as wire:
            if listener == "submission":
                wire.starttls()
            wire.login()
            assert wire.mail(message(f"{tag}-{listener}")).startswith("250 2.0.0")
        server.maildir.find(f"<{tag}-{listener}@", seconds=HONEST_S)


def as_it_was(server, descriptors_before, mib_before):
    """All descriptors are closed and the memory is given back or pooled."""
    wait_for(lambda: descriptors(server) <= descriptors_before, PATIENCE_S,
             lambda: f"{descriptors(server)} descriptors, {descriptors_before} before")
    wait_for(lambda: resident_mib(server) - mib_before < KEPT_MIB_MAX, PATIENCE_S,
             lambda: f"{resident_mib(server):.1f} MiB, {mib_before:.1f} MiB before")


@pytest.fixture
def attacked(appliance):
    """A server whose time-outs soon end what an attack leaves behind; no session of it has panicked at its end."""
    with appliance(limits={"handshake_timeout_s": 5}) as server:
        honest(server, "before")
        yield server
    assert '"sessions_panicked":"0"' in server.log_text()


# covers: 1.5 1.9 8.4 9.3 11.3 11.7
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_an_attack(attacked, attack):
    before = descriptors(attacked), resident_mib(attacked)
    with Attackers(attacked) as attackers:
        attack(attackers)
        during = resident_mib(attacked)
        honest(attacked, "during")
    honest(attacked, "after")
    as_it_was(attacked, *before)
    attacked.no_panic()
    print(f"measured: {attack.__name__} ({attacked.settings['']['io']}): {before[1]:.0f} MiB before, {during:.0f} MiB during, "
          f"{resident_mib(attacked):.0f} MiB after")


def test_control_what_is_left_open_is_seen(attacked, monkeypatch):
    monkeypatch.setattr("test_attack.PATIENCE_S", 1)
    before = descriptors(attacked), resident_mib(attacked)
    with Attackers(attacked) as attackers:
        slow_clients(attackers)
        with pytest.raises(AssertionError, match="descriptors, "):
            as_it_was(attacked, *before)
        monkeypatch.setattr("test_attack.KEPT_MIB_MAX", 0.25)
        with pytest.raises(AssertionError, match="MiB before"):
            as_it_was(attacked, descriptors(attacked), before[1])
    monkeypatch.undo()
    as_it_was(attacked, before[0], resident_mib(attacked))


def test_control_garbage_reached_every_phase(attacked):
    """The attack is not turned away at the door: its sessions stand in the totals and are refused in the log."""
    with Attackers(attacked) as attackers:
        garbage(attackers)
        made = attackers.made
    attacked.stop()
    connections = int(re.findall(r'"connections":"(\d+)"', attacked.log_text())[-1])
    assert connections >= made
    assert int(re.findall(r'"connections_refused":"(\d+)"', attacked.log_text())[-1]) == 0
    attacked.start()
