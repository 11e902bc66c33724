"""BDAT against the real binary: what comes in chunks arrives as it was sent, small and spilled; what is refused stays in step."""
import hashlib

from mail import lf, message
from wire import Wire


def begin(wire, parameters=""):
    wire.say(f"MAIL FROM:<anna@example.edu>{parameters}", "250 2.1.0")
    wire.say("RCPT TO:<ben@example.edu>", "250 2.1.5")


def chunks(wire, content, size):
    for start in range(0, len(content), size):
        chunk = content[start:start + size]
        last = " LAST" if start + size >= len(content) else ""
        wire.send(b"BDAT %d%s\r\n%s" % (len(chunk), last.encode(), chunk))
        wire.expect("250 2.0.0")


# covers: 6.13
def test_chunks_arrive_put_together(server):
    small = message("small", b".\r\n..\r\n.\r\nQUIT\r\n")
    large = message("large", b"".join(hashlib.sha256(b"%d" % n).hexdigest().encode() + b"\r\n" for n in range(20_000)))
    with Wire(server.port["smtp"]) as wire:
        assert "CHUNKING" in wire.say("EHLO client.example", "250")
        for content, size in ((small, 7), (large, 100_000)):
            begin(wire)
            chunks(wire, content, size)
    arrived = server.maildir.wait(2)
    for content in (small, large):
        assert sum(lf(content) in one for one in arrived) == 1


# covers: 6.8 6.13 5.3
def test_refused_chunks_stay_in_step(server):
    with Wire(server.port["smtp"]) as wire:
        wire.say("EHLO client.example", "250")
        wire.send("BDAT 6 LAST\r\nQUIT\r\n")
        wire.expect("503 5.5.1")
        begin(wire)
        wire.send("BDAT 5\r\na\nb\r\nBDAT 4 LAST\r\nc\r\n.NOOP\r\n")
        wire.expect("550 5.6.0")
        wire.expect("503 5.5.1")
        wire.expect("250 2.0.0 Ok")
        begin(wire)
        wire.send("BDAT 4\r\nHi\r\n")
        wire.expect("250 2.0.0 4 octets")
        wire.say("RSET", "250")
        begin(wire)
        chunks(wire, message("honest"), 1000)
    assert len(server.maildir.wait(1)) == 1


# covers: 6.13
def test_a_last_chunk_may_end_where_its_content_spills(server):
    """Content past 64 KiB goes to a file, piece by piece: whatever the last octets set off, the chunk's end is answered."""
    lines = message("spills", b"0123456789abcdef\r\n" * 20_000)
    with Wire(server.port["smtp"]) as wire:
        wire.say("EHLO client.example", "250")
        for past in (0, 1, 5000, 19_000, 3 * 65_536):
            begin(wire)
            chunks(wire, lines[:65_536 + past - 2] + b"\r\n", 1_000_000)
    assert len(server.maildir.wait(5)) == 5
