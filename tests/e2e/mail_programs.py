"""Mail programs and the mail libraries of many languages, none written here, each told to send one message with a password.

`LIBRARIES` send the octets that they are given; their programs are in `senders/`, and those that need a compiler are built into
target/senders when first wanted. `PROGRAMS` are what people sit at: they compose a message of their own around a body.

Each function returns (sent, words), as in clients.py.
"""

import functools
import os
import pty
import re
import select
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from appliance import ROOT

SENDERS = Path(__file__).parent / "senders"
BUILT = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "senders"
JAKARTA_MAIL = "/usr/share/java/jakarta-mail.jar:/usr/share/java/jakarta-activation.jar"


@dataclass
class Library:
    """A program in `senders/` and what it can be told."""

    command: tuple
    mechanisms: tuple = ("PLAIN", "LOGIN")
    eight_bit: bool = True  # sends 8-bit content as it is
    build: tuple = ()


LIBRARIES = {
    "perl-libnet": Library(("perl", SENDERS / "send.pl")),
    "nodemailer": Library(("node", SENDERS / "send.js")),
    # LOGIN is not in Go's standard library; it and Ruby's send no BODY=8BITMIME, and the octets all the same.
    "go": Library((BUILT / "send-with-go",), ("PLAIN",), build=("go", "build", "-o", BUILT / "send-with-go", SENDERS / "send.go")),
    "ruby": Library(("ruby", SENDERS / "send.rb")),
    "phpmailer": Library(("php", SENDERS / "send.php")),
    "jakarta-mail": Library(("java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", f"{BUILT}:{JAKARTA_MAIL}", "Send"),
                            build=("javac", "-d", BUILT, "-cp", JAKARTA_MAIL, SENDERS / "Send.java")),
    "lettre": Library((BUILT / "debug" / "send-with-lettre",),
                      build=("cargo", "build", "--locked", "--manifest-path", SENDERS / "lettre" / "Cargo.toml",
                             "--target-dir", BUILT)),
}


@functools.cache
def built(name):
    """Compiles a sender, once per run."""
    BUILT.mkdir(parents=True, exist_ok=True)
    if LIBRARIES[name].build:
        done = subprocess.run(list(map(str, LIBRARIES[name].build)), capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stdout + done.stderr


def with_library(name, sending):
    built(name)
    environment = {
        **os.environ, "PORT": str(sending.port), "TLS": sending.tls, "CA": str(sending.ca), "LOGIN": sending.user,
        "PASSWORD": sending.password, "MECHANISM": sending.mechanism, "SENDER": sending.sender,
        "RECIPIENTS": ",".join(sending.recipients), "SSL_CERT_FILE": str(sending.ca), "NODE_PATH": "/usr/share/nodejs",
    }
    done = subprocess.run([str(word) for word in LIBRARIES[name].command], input=sending.content, capture_output=True,
                          timeout=90, env=environment)
    return done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")


def with_mutt(sending):
    scheme = "smtps" if sending.tls == "implicit" else "smtp"
    settings = {
        "smtp_url": f"{scheme}://{sending.user}@localhost:{sending.port}/", "smtp_pass": sending.password,
        "smtp_authenticators": sending.mechanism.lower(), "certificate_file": sending.ca, "from": sending.sender,
        "envelope_from_address": sending.sender,
    }
    flags = ["ssl_starttls=yes", "ssl_force_tls=yes", "use_envelope_from=yes", "copy=no",
             "allow_8bit=yes", "send_charset=us-ascii:utf-8"]
    muttrc = sending.directory / "muttrc"
    muttrc.write_text("".join(f"set {flag}\n" for flag in flags) +
                      "".join(f'set {key}="{value}"\n' for key, value in settings.items()))
    body = sending.content.partition(b"\r\n\r\n")[2].replace(b"\r\n", b"\n")
    command = ["mutt", "-d", "2", "-n", "-F", muttrc, "-s", "From mutt", "--", *sending.recipients]
    return at_home(command, body, sending.directory)


def with_s_nail(sending):
    scheme = "smtps" if sending.tls == "implicit" else "smtp"
    user, password = (word.replace("%", "%25").replace("@", "%40").replace(" ", "%20").replace(",", "%2C")
                      for word in (sending.user, sending.password))
    settings = [f"mta={scheme}://{user}:{password}@localhost:{sending.port}", "v15-compat=yes", "smtp-use-starttls",
                f"smtp-auth={sending.mechanism.lower()}", f"tls-ca-file={sending.ca}", "tls-verify=strict",
                f"from={sending.sender}", f"r={sending.sender}", "sendwait", "smtp-hostname=", "hostname=client.example",
                "mime-encoding=8bit", "nosave"]
    if sending.tls == "implicit":
        settings.remove("smtp-use-starttls")
    body = sending.content.partition(b"\r\n\r\n")[2].replace(b"\r\n", b"\n")
    command = ["s-nail", "-:/", "-v", "-v", *(f"-S{setting}" for setting in settings), "-s", "From s-nail",
               *sending.recipients]
    return at_home(command, body, sending.directory)


def at_home(command, body, home):
    """Runs a program that reads a body, with a home of its own."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "TERM": "dumb", "LC_ALL": "C.UTF-8"}
    done = subprocess.run([str(word) for word in command], input=body, capture_output=True, timeout=90, env=environment,
                          cwd=home)
    return done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")


def with_alpine(sending):
    """Alpine wants a terminal: it reads the body from standard input, and its questions are answered on the terminal."""
    pinerc = sending.directory / "pinerc"
    how = "ssl" if sending.tls == "implicit" else "tls"
    pinerc.write_text(
        f"smtp-server=localhost:{sending.port}/user={sending.user}/{how}/auth={sending.mechanism.lower()}\n"
        "user-domain=example.edu\ndefault-fcc=\"\"\nfeature-list=quell-folder-internal-msg,quell-dead-letter-on-cancel\n"
        f"customized-hdrs=From: {sending.sender}\nlast-version-used=9.99\nposting-character-set=UTF-8\n"
    )
    body = sending.directory / "pine-body"
    body.write_bytes(sending.content.partition(b"\r\n\r\n")[2].replace(b"\r\n", b"\n"))
    command = ["alpine", "-p", str(pinerc), "-P", "/dev/null", "-nowrite_password_cache", *sending.recipients]
    environment = {"PATH": os.environ["PATH"], "HOME": str(sending.directory), "TERM": "vt100", "LC_ALL": "C.UTF-8",
                   "SSL_CERT_FILE": str(sending.ca), "USER": sending.user, "LOGNAME": sending.user}
    answers = [
        (rb"To AddrBk", b"\x18"),
        (rb"Send message", b"y"),
        (rb"PASSWORD", sending.password.encode() + b"\r"),
        (rb"Preserve password", b"n"),
    ]
    screen = on_a_terminal(command, body, environment, sending.directory, answers,
                           ends=rb"Message sent|Alpine finished|Retrying|rror")
    return re.search(b"Message sent|Alpine finished", screen) is not None, screen.decode(errors="replace")


def on_a_terminal(command, stdin, environment, directory, answers, ends, seconds=60):
    """Runs a program under a terminal of its own, answers each question when it is asked, and ends it; what it showed."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(directory)
        os.dup2(os.open(stdin, os.O_RDONLY), 0)
        os.execvpe(command[0], command, environment)
    shown, answered_to, deadline = b"", 0, time.monotonic() + seconds
    answers = list(answers)
    try:
        while time.monotonic() < deadline and not re.search(ends, shown[answered_to:]):
            if select.select([terminal], [], [], 0.5)[0]:
                try:
                    shown += os.read(terminal, 65536)
                except OSError:  # It ended.
                    break
            if answers and re.search(answers[0][0], plain_text(shown[answered_to:])):
                answered_to = len(shown)
                os.write(terminal, answers.pop(0)[1])
    finally:
        os.kill(child, signal.SIGHUP)
        os.waitpid(child, 0)
        os.close(terminal)
    return plain_text(shown)


def plain_text(screen):
    """Without the escapes that move the cursor."""
    return re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()=>].?|\x0f", b"", screen)


# And the mechanisms that each can be told to use.
PROGRAMS = {
    "mutt": (with_mutt, ("PLAIN", "LOGIN")),
    "s-nail": (with_s_nail, ("PLAIN", "LOGIN")),
    "alpine": (with_alpine, ("PLAIN",)),
}
