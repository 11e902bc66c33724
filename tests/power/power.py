"""Power cuts under the ledger of tests/e2e/ledger.py: what was promised with `250` is delivered, whole, however often.

By hand: `python tests/power/power.py --cuts 100`, a quarter of them on each of four virtual machines; with `--here` on two
file systems of this machine. tests/run power does the first.
"""

import argparse
import collections
import random
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))

import disks  # noqa: E402
import ledger  # noqa: E402
import machine  # noqa: E402
from host import Server  # noqa: E402
from machine import Machine  # noqa: E402

LIFE_S = (0, 1)
# A life without promises shows nothing.
PROMISED_MIN = 4
# File system, kernel interface, is the disk a SCSI one.
MACHINES = [("ext4", "auto", False), ("xfs", "epoll", True), ("ext4", "epoll", True), ("xfs", "auto", False)]
# The control. What is delivered at once cannot be lost, so most lives only keep.
NO_FLUSH = {"flush": False, "kept": 0, "paused": 0.8}


def missing(here=False):
    """Why there can be no cuts; empty if there can."""
    why = disks.refused() if here else machine.missing()
    return why and f"{why}; not counted as passed"


def run(directory, cuts, seed, file_system, io="auto", binary=None, here=False, paused=0.25, orderly=0.05, patience=30, **settings):
    """Cuts the power so many times; the ledger, and the machine that knows what the disk lost. `here`: no virtual one.
    `settings`: those of `Machine` or `Server`."""
    made = []

    def make(*arguments, **usual):
        if not here:
            settings["sink"] = usual["routes"][0]["smarthost"].rsplit(":", 1)[1]
        made.append((Server if here else Machine)(*arguments, file_system=file_system, seed=seed, **settings, **usual))
        return made[0]

    try:
        # A machine needs a while to boot, and a backlog a while to be delivered.
        books = ledger.run(directory, cuts, seed, io=io, binary=binary, paused=paused, orderly=orderly, life_s=LIFE_S,
                           promised_min=PROMISED_MIN, make=make, patience=patience)
    finally:
        for server in made:
            server.close()
    return books, made[0]


def summary(books, server):
    """One line: what was cut, and what became of the mail."""
    kinds = collections.Counter(cut["kind"] for cut in server.cuts)
    hurt = sum(cut["lost"] + cut["torn"] > 0 for cut in server.cuts)
    lost, torn = (sum(cut[what] for cut in server.cuts) for what in ("lost", "torn"))
    return f"{server.about()}: {dict(kinds)}, the disk lost something in {hurt}: {lost} writes, {torn} torn; {books.summary()}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=100, help="in all; equally many on each machine, unless one is named")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--here", action="store_true", help="no virtual machine: file systems of this one, mounted by root")
    parser.add_argument("--file-system", choices=["ext4", "xfs"])
    parser.add_argument("--io", default="auto", choices=["auto", "io_uring", "epoll"])
    parser.add_argument("--scsi", action="store_true", help="the virtual machine's disk is a SCSI one, which takes FUA")
    parser.add_argument("--no-flush", action="store_true",
                        help="the kernel sends no flush, and all is cut that was not flushed: mail must be lost, or this proves nothing")
    parser.add_argument("--binary", type=Path)
    options = parser.parse_args()
    if missing(options.here):
        sys.exit(missing(options.here))
    machines = MACHINES[:2] if options.here else MACHINES
    if options.file_system:
        machines = [(options.file_system, options.io, options.scsi)]
    wrong = []
    for file_system, io, scsi in machines:
        settings = {"here": True} if options.here else {"scsi": scsi}
        wrong += cut(options, -(-options.cuts // len(machines)), file_system, io, **settings)
    sys.exit(1 if wrong else 0)


def cut(options, cuts, file_system, io, **settings):
    """One machine; what is wrong. Then its directory is kept."""
    directory = tempfile.mkdtemp(prefix="penstock-power-")
    print(f"{file_system}, io {io}: {cuts} cuts, seed {options.seed}, {directory}", flush=True)
    if options.no_flush:
        settings.update(NO_FLUSH)
    books, server = run(directory, cuts, options.seed, file_system, io, options.binary, **settings)
    wrong = books.reconcile()
    print("\n".join([f"measured: {summary(books, server)}", *wrong[:40]]), flush=True)
    if not wrong:
        shutil.rmtree(directory)
    return wrong


if __name__ == "__main__":
    main()
