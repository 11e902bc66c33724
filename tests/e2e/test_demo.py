"""`penstock demo`: start with nothing, send with the printed commands, see it arrive; start again, and it is still there."""

import os
import re
import signal
import socket
import subprocess

import pytest

from appliance import PENSTOCK, free_port, panics, wait_for
from mail import Maildir


class Demo:
    """The demo in a folder of its own, on moved ports."""

    def __init__(self, directory, *options):
        self.directory = directory
        self.out, self.log = directory / "out", directory / "err"
        with open(self.out, "wb") as out, open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [str(PENSTOCK), "demo", *options], stdin=subprocess.DEVNULL, stdout=out, stderr=log, cwd=directory
            )
        self.maildir = Maildir(directory / "penstock-demo" / "Maildir")

    def __enter__(self):
        wait_for(lambda: "Stop with Ctrl-C" in self.printed() or self.process.poll() is not None, 30, self.words)
        assert self.process.poll() is None, self.words()
        return self

    def __exit__(self, kind, *_):
        if kind:
            self.process.kill()
            print(self.words())
        else:
            self.process.send_signal(signal.SIGINT)
            assert self.process.wait(20) == 0
            assert not panics(self.words())
        self.process.wait(20)

    def printed(self):
        return self.out.read_text()

    def words(self):
        return self.printed() + self.log.read_text()

    def command(self, word):
        """The printed command that uses `word`: indented lines up to an empty one."""
        blocks = re.findall(r"(?:^  .*\n)+", self.printed(), flags=re.M)
        found = [block for block in blocks if re.search(rf"^ +{word} ", block, flags=re.M)]
        assert len(found) == 1, self.printed()
        return found[0]

    def paste(self, word):
        """Pastes it into a shell, elsewhere; what it printed."""
        done = subprocess.run(["sh", "-c", self.command(word)], capture_output=True, text=True, timeout=60, cwd="/")
        assert done.returncode == 0, f"{self.command(word)}\n{done.stdout}{done.stderr}"
        return done.stdout


def offset():
    """Ports 2525, 2587 and 2465 plus this are free."""
    while True:
        number = free_port() - 2465
        try:
            for port in (2525, 2587, 2465):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port + number))
            return number
        except OSError:
            continue


def test_the_first_message_in_a_minute(directory):
    moved = offset()
    with Demo(directory, "--port-offset", str(moved)) as demo:
        for port in (2525, 2587, 2465):
            assert f"127.0.0.1:{port + moved}" in demo.printed()
        demo.paste("curl")
        first = demo.maildir.wait(1)[0]
        assert b"First message" in first
        demo.paste("swaks")
        demo.maildir.wait(2)
        assert demo.paste("ls").split() == sorted(file.name for file in demo.maildir.files())
        password = re.search(r"password (\S+)", demo.printed())[1]
        printed = demo.printed()
    assert password.encode() not in (directory / "penstock-demo" / "users").read_bytes()
    for secret in ("key.pem", "password"):
        assert os.stat(directory / "penstock-demo" / secret).st_mode & 0o077 == 0, f"{secret} can be read by others"
    # Stopping and starting again keeps what was there.
    with Demo(directory) as again:
        assert again.printed() == printed
        assert len(again.maildir.wait(2)) == 2
        again.paste("curl")
        again.maildir.wait(3)


def test_the_demos_configuration_is_a_real_one(directory):
    with Demo(directory, "--port-offset", str(offset())):
        pass
    done = subprocess.run([str(PENSTOCK), "check", "--config", "penstock-demo/penstock.toml"], cwd=directory,
                          capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_port_that_is_taken_is_named_with_the_remedy(directory):
    moved = str(offset())
    with Demo(directory, "--port-offset", moved):
        other = directory / "other"
        other.mkdir()
        done = subprocess.run([str(PENSTOCK), "demo", "--port-offset", moved], cwd=other, capture_output=True, text=True,
                              timeout=30)
        assert done.returncode == 1
        assert "--port-offset" in done.stderr and "panicked" not in done.stderr


@pytest.mark.parametrize("name", ["a folder", "it's"])
def test_folders_with_odd_names(directory, name):
    odd = directory / name
    odd.mkdir()
    with Demo(odd, "--port-offset", str(offset())) as demo:
        demo.paste("curl")
        demo.maildir.wait(1)


def test_a_demo_whose_words_nobody_reads_goes_on(directory):
    """As under a service manager that throws them away, or in front of `| head`."""
    moved = offset()
    log = directory / "err"
    with open("/dev/full", "wb") as full, open(log, "wb") as words:
        process = subprocess.Popen([str(PENSTOCK), "demo", "--port-offset", str(moved)], stdin=subprocess.DEVNULL,
                                   stdout=full, stderr=words, cwd=directory)
    try:
        wait_for(lambda: "ready" in log.read_text() or process.poll() is not None, 30, log.read_text)
        with socket.create_connection(("127.0.0.1", 2525 + moved), timeout=10) as connection:
            assert connection.recv(3) == b"220"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0 and not panics(log.read_text())
    finally:
        process.kill()
        process.wait(20)
