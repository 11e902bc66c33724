"""Messages that other people collected to try their mail parsers on: those of Python's own tests and of the Rust crate mail-parser.

Python's come with a Debian package that tests/run unpacks beside; the crate's with its source, which cargo fetches for
senders/lettre.
"""

import functools
import json
import os
import subprocess
from pathlib import Path

from appliance import ROOT
from mail_programs import SENDERS

BESIDE = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "beside"


@functools.cache
def samples():
    """Each message as it lies in its file, by name; no two are the same."""
    files = [*python_samples(), *rust_samples()]
    found = {content: f"{file.parent.name}/{file.name}" for file in files if (content := file.read_bytes())}
    return {name: content for content, name in sorted(found.items(), key=lambda item: item[1])}


def python_samples():
    return sorted(BESIDE.glob("usr/lib/python3*/test/**/test_email/data/msg_*.txt"))


def rust_samples():
    manifest = SENDERS / "lettre" / "Cargo.toml"
    done = subprocess.run(["cargo", "metadata", "--locked", "--all-features", "--format-version", "1", "--manifest-path", manifest],
                          capture_output=True, timeout=200, check=True)
    [crate] = [package for package in json.loads(done.stdout)["packages"] if package["name"] == "mail-parser"]
    return sorted((Path(crate["manifest_path"]).parent / "resources" / "eml").glob("**/*.eml"))
