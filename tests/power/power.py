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
# File system, kernel interface, is the disk a SCSI one.
MACHINES = [("ext4", "auto", False), ("xfs", "epoll", True), ("ext4", "epoll", True), ("xfs", "auto", False)]
# The control. What is delivered at once cannot be lost, so most lives only keep.
NO_FLUSH = {"cache": False, "kinds": ["power"], "kept": 0, "paused": 0.8}


def run(directory, cuts, seed, file_system, io="auto", binary=None, paused=0.25, orderly=0.05, patience=30, **machine):
    """Cuts the power so many times; the ledger, and the machine that knows what the disk lost. `machine`: see there."""
    made = []

    def make(*arguments, **settings):
        sink = settings["routes"][0]["smarthost"].rsplit(":", 1)[1]
        make_machine = functools.partial(Machine, file_system=file_system, seed=seed, sink=sink, **machine)
        made.append(make_machine(*arguments, **settings))
        return made[0]

    # A machine needs a while to boot, and a backlog a while to be delivered.
    books = ledger.run(directory, cuts, seed, io=io, binary=binary, paused=paused, orderly=orderly, life_s=LIFE_S, make=make,
                       patience=patience)
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
    parser.add_argument("--cuts", type=int, default=100, help="in all; a quarter on each of the four machines, unless one is named")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--file-system", choices=["ext4", "xfs"])
    parser.add_argument("--io", default="auto", choices=["auto", "io_uring", "epoll"])
    parser.add_argument("--scsi", action="store_true", help="the disk is a SCSI one, which takes FUA")
    parser.add_argument("--no-flush", action="store_true",
                        help="the kernel sends no flush, and all is cut that was not flushed: mail must be lost, or this proves nothing")
    parser.add_argument("--binary", type=Path)
    options = parser.parse_args()
    if missing():
        sys.exit(f"{missing()}; not counted as passed")
    settings = NO_FLUSH if options.no_flush else {}
    machines = [(options.file_system, options.io, options.scsi)] if options.file_system else MACHINES
    wrong = []
    for file_system, io, scsi in machines:
        wrong += cut(options, -(-options.cuts // len(machines)), file_system, io, scsi=scsi, **settings)
    sys.exit(1 if wrong else 0)


def cut(options, cuts, file_system, io, **settings):
    """One machine; what is wrong. Then its directory is kept."""
    directory = tempfile.mkdtemp(prefix="penstock-power-")
    print(f"{file_system}, io {io}: {cuts} cuts, seed {options.seed}, {directory}", flush=True)
    books, machine = run(directory, cuts, options.seed, file_system, io, options.binary, **settings)
    wrong = books.reconcile()
    print("\n".join([f"measured: {summary(books, machine)}", *wrong[:40]]), flush=True)
    if not wrong:
        shutil.rmtree(directory)
    return wrong


if __name__ == "__main__":
    main()
