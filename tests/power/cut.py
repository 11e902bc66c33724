"""What a power cut leaves of a disk: everything that was flushed, and of the rest what chance will have.

    durable   what is on the platters
    seen      what the machine sees: durable and all later writes
    journal   the writes since the last flush, in their order: [offset u64][length u32][fua u8][octets] each

Flush moves the journal into `durable`. A cut applies each write of the journal, in order, with a chance of its own, some of
them torn at a boundary of 512 octets; so writes that were not flushed are lost, are there, or are there in part, and a later
one may be there while an earlier one is not. A write with FUA is on the platters when it is answered, and always kept.

One block of 4096 octets is written whole or not at all, as disks do whose sectors are that long: ext4 does not mount any more
when the commit block of its journal is torn ("JBD2: journal transaction is corrupt"), whatever runs on it.
"""

import os
import struct
from dataclasses import dataclass
from pathlib import Path

SECTOR = 512
BLOCK = 4096
HEAD = struct.Struct("<QIB")


@dataclass
class Write:
    offset: int
    octets: bytes
    fua: bool


class Platters:
    """The three files of one disk, in a directory."""

    def __init__(self, directory):
        directory = Path(directory)
        self.durable, self.seen, self.journal = (
            os.open(directory / name, os.O_RDWR | os.O_CREAT, 0o600) for name in ("durable", "seen", "journal")
        )

    def close(self):
        for file in (self.durable, self.seen, self.journal):
            os.close(file)

    def size(self):
        return os.fstat(self.durable).st_size

    def read(self, length, offset):
        return os.pread(self.seen, length, offset)

    def write(self, octets, offset, fua):
        at = os.fstat(self.journal).st_size
        os.pwrite(self.journal, HEAD.pack(offset, len(octets), fua) + bytes(octets), at)
        os.pwrite(self.seen, octets, offset)

    def flush(self):
        for write in self.unflushed():
            os.pwrite(self.durable, write.octets, write.offset)
        os.ftruncate(self.journal, 0)

    def unflushed(self):
        """The journal; an entry that is cut off was never answered."""
        at, end, writes = 0, os.fstat(self.journal).st_size, []
        while at + HEAD.size <= end:
            offset, length, fua = HEAD.unpack(os.pread(self.journal, HEAD.size, at))
            octets = os.pread(self.journal, length, at + HEAD.size)
            if len(octets) == length:
                writes.append(Write(offset, octets, bool(fua)))
            at += HEAD.size + length
        return writes

    def cut(self, chance, kept=None):
        """The power is gone. `kept`: the share of unflushed writes that reach the platters; chance if none is given."""
        writes = self.unflushed()
        if kept is None:
            kept = chance.choice([0, 0.1, 0.5, 0.9, 1])
        counts = {"unflushed": len(writes), "kept": 0, "torn": 0, "lost": 0}
        for number, write in enumerate(writes):
            is_last = number == len(writes) - 1
            if write.fua or kept == 1 and not is_last:
                fate = "kept"
            elif 0 < kept and len(write.octets) > BLOCK and chance.random() < (0.5 if is_last else 0.1):
                fate = "torn"
            else:
                fate = "kept" if chance.random() < kept else "lost"
            counts[fate] += 1
            for start, end in pieces(chance, len(write.octets), fate):
                os.pwrite(self.durable, write.octets[start:end], write.offset + start)
        self.forget(writes)
        return counts

    def keep_all(self):
        """The disk keeps its power."""
        writes = self.unflushed()
        self.flush()
        return {"unflushed": len(writes), "kept": len(writes), "torn": 0, "lost": 0}

    def forget(self, writes):
        """What the machine sees from now on is what is durable."""
        for write in writes:
            os.pwrite(self.seen, os.pread(self.durable, len(write.octets), write.offset), write.offset)
        os.ftruncate(self.journal, 0)


def pieces(chance, length, fate):
    """Which parts of a write reach the platters."""
    if fate == "lost":
        return []
    if fate == "kept":
        return [(0, length)]
    at = SECTOR * chance.randrange(1, -(-length // SECTOR))
    return chance.choice([[(0, at)], [(at, length)]])
