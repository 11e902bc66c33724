"""Power cuts of a whole machine, one on each file system; tests/run power does many. See tests/power.

A disk that loses what was not flushed proves something only if a missing flush is seen: the control's kernel sends none.
"""

import os
import random
import sys

import pytest

from appliance import ROOT

sys.path.insert(0, str(ROOT / "tests/power"))

import cut  # noqa: E402
import machine  # noqa: E402
import power  # noqa: E402

# PENSTOCK_TEST_SEED repeats a run.
SEED = int(os.environ.get("PENSTOCK_TEST_SEED", random.SystemRandom().randrange(1 << 32)))
ONE_CUT = {"cuts": 1, "kinds": ["power"], "orderly": 0}


def machine_or_skip():
    print(f"PENSTOCK_TEST_SEED={SEED}")
    if machine.missing():
        pytest.skip(f"{machine.missing()}; not counted as passed")


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("file_system, io, scsi", power.MACHINES[:2])
def test_a_power_cut(directory, file_system, io, scsi):
    machine_or_skip()
    books, made = power.run(directory, seed=SEED, file_system=file_system, io=io, scsi=scsi, **ONE_CUT)
    wrong = books.reconcile()
    print("measured:", power.summary(books, made))
    assert not wrong, "\n".join([power.summary(books, made), *wrong[:40]])
    assert len(books.promised) > 1


@pytest.mark.timeout(1200)
def test_a_missing_flush_is_seen(directory):
    machine_or_skip()
    settings = {**power.NO_FLUSH, **ONE_CUT, "paused": 1}
    books, made = power.run(directory, seed=SEED, file_system="ext4", patience=5, **settings)
    print("measured:", power.summary(books, made))
    assert any(line.startswith("lost: ") for line in books.reconcile()), "nothing was lost, so a cut proves nothing"


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
