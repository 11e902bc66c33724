"""File systems on disks that fail on purpose: ext4 and xfs on a loop device, and below it nbdkit.

    Penstock --> ext4, xfs --> /dev/loopN --> nbdfuse, a file --> nbdkit: filters error and delay, failing.py --> an image

They are mounted in a mount namespace of this process, which goes with it: nothing is left behind, whatever ends the tests.
Where mounting is refused the tests that need it are skipped, and the reason is printed.
"""

import ctypes
import functools
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from appliance import ROOT, wait_for

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS = 0x20000
PR_SET_PDEATHSIG = 1
POWER = ROOT / "tests/power"
MIB = 1 << 20
# xfs makes none smaller than 300 MiB.
SIZE_BYTES = 320 * MIB
MAKE = {"ext4": ["mkfs.ext4", "-q", "-F"], "xfs": ["mkfs.xfs", "-q", "-f"]}
PROGRAMS = ["nbdkit", "nbdfuse", "losetup", "mount", "umount", "fusermount3", "filefrag", "xfs_io", "mkfs.ext4", "mkfs.xfs"]
PATH = os.environ["PATH"] + ":/usr/sbin:/sbin"


@functools.cache
def refused():
    """Why nothing can be mounted here; empty if it can."""
    lacking = [program for program in PROGRAMS if not shutil.which(program, path=PATH)]
    if lacking:
        return f"missing: {', '.join(lacking)}"
    if os.getuid() != 0:
        return "mounting takes root"
    if not os.path.exists("/dev/fuse") or not os.path.exists("/dev/loop-control"):
        return "there is no /dev/fuse or no /dev/loop-control"
    if LIBC.unshare(CLONE_NEWNS) != 0:
        return f"no mount namespace: {os.strerror(ctypes.get_errno())}"
    done = subprocess.run(["mount", "--make-rprivate", "/"], capture_output=True, text=True, timeout=60)
    return done.stderr.strip()


def needs_mounts():
    if refused():
        pytest.skip(f"{refused()}; not counted as passed")


def run(*command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120, env={**os.environ, "PATH": PATH})
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def die_with_us():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Disk:
    """A mounted file system, `path`, on a disk that does what it is told."""

    def __init__(self, directory, file_system, write_delay_ms=0):
        self.room = Path(directory)
        self.file_system, self.write_delay_ms = file_system, write_delay_ms
        self.image, self.orders, self.gone = self.room / "image", self.room / "orders", self.room / "gone"
        self.fuse, self.path = self.room / "fuse", self.room / "mounted"
        self.started, self.loop, self.is_mounted = [], None, False

    def __enter__(self):
        for directory in (self.room, self.fuse, self.path):
            directory.mkdir(exist_ok=True)
        self.make()
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.works()
        self.stop()

    def make(self):
        with open(self.image, "wb") as image:
            image.truncate(SIZE_BYTES)
        run(*MAKE[self.file_system], self.image)
        self.orders.write_text("")

    def server(self):
        """The command that serves the disk on `nbd`."""
        delay = ["--filter=delay"] if self.write_delay_ms else []
        delayed = [f"wdelay={self.write_delay_ms}ms"] if self.write_delay_ms else []
        return ["nbdkit", "-f", "-U", self.room / "nbd", *delay, "--filter=error", "python", POWER / "failing.py", f"image={self.image}",
                f"orders={self.orders}", "error=EIO", "error-rate=100%", f"error-file={self.gone}", *delayed]

    def start(self):
        (self.room / "nbd").unlink(missing_ok=True)
        self.spawn(*self.server())
        wait_for((self.room / "nbd").exists, 20, "nbdkit does not start")
        self.spawn("nbdfuse", self.fuse / "disk", "--unix", self.room / "nbd")
        wait_for((self.fuse / "disk").exists, 20, "nbdfuse does not start")
        # Around the page cache: a write fails when it is made, and nothing is kept between the file system and the disk.
        self.loop = run("losetup", "-f", "--show", "--direct-io=on", self.fuse / "disk").strip()
        # The kernel remembers of a loop device that somebody has taken its cache away, whatever is behind it now.
        Path(f"/sys/block/{Path(self.loop).name}/queue/write_cache").write_text("write back")
        self.mount()

    def stop(self):
        """Takes it all down, whatever of it is there and however broken."""
        quietly = lambda *command: subprocess.run(list(map(str, command)), capture_output=True, timeout=120)
        if self.is_mounted:
            if quietly("umount", self.path).returncode != 0:
                quietly("umount", "-l", self.path)
            self.is_mounted = False
        if self.loop:
            quietly("losetup", "-d", self.loop)
            self.loop = None
        quietly("umount", "-l", self.fuse)
        for process in reversed(self.started):
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        self.started = []

    def spawn(self, *command):
        with open(self.room / "words", "ab") as words:
            self.started.append(subprocess.Popen(
                list(map(str, command)), stdin=subprocess.DEVNULL, stdout=words, stderr=words, preexec_fn=die_with_us,
                env={**os.environ, "PATH": PATH, "PYTHONPATH": str(POWER)},
            ))

    def mount(self, *options):
        run("mount", *options, self.loop, self.path)
        self.is_mounted = True

    def unmount(self):
        run("umount", self.path)
        self.is_mounted = False

    def mount_again(self, *options):
        """As after a restart: what only memory knew is gone, and the journal has been replayed."""
        self.unmount()
        self.mount(*options)

    def file_system_goes(self):
        """The file system gives itself up: ext4 is read-only then, xfs fails each call."""
        if self.file_system == "ext4":
            run("mount", "-o", "remount,abort", self.path)
        else:
            run("xfs_io", "-x", "-c", "shutdown", self.path)

    def fill(self, left_bytes):
        """A file that leaves so much room."""
        space = os.statvfs(self.path)
        with open(self.path / "ballast", "ab") as ballast:
            os.posix_fallocate(ballast.fileno(), 0, space.f_bavail * space.f_frsize - left_bytes)

    def empty(self):
        (self.path / "ballast").unlink()

    def is_gone(self):
        """From now on every request fails."""
        self.gone.touch()

    def has_bad(self, what, ranges):
        """From now on these places cannot be read, or written."""
        self.order("".join(f"{what} {start} {end}\n" for start, end in ranges))

    def cannot_flush(self):
        self.order("flush\n")

    def stands_still(self):
        """From now on no request is answered."""
        self.started[0].send_signal(signal.SIGSTOP)

    def works(self):
        for process in self.started[:1]:
            process.send_signal(signal.SIGCONT)
        self.gone.unlink(missing_ok=True)
        self.order("")

    def order(self, lines):
        new = self.orders.with_suffix(".new")
        new.write_text(lines)
        new.rename(self.orders)

    def refused(self):
        """Requests that failed by order."""
        file = Path(f"{self.orders}.refused")
        return file.read_text().splitlines() if file.exists() else []


def places(path):
    """Where a file is on its disk: octets from and to."""
    for line in run("filefrag", "-e", "-b4096", path).splitlines():
        fields = line.replace(".", " ").replace(":", " ").split()
        if fields and fields[0].isdigit() and len(fields) > 5:
            yield int(fields[3]) * 4096, (int(fields[4]) + 1) * 4096
