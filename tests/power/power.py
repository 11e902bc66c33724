"""Power cuts under the ledger of tests/e2e/ledger.py: what was promised with `250` is delivered, whole, however often.

By hand: `python tests/power/power.py --cuts 100 --file-system xfs --io epoll`; tests/run power does it for both file systems.
"""

import argparse
import collections
import functools
import random
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))

import ledger  # noqa: E402
from machine import Machine, accelerator, missing  # noqa: E402

LIFE_S = (0.2, 1.5)
# The control. What is delivered at once cannot be lost, so most lives only keep.
NO_FLUSH = {"cache": False, "kinds": ["power"], "kept": 0, "paused": 0.8}


def run(directory, cuts, seed, file_system, io="auto", binary=None, paused=0.25, **machine):
    """Cuts the power so many times; the ledger, and the machine that knows what the disk lost. `machine`: see there."""
    made = []

    def make(*arguments, **settings):
        sink = settings["routes"][0]["smarthost"].rsplit(":", 1)[1]
        make_machine = functools.partial(Machine, file_system=file_system, seed=seed, sink=sink, **machine)
        made.append(make_machine(*arguments, **settings))
        return made[0]

    # A machine needs a while to boot, and a backlog a while to be delivered.
    books = ledger.run(directory, cuts, seed, io=io, binary=binary, paused=paused, life_s=LIFE_S, make=make, patience=30)
    return books, made[0]


def summary(books, machine):
    """One line: what was cut, and what became of the mail."""
    kinds = collections.Counter(cut["kind"] for cut in machine.cuts)
    hurt = sum(cut["lost"] + cut["torn"] > 0 for cut in machine.cuts)
    lost = sum(cut["lost"] for cut in machine.cuts)
    torn = sum(cut["torn"] for cut in machine.cuts)
    disk = "SCSI" if machine.scsi else "virtio"
    return (f"{machine.file_system} on {disk}, {accelerator()[1]}: {dict(kinds)}, "
            f"the disk lost something in {hurt}: {lost} writes, {torn} torn; {books.summary()}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--file-system", default="ext4", choices=["ext4", "xfs"])
    parser.add_argument("--io", default="auto", choices=["auto", "io_uring", "epoll"])
    parser.add_argument("--scsi", action="store_true", help="the disk is a SCSI one, which takes FUA")
    parser.add_argument("--no-flush", action="store_true",
                        help="the kernel sends no flush, and all is cut that was not flushed: mail must be lost, or this proves nothing")
    parser.add_argument("--binary", type=Path)
    parser.add_argument("--keep", action="store_true", help="keep the directory, which is kept anyway when something is wrong")
    options = parser.parse_args()
    if missing():
        sys.exit(missing())
    directory = tempfile.mkdtemp(prefix="penstock-power-")
    print(f"seed {options.seed}, {directory}", flush=True)
    settings = NO_FLUSH if options.no_flush else {}
    books, machine = run(directory, options.cuts, options.seed, options.file_system, options.io, options.binary,
                         scsi=options.scsi, **settings)
    wrong = books.reconcile()
    print(summary(books, machine))
    print("\n".join(wrong[:40]))
    if not wrong and not options.keep:
        shutil.rmtree(directory)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
