"""Kill -9 under load, many times, under a ledger: nothing promised is lost, nothing is damaged. See ledger.py.

`forgetful-file` is a build in which a kill acts as a power cut: writes reach the real file only with their durable step.
Its mutant, which skips that step and reports it as done, must be caught, or the ledger proves nothing.
"""

import os
import random

import pytest

import ledger
from appliance import BINARIES

FORGETFUL = BINARIES / "penstock-forgetful"
# PENSTOCK_TEST_SEED repeats a run.
SEED = int(os.environ.get("PENSTOCK_TEST_SEED", random.SystemRandom().randrange(1 << 32)))
# PENSTOCK_TEST_ROUNDS=10 is for those in a hurry.
SHARE = float(os.environ.get("PENSTOCK_TEST_ROUNDS", 200)) / 200


def rounds(count):
    return max(2, int(count * SHARE))


def nothing_is_lost(directory, count, **settings):
    print(f"PENSTOCK_TEST_SEED={SEED}")
    books = ledger.run(directory, rounds(count), SEED, **settings)
    wrong = books.reconcile()
    print(books.summary())
    assert not wrong, "\n".join([books.summary(), *wrong[:40]])
    # A server that takes nothing loses nothing.
    assert len(books.promised) > rounds(count)


@pytest.mark.timeout(900)
def test_200_kills_under_io_uring(directory):
    nothing_is_lost(directory, 200, route="smtp")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("route", ["lmtp", "maildir"])
def test_kills_by_route(directory, route):
    nothing_is_lost(directory, 30, route=route)


@pytest.mark.timeout(300)
def test_kills_under_epoll(directory):
    nothing_is_lost(directory, 30, io="epoll", route="smtp")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("io", ["auto", "epoll"])
def test_power_cuts(directory, io):
    """What was durable is there, although nothing else is."""
    nothing_is_lost(directory, 60 if io == "auto" else 30, io=io, route="smtp", binary=FORGETFUL)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("io", ["auto", "epoll"])
def test_the_ledger_sees_what_a_server_loses_that_does_not_sync(directory, io):
    # What is delivered at once cannot be lost; in paused lives a kill takes all that they promised.
    books = ledger.run(directory, 8, SEED, io=io, route="smtp", binary=FORGETFUL,
                       environment={"PENSTOCK_FORGETFUL": "skip-durable"}, patience=3, paused=0.7)
    wrong = books.reconcile()
    print(books.summary())
    assert any(line.startswith("lost: ") for line in wrong), "the mutant lost nothing, so the ledger proves nothing"


def test_the_ledger_itself():
    """Each thing that can be wrong is seen in made-up books."""
    def books():
        made = ledger.Ledger(1)
        made.promised = {"c1-1": 0, "c1-2": 0}
        for tag in ("c1-1", "c1-2"):
            made.arrived(0, ledger.recipients_of(tag), ledger.content_of(1, tag))
        return made

    assert books().reconcile() == []
    lost = books()
    lost.promised["c1-7"] = 3
    assert len(lost.reconcile()) == 3 and "lost" in lost.reconcile()[0]
    damaged = books()
    damaged.promised["c1-3"] = 0
    damaged.arrived(0, ["c1-3.0@example.edu"], ledger.content_of(1, "c1-3")[:-9] + b"x")
    assert "damaged" in damaged.reconcile()[0]
    ghost = books()
    ghost.begun.add("c1-4")
    ghost.arrived(0, ["c1-4.0@example.edu"], ledger.content_of(1, "c1-4"))
    assert "never sent whole" in ghost.reconcile()[0]
    twice = books()
    twice.arrived(0, ["c1-1.0@example.edu"], ledger.content_of(1, "c1-1"))
    assert "twice in one life" in twice.reconcile()[0]
    in_flight = books()
    in_flight.arrived(1, ["c1-2.0@example.edu"], ledger.content_of(1, "c1-2"))
    assert in_flight.reconcile() == []
    in_flight.orderly.add(0)
    assert "in order" in in_flight.reconcile()[0]
    # c1-1 came again, c1-2 behind it on the same connection did not.
    out_of_turn = books()
    out_of_turn.arrived(1, ["c1-1.0@example.edu"], ledger.content_of(1, "c1-1"))
    assert "behind it was not" in out_of_turn.reconcile()[0]
