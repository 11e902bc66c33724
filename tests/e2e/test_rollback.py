"""From one version to another and back, with a full queue.

The format of the spool is the same since the first version (src/spool/segment.rs, src/spool/record.rs), and what was added
since may be skipped by who does not know it. Two things hold that:

* a reader of the first version, written down apart and frozen (format_one.py), reads what this version writes;
* a binary of an earlier version, built by `tests/run rollback [COMMIT]`, delivers what this one leaves, and the other way round.

Operators' orders are what an earlier version may not know: it delivers what was held, and what was deleted.
"""

import os
import re
import time
from pathlib import Path

import pytest

import format_one
from appliance import LISTENERS, PENSTOCK, Penstock, wait_for
from fakes import Sink
from ledger import content_of
from mail import lf
from test_queue import nowhere, queue
from wire import Wire

OLDER = os.environ.get("PENSTOCK_OLDER")
SEED = 1
ALPHABET = "0123456789BCDFGHJKLMNPQRSTVWXYZ"
SUBMISSIONS = [listener for listener in LISTENERS if listener[0] == "submissions"]


def number(queue_id):
    value = 0
    for letter in queue_id:
        value = value * 31 + ALPHABET.index(letter)
    return value


def send(server, tags, recipients=2):
    """Sends messages of all sizes, the largest of which are spilled; their queue ids by tag."""
    ids = {}
    with Wire(server.port["submissions"], tls=True) as wire:
        wire.login()
        for tag in tags:
            content = content_of(SEED, tag).replace(b"\r\n.", b"\r\n..")
            if tag.endswith("large"):
                content += b"and more\r\n" * 20_000
            wire.say("MAIL FROM:<anna@example.edu>", "250")
            for index in range(recipients):
                wire.say(f"RCPT TO:<{tag}.{index}@{'abc'[index]}.example>", "250")
            wire.say("DATA", "354")
            wire.send(content + b".\r\n")
            ids[tag] = re.search(r"queued as (\w{13})", wire.expect("250"))[1]
    return ids


class Arrivals:
    """What all sinks on one port were given."""

    def __init__(self, port):
        self.port, self.paths, self.wrong = port, [], []

    def sink(self, **replies):
        return Sink(port=self.port, keep=self.keep, **replies)

    def keep(self, _, __, recipients, content):
        self.paths += recipients
        if lf(content_of(SEED, recipients[0].split(".")[0])).strip() not in lf(content):
            self.wrong.append(recipients)

    def settle(self):
        """Until nothing has come for a second: who closes a sink in the midst of a message gets that message twice."""
        count = None
        while count != len(self.paths):
            count = len(self.paths)
            time.sleep(1)


def paths_of(tags):
    return {f"{tag}.{index}@{'ab'[index]}.example" for tag in tags for index in range(2)}


def full_queue(server, arrivals, name, orders=True):
    """Fills it: delivered mail, mail that is half done, deferred mail, large mail, and an operator's orders. Returns the queue
    ids of what is due as a whole, and the tags of what is due at its second recipient."""
    done, half = [f"{name}-done{count}" for count in range(40)], [f"{name}-half{count}" for count in range(5)]
    first = {f"{tag}.0@a.example" for tag in half}
    with arrivals.sink(replies={f"RCPT TO:<{tag}.1": "451 4.2.0 later" for tag in half}):
        send(server, done + half)
        wait_for(lambda: paths_of(done) | first <= set(arrivals.paths), 20, lambda: f"{len(arrivals.paths)} have arrived")
        arrivals.settle()
    due = [f"{name}-due{count}" for count in range(20)] + [f"{name}-{count}large" for count in range(3)]
    due += [f"{name}-held", f"{name}-requeued", f"{name}-deleted"]
    ids = send(server, due)
    if orders:
        queue(server, "hold", ids[f"{name}-held"])
        queue(server, "requeue", ids[f"{name}-requeued"])
        queue(server, "delete", ids[f"{name}-deleted"])
    return ids, half


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_reader_of_the_first_version_reads_what_this_one_writes(appliance, end):
    port, settings = nowhere()
    with appliance(**settings, listeners=SUBMISSIONS) as server:
        ids, half = full_queue(server, Arrivals(port), "new")
        getattr(server, end)()
        spool = server.directory / "spool"
        found = format_one.read(spool, fates=(1, 2, 3))
        wanted = {number(queue_id): tag for tag, queue_id in ids.items() if tag != "new-deleted"}
        assert wanted.keys() <= found.keys()
        for queue_id, tag in wanted.items():
            message = found[queue_id]
            assert message.recipients == {0: f"{tag}.0@a.example", 1: f"{tag}.1@b.example"}
            assert content_of(SEED, tag)[-20:] in message.content and message.sender == "anna@example.edu"
        rest = [message for queue_id, message in found.items() if queue_id not in wanted]
        assert sorted(path for message in rest for path in message.recipients.values()) == [f"{tag}.1@b.example" for tag in half]
        # Who knows no deletion delivers what was deleted, and loses nothing else by it.
        assert format_one.read(spool).keys() - found.keys() == {number(ids["new-deleted"])}
        server.start()


@pytest.mark.skipif(not OLDER, reason="no binary of an earlier version: tests/run rollback builds one")
@pytest.mark.parametrize("end", ["stop", "kill"])
@pytest.mark.parametrize("versions", ["new old", "old new", "old new old new", "new old new old"])
def test_versions_take_over_from_each_other(directory, versions, end):
    port, settings = nowhere()
    server = Penstock(directory / "penstock", **settings, listeners=SUBMISSIONS)
    keep_what_the_first_version_knows(server)
    binaries = {"new": PENSTOCK, "old": Path(OLDER)}
    arrivals, expected, deleted = Arrivals(port), set(), set()
    try:
        *fillers, last = versions.split()
        for leg, version in enumerate(fillers):
            server.binary = binaries[version]
            server.start()
            name = f"leg{leg}"
            ids, half = full_queue(server, arrivals, name, orders=version == "new")
            expected |= paths_of(ids) | paths_of(half) | paths_of(f"{name}-done{count}" for count in range(40))
            deleted |= paths_of([f"{name}-deleted"]) if version == "new" else set()
            getattr(server, end)()
        server.binary = binaries[last]
        deliver_the_rest(server, arrivals, expected - deleted)
    finally:
        server.kill()
    assert not arrivals.wrong and len(arrivals.paths) == len(set(arrivals.paths)), "not whole, or twice"
    # The first version knows no deletion; what is deleted arrives at most, and nothing that was never sent.
    assert set(arrivals.paths) <= expected


def keep_what_the_first_version_knows(server):
    server.settings["auth"] = {key: server.settings["auth"][key] for key in ("users_file", "domain")}
    server.settings["limits"] = {}
    server.settings["relay"] = {"retry_first_s": 1, "retry_max_s": 1}
    server.write_config()


def deliver_the_rest(server, arrivals, expected):
    with arrivals.sink():
        server.start()
        if server.binary == PENSTOCK:
            queue(server, "release", "--all")
        wait_for(lambda: expected <= set(arrivals.paths), 60, lambda: f"missing: {sorted(expected - set(arrivals.paths))}")
        server.stop()
