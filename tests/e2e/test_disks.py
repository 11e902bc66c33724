"""Disks that fail while mail comes in: EIO, bad places, a failed flush, a file system that goes away, a full one, a slow one.

Each promise is held by the ledger (ledger.py): no `250` was false, then or after a restart; what is refused is refused with
`451 4.3.0` or `452 4.3.1`; the process stays up; what was queued is delivered at last, once.
"""

import os
import random
import re
import time
from contextlib import ExitStack, contextmanager

import pytest

import ledger
from appliance import LISTENERS, Penstock, wait_for
from disks import MIB, Disk, needs_mounts, places
from wire import Wire

# PENSTOCK_TEST_SEED repeats a run.
SEED = int(os.environ.get("PENSTOCK_TEST_SEED", random.SystemRandom().randrange(1 << 32)))
# A client that is refused over and over is sent away.
REFUSALS = ("451 4.3.0 ", "452 4.3.1 ", "421 4.7.0 Too many errors")
FULL = ("452 4.3.1 ", "421 4.7.0 Too many errors")
# Each file system under one kernel interface.
BOTH = pytest.mark.parametrize("file_system, driver", [("ext4", "auto"), ("xfs", "epoll")])
# More than a client sends in one life.
TAGS = 1_000_000
# Records are written into whole blocks behind the header's.
BLOCK = 4096


class Trouble:
    """A server whose spool, traces included, is on a disk of its own, under load, with a ledger."""

    def __init__(self, directory, disk, driver, spool=(), relay=()):
        self.disk, self.books = disk, ledger.Ledger(seed=SEED)
        self.sink = ledger.LedgerSink(self.books)
        listeners = [listener for listener in LISTENERS if listener[0] in ("submissions", "smtp")]
        self.server = Penstock(
            directory / "penstock", io=driver, listeners=listeners, routes=[{"smarthost": f"127.0.0.1:{self.sink.port}", "tls": "none"}],
            spool={"directory": disk.path / "spool", "segment_mib": 1, "wipe_after_s": 1, **dict(spool)},
            relay={"connections_max": ledger.CONNECTIONS_MAX, **dict(relay)},
            # What cannot be recorded is waited for so long at the end.
            limits={"drain_s": 2},
        )

    @contextmanager
    def under_load(self, in_order=True):
        """The server runs, and clients send; then they stop, and it ends when it is told to. `in_order`: what it knows can be
        written at that."""
        self.server.start()
        try:
            with ledger.Load(self.books, self.server, life=self.sink.life, first=self.sink.life * TAGS):
                yield
            self.disk.works()
            self.server.stop()
        finally:
            self.server.kill()
        if in_order:
            self.books.orderly.add(self.sink.life)
        self.sink.life += 1

    def promised(self, more):
        """Waits for so many more promises."""
        self.wait(lambda: len(self.books.promised), more, "promises")

    def refused(self, more, allowed=REFUSALS):
        """Waits for so many more refusals, all of them as they must be."""
        self.wait(lambda: sum(self.books.refusals.values()), more, "refusals")
        wrong = [reply for reply in self.books.refusals if not reply.startswith(allowed)]
        assert not wrong, wrong

    def wait(self, count, more, what):
        before = count()

        def done():
            assert self.server.process.poll() is None, f"it ended:\n{self.server.log_text()[-3000:]}"
            return count() >= before + more

        wait_for(done, 60, lambda: f"{count() - before} {what}\n{self.books.refusals}\n{self.server.log_text()[-3000:]}")

    def deliver(self):
        """A life without load, until every promise is kept."""
        self.server.start()
        deadline = time.monotonic() + 30
        while self.books.missing() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(0.5)  # What was not answered may still come.
        self.server.stop()
        self.books.orderly.add(self.sink.life)
        self.sink.life += 1

    def books_are_right(self):
        self.deliver()
        wrong = self.books.reconcile()
        print("measured:", self.disk.file_system, self.books.summary())
        assert not wrong, "\n".join([self.books.summary(), *wrong[:20], self.server.log_text()[-3000:]])


@pytest.fixture
def trouble(directory):
    """Makes a disk and a server on it."""
    needs_mounts()
    print(f"PENSTOCK_TEST_SEED={SEED}")
    with ExitStack() as stack:

        def make(file_system, driver, write_delay_ms=0, **settings):
            disk = stack.enter_context(Disk(directory / "disk", file_system, write_delay_ms))
            made = Trouble(directory, disk, driver, **settings)
            stack.callback(made.server.kill)
            return made

        yield make


def active(disk):
    """Segments with records."""
    segments = sorted((disk.path / "spool/segments").glob("*.seg"))
    return [segment for segment in segments if any(segment.read_bytes()[BLOCK : 2 * BLOCK])]


# covers: 6.9 11.6
@pytest.mark.parametrize("file_system, driver, what", [
    ("ext4", "auto", "is_gone"), ("xfs", "epoll", "is_gone"),
    ("ext4", "epoll", "cannot_flush"), ("xfs", "auto", "cannot_flush"),
    ("ext4", "epoll", "file_system_goes"), ("xfs", "auto", "file_system_goes"),
])
def test_a_disk_that_is_gone(trouble, file_system, driver, what):
    """Neither file system recovers from this before it is mounted again, and no program on it can."""
    made = trouble(file_system, driver)
    with made.sink:
        with made.under_load(in_order=False):
            made.promised(30)
            getattr(made.disk, what)()
            made.refused(30)
        made.disk.mount_again()
        made.books_are_right()


# covers: 6.9 12.6
@BOTH
def test_bad_places(trouble, file_system, driver):
    """A write that fails is not tried again in that file: the next goes into another, at once. Outcomes alike."""
    made = trouble(file_system, driver)
    with made.sink:
        with made.under_load():
            made.promised(30)
            bad = [place for segment in active(made.disk) for place in places(segment)]
            made.disk.has_bad("write", bad)
            made.promised(30)
            failed = [line for line in made.disk.refused() if within_one(line, bad)]
            assert failed and len(set(failed)) == len(failed), failed
        made.disk.mount_again()
        made.books_are_right()


def within_one(line, ranges):
    """A record or a header: a whole segment that is written with zeros is longer."""
    _, start, end = line.split()
    return int(end) - int(start) < MIB and any(low <= int(start) and int(end) <= high for low, high in ranges)


# covers: 5.9 11.6
@BOTH
def test_no_more_room_than_the_reserve(trouble, file_system, driver):
    """Refused at MAIL, before anything was sent in vain."""
    made = trouble(file_system, driver, spool={"reserve_mib": 64})
    with made.sink:
        with made.under_load():
            made.promised(10)
            made.disk.fill(left_bytes=32 * MIB)
            made.refused(10, allowed=FULL)
            made.server.wait_log("spool has no room for new mail, which is refused with 452")
            made.disk.empty()
            made.promised(10)
            made.server.wait_log("spool has room again, new mail is taken")
        made.books_are_right()


# covers: 6.9 11.6
@BOTH
def test_no_room_at_all(trouble, file_system, driver):
    """Without a reserve ENOSPC comes from the file system. What is queued is delivered all the same, and that makes room."""
    made = trouble(file_system, driver, spool={"reserve_mib": 0})
    with ExitStack() as until_it_has_stopped:
        with made.under_load():
            made.promised(10)
            made.disk.fill(left_bytes=3 * MIB)
            made.refused(20)
            until_it_has_stopped.enter_context(made.sink)
            made.wait(lambda: len(made.books.arrivals), 10, "arrivals")
            made.promised(20)
        made.books_are_right()


@BOTH
def test_a_slow_disk(trouble, file_system, driver):
    made = trouble(file_system, driver, write_delay_ms=30)
    with made.sink:
        with made.under_load():
            made.promised(30)
        assert not made.books.refusals, made.books.refusals
        made.books_are_right()


# covers: 6.3
@BOTH
def test_a_disk_that_stands_still(trouble, file_system, driver):
    """Nothing is promised meanwhile; whoever wants nothing of the disk is served."""
    made = trouble(file_system, driver)
    with made.sink:
        with made.under_load():
            made.promised(10)
            made.disk.stands_still()
            time.sleep(1)
            promised = len(made.books.promised)
            with Wire(made.server.port["smtp"]) as wire:
                wire.say("EHLO client.example", "250")
                wire.say("MAIL FROM:<anna@example.edu>", "250")
            time.sleep(1)
            assert len(made.books.promised) == promised
            made.disk.works()
            made.promised(10)
        made.books_are_right()


@BOTH
def test_places_that_cannot_be_read(trouble, file_system, driver):
    """What cannot be read at a start is kept, and delivered when it can be read again."""
    made = trouble(file_system, driver, relay={"paused": True})
    with made.sink:
        with made.under_load():
            made.promised(60)
        made.server.settings["relay"]["paused"] = False
        made.server.write_config()
        records = max(active(made.disk), key=lambda segment: len(segment.read_bytes().rstrip(b"\0")))
        # A block in the midst of its records.
        (start, _), *_ = places(records)
        middle = start + len(records.read_bytes().rstrip(b"\0")) // 2 // BLOCK * BLOCK
        made.disk.mount_again()
        made.disk.has_bad("read", [(middle, middle + BLOCK)])
        with made.under_load():
            made.promised(10)
            made.server.wait_log(rf'"level":"error".*cannot be read; it is kept.*"segment":"{int(records.stem)}"')
        assert made.books.missing()
        made.disk.mount_again()
        made.books_are_right()


@BOTH
def test_a_read_only_file_system_at_start(trouble, file_system, driver):
    """It says what is the matter, in one line, and does not start."""
    made = trouble(file_system, driver, relay={"paused": True})
    with made.sink:
        with made.under_load():
            made.promised(10)
        made.disk.mount_again("-o", "ro")
        made.server.spawn()
        assert made.server.process.wait(30) == 1
        assert re.search("is mounted read-only; mount it for writing", made.server.log_text()), made.server.log_text()[-1000:]
        made.disk.mount_again()
        made.server.settings["relay"]["paused"] = False
        made.server.write_config()
        made.books_are_right()
