"""Power cuts: many on this machine's own file systems, and one of a whole virtual machine on each; tests/run power does more
of these. See tests/power.

A disk that loses what was not flushed proves something only if a missing flush is seen: the control's kernel sends none.
"""

import os
import random
import sys

import pytest

from appliance import ROOT

sys.path.insert(0, str(ROOT / "tests/power"))

import cut  # noqa: E402
import power  # noqa: E402

# PENSTOCK_TEST_SEED repeats a run.
SEED = int(os.environ.get("PENSTOCK_TEST_SEED", random.SystemRandom().randrange(1 << 32)))


def nothing_is_lost(directory, cuts, file_system, io, **settings):
    wrong = cut_so_often(directory, cuts=cuts, file_system=file_system, io=io, **settings)
    assert not wrong, "\n".join(wrong[:40])


def mail_is_lost(directory, file_system, **settings):
    wrong = cut_so_often(directory, cuts=1, file_system=file_system, patience=5, orderly=0, **{**power.NO_FLUSH, "paused": 1}, **settings)
    assert any(line.startswith("lost: ") for line in wrong), "nothing was lost, so a cut proves nothing"


def cut_so_often(directory, here=False, **settings):
    print(f"PENSTOCK_TEST_SEED={SEED}")
    if power.missing(here):
        pytest.skip(power.missing(here))
    books, made = power.run(directory, seed=SEED, here=here, **settings)
    wrong = books.reconcile()
    print("measured:", power.summary(books, made))
    return wrong


# covers: 6.3
@pytest.mark.timeout(900)
@pytest.mark.parametrize("file_system, io", [("ext4", "auto"), ("xfs", "epoll")])
def test_cuts_on_this_machine(directory, file_system, io):
    nothing_is_lost(directory, 10, file_system, io, here=True)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("file_system", ["ext4", "xfs"])
def test_a_missing_flush_is_seen_on_this_machine(directory, file_system):
    mail_is_lost(directory, file_system, here=True)


# covers: 6.3
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("file_system, io, scsi", power.MACHINES[:2])
def test_a_cut_of_a_virtual_machine(directory, file_system, io, scsi):
    nothing_is_lost(directory, 1, file_system, io, scsi=scsi, kinds=["power"], orderly=0)


@pytest.mark.timeout(1200)
def test_a_missing_flush_is_seen_in_a_virtual_machine(directory):
    mail_is_lost(directory, "ext4", kinds=["power"])


@pytest.fixture
def platters(tmp_path):
    (tmp_path / "durable").write_bytes(bytes(64 * cut.BLOCK))
    (tmp_path / "seen").write_bytes(bytes(64 * cut.BLOCK))
    made = cut.Platters(tmp_path)
    yield made
    made.close()


def test_what_was_flushed_or_written_with_fua_outlives_a_cut(platters):
    platters.write(b"a" * 4096, 0, fua=False)
    platters.flush()
    platters.write(b"b" * 4096, 4096, fua=True)
    platters.write(b"c" * 4096, 8192, fua=False)
    platters.write(b"d" * 4096, 0, fua=False)
    assert platters.read(1, 0) + platters.read(1, 8192) == b"dc"
    assert platters.cut(random.Random(1), kept=0) == {"unflushed": 3, "kept": 1, "torn": 0, "lost": 2}
    assert [platters.read(4096, at)[:1] for at in (0, 4096, 8192)] == [b"a", b"b", b"\0"]
    assert platters.unflushed() == []


def test_a_cut_loses_any_of_the_rest_and_tears_long_writes_only(platters):
    fates = set()
    for seed in range(200):
        for number in range(4):
            platters.write(bytes([65 + number]) * cut.BLOCK * (1 + number % 2), number * 8192, fua=False)
        platters.cut(random.Random(seed))
        left = [platters.read(8192, number * 8192) for number in range(4)]
        fates.add(tuple(any(octets) for octets in left))
        for number, octets in enumerate(left):
            there = octets.count(65 + number)
            assert there % (cut.SECTOR if number % 2 else cut.BLOCK) == 0
            if 0 < there < 8192 and number % 2:
                fates.add("torn")
        platters.write(bytes(4 * 8192), 0, fua=False)
        platters.flush()
    none_but_the_last, none_but_the_first = (False, False, False, True), (True, False, False, False)
    assert {"torn", none_but_the_last, none_but_the_first} < fates, fates


def test_a_write_that_was_under_way_is_no_write(platters):
    platters.write(b"a" * 4096, 0, fua=True)
    os.ftruncate(platters.journal, os.fstat(platters.journal).st_size - 1)
    assert platters.unflushed() == []
