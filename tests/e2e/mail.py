"""Messages to send, and what may differ when they arrive: added header fields, and nothing else."""

import re
import time
from pathlib import Path

HEADER = (
    b"From: Anna <anna@example.edu>\r\n"
    b"To: Ben <ben@example.org>\r\n"
    b"Subject: %s\r\n"
    b"Date: Mon, 21 Sep 2026 09:00:00 +0100\r\n"
    b"Message-ID: <%s@example.edu>\r\n"
)


def message(tag, body=b"Hello.\r\n", mime=b""):
    """A whole message with CRLF line ends."""
    tag = tag.encode()
    return HEADER % (tag, tag) + mime + b"\r\n" + body


MIME_8BIT = b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"

# Bodies in which something could go wrong on the way.
BODIES = {
    "short": b"Hello.\r\n",
    "dots": b".\r\n..\r\n...\r\n.dot\r\nfrom\r\nFrom here\r\n. \r\n",
    "long-lines": b"x" * 998 + b"\r\n" + b"y" * 998 + b"\r\n",
    "empty-lines": b"\r\n\r\n\r\n \r\n\r\n",
    "large": b"".join(b"%08d The quick brown fox jumps over the lazy dog, and the mill turns.\r\n" % i for i in range(9000)),
}
BODY_8BIT = "Grüße aus Köln, \U0001f600.\r\n".encode()

ADDED = {b"received", b"return-path", b"delivered-to", b"x-original-to", b"date", b"message-id", b"x-penstock-queue-id"}


def lf(content):
    """As a Maildir holds it."""
    return content.replace(b"\r\n", b"\n")


def added_fields(sent, arrived):
    """The header fields put in front of `sent`, as a list of (name, value). Fails if anything else differs."""
    assert arrived.endswith(sent), f"the message was changed:\n{arrived[:2000]!r}\n{sent[:2000]!r}"
    front = arrived[: len(arrived) - len(sent)].replace(b"\r\n", b"\n")
    fields = []
    for line in re.sub(rb"\n[ \t]+", b" ", front).splitlines():
        name, _, value = line.partition(b":")
        assert name.lower() in ADDED, f"an unexpected field was added: {line!r}"
        fields.append((name.lower().decode(), value.strip().decode()))
    return fields


class Maildir:
    """A Maildir that something else delivers to."""

    def __init__(self, path):
        self.path = Path(path)

    def files(self):
        return sorted([*self.path.glob("new/*"), *self.path.glob("cur/*")], key=lambda file: file.name)

    def contents(self):
        """Every message, with LF line ends."""
        return [lf(file.read_bytes()) for file in self.files()]

    def wait(self, count, seconds=20):
        """The messages, once there are `count`; never more."""
        deadline = time.monotonic() + seconds
        while len(self.files()) < count:
            assert time.monotonic() < deadline, f"{len(self.files())} of {count} messages arrived in {self.path}"
            time.sleep(0.02)
        contents = self.contents()
        assert len(contents) == count, f"{len(contents)} messages arrived instead of {count}"
        return contents

    def find(self, tag, seconds=20):
        """The one message that holds `tag`."""
        deadline = time.monotonic() + seconds
        while True:
            found = [content for content in self.contents() if tag.encode() in content]
            if found:
                assert len(found) == 1, f"{tag} arrived {len(found)} times"
                return found[0]
            assert time.monotonic() < deadline, f"{tag} did not arrive in {self.path}"
            time.sleep(0.05)
