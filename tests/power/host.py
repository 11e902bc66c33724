"""Power cuts without a virtual machine: this machine's own kernel, on a disk that loses what was not flushed.

    Penstock --> ext4, xfs --> /dev/loopN --> nbdfuse, a file --> nbdkit: disk.py, cut.py

A cut kills disk and server, in either order. What the kernel still holds of the file system fails then, as the disk is gone,
and never reaches the image; that is mounted anew as the cut has left it. So it is as if the power had gone, at a second a cut
instead of a boot; what only a machine shows, such as what a kernel does when it crashes, is machine.py's.
"""

import random
from pathlib import Path

from appliance import Penstock
from cut import Platters
from disks import MAKE, POWER, SIZE_BYTES, Disk, run


class Server(Penstock):
    """A Penstock whose spool is on such a disk; `kill` is a cut."""

    def __init__(self, directory, file_system="ext4", seed=1, flush=True, kept=None, **settings):
        """`flush`: the kernel knows that the disk has a cache. `kept`: the share of unflushed writes that a cut leaves; chance
        if none is given."""
        self.chance = random.Random(f"{seed}/{file_system}")
        self.cuts, self.kept = [], kept
        self.disk = CutDisk(Path(directory).parent / "disk", file_system, self.chance, flush).__enter__()
        super().__init__(directory, **{**settings, "spool": {**settings["spool"], "directory": self.disk.path / "spool"}})

    def start(self):
        if not self.disk.is_mounted:
            self.disk.start()
        super().start()

    def kill(self):
        if self.process is None or self.process.poll() is not None:
            return super().kill()
        if self.chance.random() < 0.5:
            self.disk.dies()
        super().kill()
        self.cuts.append({"kind": "power", **self.disk.cut(self.kept)})

    def close(self):
        """Whatever runs is ended."""
        super().kill()
        self.disk.stop()

    def about(self):
        return f"{self.disk.file_system}, this kernel"


class CutDisk(Disk):
    """A disk of cut.py below a file system of this machine."""

    def __init__(self, directory, file_system, chance, flush):
        super().__init__(directory, file_system)
        self.chance, self.flush = chance, flush

    def make(self):
        for name in ("durable", "seen"):
            with open(self.room / name, "wb") as file:
                file.truncate(SIZE_BYTES)
        run(*MAKE[self.file_system], self.room / "durable")
        run("cp", "--sparse=always", self.room / "durable", self.room / "seen")

    def server(self):
        return ["nbdkit", "-f", "-U", self.room / "nbd", "python", POWER / "disk.py", f"directory={self.room}",
                f"flush_ms={self.chance.choice([0, 3, 12])}"]

    def mount(self, *options):
        cache = Path(f"/sys/block/{Path(self.loop).name}/queue/write_cache")
        cache.write_text("write back" if self.flush else "write through")
        assert cache.read_text().strip() == ("write back" if self.flush else "write through")
        super().mount(*options)

    def dies(self):
        self.started[0].kill()

    def cut(self, kept):
        self.dies()
        self.stop()
        platters = Platters(self.room)
        counts = platters.cut(self.chance, kept)
        platters.close()
        return counts
