"""A disk with a write cache, for nbdkit: `nbdkit python disk.py directory=DIR flush_ms=MS`.

What it keeps, and what a cut leaves: cut.py. A flush takes as long as it is told to, as on a disk that turns; a cut meanwhile
finds the writes before it on their way.

Requests come one at a time, as nbdkit does for Python unless it is told otherwise: a flush covers all writes before it.
"""

import time

import nbdkit
from cut import Platters

API_VERSION = 2
settings = {}


def config(key, value):
    settings[key] = value


def open(readonly):
    return Platters(settings["directory"])


def close(disk):
    disk.close()


def get_size(disk):
    return disk.size()


def can_fua(disk):
    return nbdkit.FUA_NATIVE


def pread(disk, into, offset, flags):
    into[:] = disk.read(len(into), offset)


def pwrite(disk, octets, offset, flags):
    disk.write(octets, offset, bool(flags & nbdkit.FLAG_FUA))


def flush(disk, flags):
    time.sleep(float(settings["flush_ms"]) / 1000)
    disk.flush()
