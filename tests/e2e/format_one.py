"""A reader of spool format 1, written from its description and frozen: it stands for every version that knows this format.

    format_one.read(directory)  ->  {queue id: Message(sender, recipients that are due, content)}

What a later version adds to format 1 must be something that this reader may skip. When a test says that it cannot read what
the present version writes, do not change this file: raise the format's version, keep the old one readable, and give the
operator a way back (`penstock spool downgrade`).
"""

import struct
from dataclasses import dataclass
from pathlib import Path

BLOCK = 4096
ACTIVE = 2
MUST_UNDERSTAND = 0x8000
# Tags of format 1 with the bit: a reader that does not know one holds the message.
REVERSE_PATH, RECIPIENT, PREPENDED, REMOVED, SPILLED, OUTCOME = 0x8007, 0x8010, 0x8020, 0x8021, 0x8022, 0x8030
KNOWN = {REVERSE_PATH, 0x8008, 0x8009, 0x800A, 0x800E, RECIPIENT, PREPENDED, REMOVED, SPILLED, OUTCOME}
KIND_MESSAGE, KIND_SPILLED = 1, 2


def table():
    values = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        values.append(value)
    return values


TABLE = table()


def crc32c(octets):
    value = 0xFFFFFFFF
    for octet in octets:
        value = value >> 8 ^ TABLE[(value ^ octet) & 0xFF]
    return value ^ 0xFFFFFFFF


@dataclass
class Message:
    sender: str
    recipients: dict  # index -> path
    content: bytes


class NotFormatOne(Exception):
    """A reader of format 1 would refuse this spool, or hold something of it."""


def salt_of(block):
    """The salt of an active segment; none: it is free."""
    for at in (0, 2048):
        copy = block[at : at + 84]
        if copy[:8] == b"PENSTOCK" and crc32c(copy[:80]) == struct.unpack_from("<I", copy, 80)[0]:
            version, state = struct.unpack_from("<II", copy, 8)
            if version != 1:
                raise NotFormatOne(f"a header of format {version}")
            return struct.unpack_from("<Q", copy, 32)[0] if state == ACTIVE else None
    raise NotFormatOne("no header")


def records(segment):
    """(queue id, kind, fields, content) of each record of this generation."""
    salt = salt_of(segment[:BLOCK])
    at, group, index = BLOCK, 1, 0
    while salt is not None and at + 64 <= len(segment):
        magic, checksum, its_salt, its_group, start, its_index, last, queue_id, fields, content, content_sum, kind = (
            struct.unpack_from("<4sIQQQIIQIIIB", segment, at))
        end = at + 64 + fields
        place = (its_group, its_index) == (group, index) and start % BLOCK == 0
        if magic != b"PREC" or its_salt != salt or not place or crc32c(segment[at + 8 : end]) != checksum:
            return
        body = segment[end : end + content]
        if crc32c(body) != content_sum:
            raise NotFormatOne(f"the content of {queue_id:x}")
        yield queue_id, kind, list(fields_of(segment[at + 64 : end])), body
        at = end + content + -(fields + content) % 8
        index += 1
        if its_index == last:
            at, group, index = at + -at % BLOCK, group + 1, 0


def fields_of(octets):
    at = 0
    while at < len(octets):
        tag, length = struct.unpack_from("<HI", octets, at)
        if tag & MUST_UNDERSTAND and tag not in KNOWN:
            raise NotFormatOne(f"tag {tag:04x}, which must be understood")
        yield tag, octets[at + 6 : at + 6 + length]
        at += 6 + length


def spilled(directory, reference):
    number, length, _, checksum = struct.unpack("<QQQI", reference)
    content = (Path(directory) / "spill" / f"{number:08}.body").read_bytes()[:length]
    if len(content) != length or crc32c(content) != checksum:
        raise NotFormatOne(f"spill file {number}")
    return content


def read(directory, fates=(1, 2)):
    """What is due. An outcome with another fate than `fates` makes a reader hold the whole record: it settles nothing."""
    messages, done = {}, set()
    for path in sorted((Path(directory) / "segments").glob("*.seg")):
        for queue_id, kind, fields, content in records(path.read_bytes()):
            outcomes = [struct.unpack_from("<QIB", value) for tag, value in fields if tag == OUTCOME]
            if all(fate in fates for *_, fate in outcomes):
                done |= {(about, recipient) for about, recipient, _ in outcomes}
            if kind & KIND_MESSAGE:
                if kind & KIND_SPILLED:
                    content = spilled(directory, dict(fields)[SPILLED])
                paths = dict(enumerate(value.decode() for tag, value in fields if tag == RECIPIENT))
                messages[queue_id] = Message(dict(fields)[REVERSE_PATH].decode(), paths, content)
    for queue_id, recipient in done:
        if queue_id in messages:
            messages[queue_id].recipients.pop(recipient, None)
    return {queue_id: message for queue_id, message in messages.items() if message.recipients}
