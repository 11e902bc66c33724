"""The memory that one core has for messages being received: strangers are refused first, users later, and all of it comes back.

Here it is 1 MiB on one core. A content whose header does not end stays in memory; an envelope does too.
"""

import os
from contextlib import ExitStack
from pathlib import Path

from appliance import wait_for
from mail import message
from wire import Wire, submit

SETTINGS = {"top": {"cores": 1, "local_domains": ["example.org"]}, "limits": {"receiving_mib_per_core": 1}}
FIELD = b"X-Long: " + b"x" * 900 + b"\r\n"


def stranger(server):
    wire = Wire(server.port["smtp"])
    wire.say("EHLO client.example", "250")
    return wire


def begin(wire):
    wire.say("MAIL FROM:<anna@example.com>", "250")
    wire.say("RCPT TO:<ben@example.org>", "250")


# covers: 5.9 11.3 11.6
def test_contents_of_strangers_are_given_up_first(appliance):
    with appliance(**SETTINGS) as server, ExitStack() as stack:
        wires = [stack.enter_context(stranger(server)) for _ in range(8)]
        for wire in wires:
            begin(wire)
            wire.say("DATA", "354")
        for wire in wires:
            wire.send(FIELD * 220)  # 200 KiB of header each: over the budget in all.
        told = []
        for wire in wires:
            wire.send(b"\r\nbody\r\n.\r\n")
            told.append(wire.reply()[:9])
        assert "452 4.3.1" in told and set(told) <= {"452 4.3.1", "250 2.0.0"}, told
        assert submit(server.port["submissions"], message("a user")).startswith("250")
        # All of it came back: the next strangers are served.
        with stranger(server) as wire:
            begin(wire)
            wire.say("DATA", "354")
            wire.send(FIELD * 220 + b"\r\nbody\r\n.\r\n")
            assert wire.reply().startswith("250 2.0.0")
        server.maildir.wait(told.count("250 2.0.0") + 2)


# covers: 5.9 11.6
def test_envelopes_count_too(appliance):
    with appliance(**SETTINGS) as server, ExitStack() as stack:
        refused = 0
        for number in range(10, 40):
            wire = stack.enter_context(stranger(server))
            wire.send(b"MAIL FROM:<anna@example.com>\r\n")
            if wire.reply().startswith("452 4.3.1"):
                refused += 1
                continue
            for group in range(9):
                rcpts = [f"RCPT TO:<{'b' * 59}{number}{group}{at:02}@example.org>" for at in range(100)]
                wire.send("".join(rcpt + "\r\n" for rcpt in rcpts).encode())
                replies = [wire.reply()[:9] for _ in rcpts]
                refused += replies.count("452 4.3.1")
        assert refused > 0
        assert submit(server.port["submissions"], message("a user")).startswith("250")
        stack.close()

        def served():
            with stranger(server) as wire:
                wire.send(b"MAIL FROM:<anna@example.com>\r\n")
                return wire.reply().startswith("250")
        wait_for(served, 20, "memory of envelopes did not come back")


# covers: 5.9 11.6
def test_contents_on_their_way_to_disk_are_bounded(appliance):
    """512 of a core at once, each of which holds two descriptors; the next is refused, and one that ends makes room."""
    many = {f"connections_per_{what}": 700 for what in ("core", "address", "network")}
    top = {"cores": 1, "local_domains": ["example.org"]}
    with appliance(top=top, limits=many, spool={"segment_mib": 4, "spill_kib": 64}) as server, ExitStack() as stack:
        def large(end=b""):
            wire = stack.enter_context(stranger(server))
            begin(wire)
            wire.say("DATA", "354")
            wire.send(b"Subject: large\r\n\r\n" + b"0123456789abcdef\r\n" * 5000 + end)
            return wire

        def spilling():
            files = (os.readlink(link) for link in Path(f"/proc/{server.process.pid}/fd").iterdir() if link.is_symlink())
            return sum("/spill/" in file for file in files)

        wires = [large() for _ in range(512)]
        wait_for(lambda: spilling() >= 512, 60, lambda: f"{spilling()} spill files")
        large(b".\r\n").expect("452 4.3.1")
        wires[0].send(b".\r\n")
        wires[0].expect("250 2.0.0")
        large(b".\r\n").expect("250 2.0.0")
