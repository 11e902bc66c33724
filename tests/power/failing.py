"""A disk with bad places, for nbdkit: `nbdkit python failing.py image=FILE orders=FILE`.

The orders are read whenever the file changes, one a line, and hold for requests that touch the range:

    write START END      fails with EIO          read START END      likewise          flush      fails with EIO

What was refused is a line in FILE.refused: the order's words and the request's own range.
"""

import errno
import io
import os

import nbdkit

API_VERSION = 2
settings = {}


class Disk:
    def __init__(self):
        self.file = os.open(settings["image"], os.O_RDWR)
        self.refused = os.open(settings["orders"] + ".refused", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self.orders, self.version = [], None

    def obey(self, what, offset=0, length=1):
        version = os.stat(settings["orders"]).st_mtime_ns
        if version != self.version:
            with io.open(settings["orders"]) as orders:
                self.orders = [line.split() for line in orders]
            self.version = version
        for order, *at in self.orders:
            start, end = map(int, at or (0, 1))
            if order == what and offset < end and offset + length > start:
                os.write(self.refused, f"{what} {offset} {offset + length}\n".encode())
                nbdkit.set_error(errno.EIO)
                raise OSError(errno.EIO, "ordered")


def config(key, value):
    settings[key] = value


def open(readonly):
    return Disk()


def get_size(disk):
    return os.fstat(disk.file).st_size


def pread(disk, into, offset, flags):
    disk.obey("read", offset, len(into))
    into[:] = os.pread(disk.file, len(into), offset)


def pwrite(disk, octets, offset, flags):
    disk.obey("write", offset, len(octets))
    os.pwrite(disk.file, octets, offset)


def flush(disk, flags):
    disk.obey("flush")
