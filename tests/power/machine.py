"""A small virtual machine that runs Penstock and whose power can be cut.

    host                                         guest: a Debian kernel, `init` here, busybox
      clients  --127.0.0.1:PORT--> qemu's network --> penstock serve
      sink     <--busybox nc------ 10.0.2.100:25  <--    |
      nbdkit: disk.py, cut.py <--NBD-- qemu <--virtio or SCSI-- ext4 or xfs, flushes

qemu keeps no cache of its own (cache.direct), so all that lies between a write and its loss is the guest's page cache and the
disk of disk.py. `Machine` is used as a `Penstock` of appliance.py is, and a kill is one of

    power   qemu is killed; of what was not flushed the disk loses a part, by chance
    reset   sysrq b: the guest's memory is gone, the disk keeps what it was given
    panic   sysrq c: the same by a crash of the kernel

Nothing is installed and no network but loopback is reached (restrict=on). It uses /dev/kvm where it may, else emulates.
"""

import copy
import functools
import lzma
import os
import platform
import random
import re
import shutil
import socket
import stat
import subprocess
import tarfile
import time
from pathlib import Path

from appliance import PENSTOCK, ROOT, Penstock, free_port, wait_for
from cut import Platters

HERE = Path(__file__).resolve().parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
QEMU = "qemu-system-x86_64"
# Of the kernel's modules; one that is not there is built in.
MODULES = "virtio_pci virtio_blk virtio_net virtio_console virtio_scsi sd_mod crc32c_generic ext4 xfs".split()
FILE_SYSTEMS = {"ext4": ["mkfs.ext4", "-q", "-F"], "xfs": ["mkfs.xfs", "-q", "-f"]}
DISK_BYTES = 400 << 20
BOOT_S = 300
KINDS = ["power", "power", "power", "reset", "panic"]


def missing():
    """Why no such machine can be run here; empty if one can."""
    if platform.machine() != "x86_64":
        return f"power cuts run on x86-64 only, this is {platform.machine()}"
    programs = [QEMU, "nbdkit", "ldd", *(command[0] for command in FILE_SYSTEMS.values())]
    lacking = [program for program in programs if not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin")]
    lacking += [] if busybox() else ["busybox under target/beside"]
    lacking += [] if kernel() else ["a kernel under target/beside/boot"]
    return f"missing: {', '.join(lacking)}" if lacking else ""


def kernel():
    """The latest kernel that was unpacked."""
    found = sorted((TARGET / "beside/boot").glob("vmlinuz-*"))
    return found[-1] if found else None


def busybox():
    """The static one that was unpacked."""
    return next((path for path in (TARGET / "beside/bin/busybox", TARGET / "beside/usr/bin/busybox") if path.exists()), None)


@functools.cache
def accelerator():
    """KVM where it works, which a machine within a machine may promise and not keep; else emulation."""
    kvm = ["-accel", "kvm", "-cpu", "host,arch-capabilities=off"]
    if os.access("/dev/kvm", os.R_OK | os.W_OK):
        # Without a root file system the kernel panics at once, and qemu ends.
        probe = [QEMU, *kvm, "-nodefaults", "-display", "none", "-no-reboot", "-kernel", str(kernel()), "-append", "panic=-1"]
        try:
            if subprocess.run(probe, stdin=subprocess.DEVNULL, capture_output=True, timeout=8).returncode == 0:
                return kvm
        except subprocess.TimeoutExpired:
            pass
    return ["-accel", "tcg", "-cpu", "max"]


class Machine(Penstock):
    """A configured machine; its disk outlives every kill."""

    def __init__(self, directory, file_system="ext4", seed=1, scsi=False, flush=True, sink=None, kinds=KINDS, kept=None,
                 **settings):
        """`flush`: the guest's kernel knows that the disk has a cache. `sink`: the host's port behind 10.0.2.100:25. `kept`: the
        share of unflushed writes that a cut leaves; chance if none is given."""
        self.kernel = kernel()
        self.kinds, self.kept = kinds, kept
        self.file_system, self.scsi, self.flush, self.sink = file_system, scsi, flush, sink
        self.chance = random.Random(f"{seed}/{file_system}")
        self.cuts = []  # of each end: its kind, and what became of the unflushed writes
        self.disk = None
        self.up = False
        self.room = Path(directory)
        (self.room / "platters").mkdir(parents=True)
        super().__init__(directory, **settings)
        self.make_disk()
        self.pack()

    def make_disk(self):
        for name in ("durable", "seen"):
            with open(self.room / "platters" / name, "wb") as file:
                file.truncate(DISK_BYTES)
        durable = self.room / "platters/durable"
        environment = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
        subprocess.run([*FILE_SYSTEMS[self.file_system], durable], check=True, capture_output=True, timeout=60, env=environment)
        subprocess.run(["cp", "--sparse=always", durable, self.room / "platters/seen"], check=True, timeout=60)

    def pack(self):
        """What the machine boots, and the programs that it runs."""
        version = self.kernel.name.removeprefix("vmlinuz-")
        modules = in_order(TARGET / "beside/lib/modules" / version)
        archive = [("init", (HERE / "init").read_bytes(), 0o755), ("bin", None, 0o755), ("modules", None, 0o755),
                   ("bin/busybox", busybox().read_bytes(), 0o755), ("modules/order", "".join(f"{name}\n" for name in modules).encode(), 0o644)]
        archive += [(f"modules/{name}", octets, 0o644) for name, octets in modules.items()]
        (self.room / "initramfs").write_bytes(cpio(archive))
        with tarfile.open(self.room / "programs.tar", "w") as tar:
            for library in libraries(self.binary):
                tar.add(os.path.realpath(library), library.lstrip("/"))
            tar.add(stripped(self.binary, self.room), "penstock/penstock")

    def write_config(self):
        """The configuration as the guest sees it, with the files that it names."""
        settings = copy.deepcopy(self.settings)
        settings["spool"]["directory"] = "/spool/penstock"
        settings["tls"] = {"certificate": "/config/certificate.pem", "key": "/config/key.pem"}
        settings["auth"].update(users_file="/config/users", brake_exempt_networks=["0.0.0.0/0"])
        settings[""]["trusted_networks"] = ["10.0.2.0/24"]
        settings["limits"]["connections_exempt_networks"] = ["0.0.0.0/0"]
        for listener in settings["listener"]:
            listener["address"] = listener["address"].replace("127.0.0.1:", "0.0.0.0:")
        for route in settings["relay.route"]:
            route["smarthost"] = "10.0.2.100:25"
        settings, self.settings = self.settings, settings
        super().write_config()
        self.settings = settings
        with tarfile.open(self.room / "config.tar", "w") as tar:
            for name in ("penstock.toml", "certificate.pem", "key.pem", "users"):
                tar.add(self.directory / name, f"config/{name}")

    def start(self):
        self.start_disk()
        forwards = "".join(f",hostfwd=tcp:127.0.0.1:{port}-:{port}" for port in self.port.values())
        spool = "/dev/sda" if self.scsi else "/dev/vdc"
        cache = "" if self.flush else " cache=none"
        command = [
            QEMU, *accelerator(), "-m", "512",
            "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-kernel", self.kernel, "-initrd", self.room / "initramfs",
            "-append", f"quiet panic=-1 mitigations=off no_timer_check console=hvc0 spool={spool} fs={self.file_system}{cache}",
            "-device", "virtio-serial-pci", "-chardev", "stdio,id=console,signal=off", "-device", "virtconsole,chardev=console",
            "-chardev", f"file,id=log,append=on,path={self.log}", "-device", "virtserialport,chardev=log,name=log",
            "-netdev", f"user,id=net,restrict=on{forwards},guestfwd=tcp:10.0.2.100:25-cmd:{busybox()} nc 127.0.0.1 {self.sink}",
            "-device", "virtio-net-pci,netdev=net,romfile=",
            "-blockdev", f"raw,node-name=programs,read-only=on,file.driver=file,file.filename={self.room}/programs.tar",
            "-device", "virtio-blk-pci,drive=programs",
            "-blockdev", f"raw,node-name=config,read-only=on,file.driver=file,file.filename={self.room}/config.tar",
            "-device", "virtio-blk-pci,drive=config",
            "-blockdev", f"nbd,node-name=disk,server.type=unix,server.path={self.room}/nbd,cache.direct=on,cache.no-flush=off",
            # A SCSI disk can be written with FUA, one of virtio is flushed before and after.
            *(["-device", "virtio-scsi-pci", "-device", "scsi-hd,dpofua=on,drive=disk,write-cache=on"] if self.scsi else
              ["-device", "virtio-blk-pci,drive=disk,write-cache=on"]),
        ]
        with open(self.room / "console", "ab") as console:
            self.console_from = console.tell()
            self.process = subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=console, stderr=console)
        wait_for(self.greets, BOOT_S, lambda: f"the machine does not come up:\n{self.told()[-3000:]}\n{self.log_text()[-3000:]}")

    def start_disk(self):
        address = self.room / "nbd"
        address.unlink(missing_ok=True)
        with open(self.room / "nbdkit.log", "ab") as log:
            self.disk = subprocess.Popen(
                ["nbdkit", "-f", "-U", address, "python", HERE / "disk.py", f"directory={self.room}/platters",
                 f"flush_ms={self.chance.choice([0, 3, 12])}"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": str(HERE)},
            )
        wait_for(lambda: is_socket(address), 20, "nbdkit does not start")

    def told(self):
        """What the console has said in this life."""
        with open(self.room / "console", "rb") as console:
            console.seek(self.console_from)
            return console.read().decode(errors="replace").replace("\r\n", "\n")

    def greets(self):
        """qemu accepts connections before anybody listens inside: only a greeting counts."""
        told = self.told()
        assert self.process.poll() is None and "machine: ended" not in told, f"it ended at start:\n{told[-3000:]}\n{self.log_text()[-3000:]}"
        if "machine: mounted" not in told:
            return False
        try:
            with socket.create_connection(("127.0.0.1", self.port["smtp"]), timeout=2) as connection:
                self.up = connection.recv(3) == b"220"
        except OSError:
            pass
        return self.up

    def is_up(self):
        return self.up

    def kill(self):
        self.up = False
        if self.process is None or self.process.poll() is not None:
            return self.end_disk("power")
        kind = self.chance.choice(self.kinds)
        if kind != "power":
            self.tell("b" if kind == "reset" else "c")
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                kind = "power"
        self.process.kill()
        self.process.wait(10)
        self.end_disk(kind)

    def stop(self):
        self.up = False
        self.tell("q")
        try:
            self.process.wait(60)
        finally:
            self.process.kill()
            self.process.wait(10)
        told = self.told()
        # What an orderly end has not flushed is lost as well.
        self.end_disk("order")
        assert "machine: ended with 0\n" in told and "machine: unmounted\n" in told, told[-3000:]

    def close(self):
        """Whatever runs is ended."""
        for process in (self.process, self.disk):
            if process and process.poll() is None:
                process.kill()
                process.wait(10)

    def about(self):
        return f"{self.file_system}, {'SCSI' if self.scsi else 'virtio'}, {accelerator()[1]}"

    def tell(self, word):
        self.process.stdin.write(f"{word}\n".encode())
        self.process.stdin.flush()

    def end_disk(self, kind):
        if self.disk is None:
            return
        self.disk.kill()
        self.disk.wait(10)
        self.disk = None
        platters = Platters(self.room / "platters")
        counts = platters.keep_all() if kind in ("reset", "panic") else platters.cut(self.chance, self.kept)
        platters.close()
        self.cuts.append({"kind": kind, **counts})


def is_socket(path):
    return path.exists() and stat.S_ISSOCK(path.stat().st_mode)


def libraries(binary):
    """What the dynamic loader will want, by its own words, and the loader."""
    said = subprocess.run(["ldd", binary], check=True, capture_output=True, text=True, timeout=60).stdout
    return re.findall(r"(/\S+) \(0x", said)


def stripped(binary, room):
    """Without what a debugger wants, to boot sooner."""
    copy = room / "penstock-stripped"
    if shutil.which("strip"):
        subprocess.run(["strip", "-o", copy, binary], check=True, timeout=60)
        return copy
    return binary


def in_order(directory):
    """The modules that are wanted and those that they need, by name, each behind what it needs."""
    files = {path.name.split(".ko")[0].replace("-", "_"): path for path in directory.rglob("*.ko*")}
    loaded = {}

    def load(name):
        if name in loaded or name not in files:
            return
        octets = files[name].read_bytes()
        if files[name].suffix == ".xz":
            octets = lzma.decompress(octets)
        needed = re.search(rb"\0depends=([^\0]*)\0", octets)
        for before in needed.group(1).decode().split(",") if needed else []:
            load(before.replace("-", "_"))
        loaded[name] = octets

    for name in MODULES:
        load(name)
    return loaded


def cpio(entries):
    """An initramfs: a cpio archive of the form newc. Entries: name, content or None for a directory, mode."""
    out = bytearray()
    for number, (name, content, mode) in enumerate([*entries, ("TRAILER!!!", b"", 0)]):
        kind = stat.S_IFDIR if content is None else stat.S_IFREG
        fields = [number + 1, kind | mode, 0, 0, 1, 0, len(content or b""), 0, 0, 0, 0, len(name) + 1, 0]
        out += b"070701" + b"".join(b"%08X" % field for field in fields) + name.encode() + b"\0"
        out += bytes(-len(out) % 4) + (content or b"")
        out += bytes(-len(out) % 4)
    return bytes(out)
