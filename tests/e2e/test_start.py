"""What must be refused at start, each with one clear line that says what to do, and exit status 1. And `check`."""

import contextlib
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import termios
import time

import pytest

from appliance import LISTENERS, wait_for
from mail import message
from wire import Wire, submit

ROOT = os.geteuid() == 0


def refusal(server, *wrapper, complaint, remedy=None):
    """Starts it; it must end with status 1 and one line on standard error that matches."""
    server.spawn(*wrapper)
    try:
        status = server.process.wait(30)
    except subprocess.TimeoutExpired:
        server.kill()
        raise AssertionError(f"it started:\n{server.log_text()[-3000:]}") from None
    server.no_panic()
    words = server.log_text()
    assert status == 1, f"exit status {status}:\n{words}"
    lines = [line for line in words.splitlines() if re.search(complaint, line)]
    assert len(lines) == 1, f"not one line with {complaint!r}:\n{words}"
    assert not remedy or re.search(remedy, lines[0]), lines[0]
    assert '"event":"ready"' not in words
    return lines[0]



@pytest.mark.parametrize("find, replace, complaint", [
    ('role = "submission"', 'role = "submision"', r'penstock\.toml:{line}.*submision'),
    ('cores = 2', 'cores = 2\ncors = 2', r'penstock\.toml:{next}.*cors.*cores'),
    ('segment_mib = 4', 'segment_mib = "4"', r'penstock\.toml:{line}.*segment_mib'),
    ('cache_s = 600', 'cache_s = 99999999', r'penstock\.toml:{line}.*cache_s'),
    ('hostname = "localhost"', '', r'hostname'),
    ('address = "127.0.0.1:', 'address = "nowhere:', r'penstock\.toml:{line}.*nowhere'),
    ('[relay]', '[relai]', r'penstock\.toml:{line}.*relai'),
    ('tls = "required"', 'tls = "required', r'penstock\.toml:{line}'),
])
def test_config_mistakes_name_file_line_and_remedy(appliance, find, replace, complaint):
    server = appliance()
    text = server.config.read_text()
    line = next(number for number, content in enumerate(text.splitlines(), 1) if find in content)
    server.config.write_text(text.replace(find, replace, 1))
    pattern = complaint.format(line=line, next=line + 1)
    checked = server.hands("check", "--config", server.config)
    assert checked.returncode == 1, checked.stdout + checked.stderr
    assert re.search(pattern, checked.stdout + checked.stderr), checked.stdout + checked.stderr
    server.spawn()
    assert server.process.wait(30) == 1
    assert re.search(pattern, server.log_text()), server.log_text()
    server.no_panic()


def test_all_mistakes_are_named_at_once(appliance):
    server = appliance()
    text = server.config.read_text()
    server.config.write_text(text.replace('cores = 2', 'cors = 2').replace('cache_s = 600', 'cache_s = -1'))
    checked = server.hands("check", "--config", server.config)
    words = checked.stdout + checked.stderr
    assert checked.returncode == 1 and "cors" in words and "cache_s" in words, words


def test_check_passes_what_serve_takes(appliance):
    server = appliance()
    checked = server.hands("check", "--config", server.config)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert not (server.directory / "spool").exists(), "check changes nothing"


@pytest.mark.parametrize("name", ["", "bristol", "alberta", "simon-fraser", "toronto", "loughborough"])
def test_every_example_passes_check(appliance, name):
    server = appliance()
    printed = server.hands("config", "example", *([name] if name else []))
    assert printed.returncode == 0 and printed.stdout.startswith("#")
    here = str(server.directory)
    text = printed.stdout.replace("/etc/penstock", here).replace("/var/lib/penstock", here)
    (server.directory / "example.toml").write_text(text)
    users = server.directory / "users"
    users.unlink()
    checked = server.hands("check", "--config", server.directory / "example.toml")
    if "users_file" in text:
        assert checked.returncode == 1 and "serve will not start" in checked.stdout + checked.stderr, checked
    users.touch(mode=0o600)
    checked = server.hands("check", "--config", server.directory / "example.toml")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_a_missing_configuration(appliance):
    server = appliance()
    server.config.unlink()
    refusal(server, complaint=r"penstock\.toml")


def test_a_port_in_use_by_another_program(appliance):
    server = appliance()
    with socket.socket() as other:
        other.bind(("127.0.0.1", server.port["submission"]))
        other.listen()
        refusal(server, complaint=f"cannot listen on .*{server.port['submission']}", remedy="in use")


def test_a_port_in_use_by_another_instance(appliance):
    """SO_REUSEPORT would let two instances share a port, and each client would meet either."""
    first = appliance()
    with first:
        second = appliance()
        second.port = first.port
        for listener, (name, _, _) in zip(second.settings["listener"], LISTENERS):
            listener["address"] = f"127.0.0.1:{first.port[name]}"
        second.write_config()
        refusal(second, complaint="in use")


def test_a_spool_used_by_another_instance(appliance):
    first = appliance()
    with first:
        second = appliance()
        second.settings["spool"]["directory"] = first.directory / "spool"
        second.write_config()
        refusal(second, complaint=str(first.directory / "spool"), remedy="(?i)another|other|use")
        assert first.answers(first.port["smtp"])


@pytest.mark.parametrize("how", ["missing", "garbage", "other"])
def test_a_key_that_cannot_be_used(appliance, directory, how):
    server = appliance()
    key = server.directory / "key.pem"
    if how == "missing":
        key.unlink()
    elif how == "garbage":
        key.write_text("-----BEGIN PRIVATE KEY-----\nbm90IGEga2V5\n-----END PRIVATE KEY-----\n")
    else:
        key.write_bytes((server.directory / "ca-key.pem").read_bytes())
    refusal(server, complaint=r"key\.pem|certificate\.pem")


@pytest.mark.skipif(ROOT and not shutil.which("setpriv"), reason="root reads everything, and there is no setpriv")
def test_an_unreadable_key(appliance):
    server = appliance()
    (server.directory / "key.pem").chmod(0)
    refusal(server, *as_nobody(server), complaint=r"key\.pem", remedy="(?i)permission")


def as_nobody(server):
    """Root may read everything; without its powers it is like anybody."""
    return ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"] if ROOT else []


def test_a_certificate_that_is_missing(appliance):
    server = appliance()
    (server.directory / "certificate.pem").unlink()
    refusal(server, complaint=r"certificate\.pem")


def test_a_broken_users_file(appliance):
    server = appliance()
    server.users.write_text("anna\n")
    refusal(server, complaint=r"users:1")


def test_too_few_file_descriptors(appliance):
    server = appliance(limits={"connections_per_core": 5000})
    refusal(server, "prlimit", "--nofile=256:256", complaint="(?i)descriptor|nofile", remedy=r"connections_per_core|ulimit|LimitNOFILE")


def test_a_soft_limit_of_file_descriptors_is_raised(appliance):
    server = appliance()
    server.start("prlimit", "--nofile=256:20000")
    server.stop()


@pytest.fixture
def small_disk(directory):
    """A file system of 24 MiB."""
    disk = directory / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", disk], capture_output=True).returncode != 0:
        pytest.skip("mounting is not allowed here")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_spool_on_a_full_disk(appliance, small_disk):
    (small_disk / "ballast").write_bytes(b"x" * (23 << 20))
    server = appliance(spool={"directory": small_disk / "spool", "reserve_mib": 1})
    refusal(server, complaint="cannot prepare a segment", remedy="(?i)space|full|room")


def test_a_spool_on_a_read_only_disk(appliance, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    server = appliance(spool={"directory": small_disk / "spool", "reserve_mib": 1})
    refusal(server, complaint="spool", remedy="(?i)read-only")


def test_a_spool_whose_parent_is_a_file(appliance):
    server = appliance()
    (server.directory / "file").write_text("")
    server.settings["spool"]["directory"] = server.directory / "file" / "spool"
    server.write_config()
    refusal(server, complaint="spool")


# covers: 5.9 6.9 11.6
def test_a_disk_that_fills_up_refuses_early_and_keeps_its_word(appliance, small_disk):
    """452 4.3.1 when there is no room; what was promised is delivered after a restart that finds no room for a segment;
    with room it takes mail again."""
    server = appliance(spool={"directory": small_disk / "spool", "segment_mib": 2, "reserve_mib": 2}, relay={"paused": True},
                       top={"cores": 1})
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * (8 << 20))
    promised = 0
    with server:
        with Wire(server.port["smtp"]) as wire:
            wire.say("EHLO client.example", "250")
            for number in range(2000):
                # MAIL is refused as soon as there is no room for any message.
                for command in ("MAIL FROM:<anna@example.edu>", "RCPT TO:<ben@example.edu>", "DATA"):
                    wire.send(f"{command}\r\n")
                    reply = wire.reply()
                    if reply[0] not in "23":
                        break
                if reply.startswith("354"):
                    wire.send(message(f"fill{number}", (b"y" * 70 + b"\r\n") * 400) + b".\r\n")
                    reply = wire.reply()
                    if reply.startswith("250"):
                        promised += 1
                        continue
                assert reply.startswith("452 4.3.1") or reply.startswith("451 4.3.0"), reply
                break
            else:
                raise AssertionError("the disk never filled up")
            wire.say("RSET", "250")
    assert promised > 10
    with contextlib.suppress(OSError), open(ballast, "ab", buffering=0) as more:
        while True:
            more.write(b"x" * 4096)
    # Room for the epoch, none for a segment.
    os.truncate(ballast, ballast.stat().st_size - (64 << 10))
    server.settings["relay"]["paused"] = False
    server.write_config()
    with server:
        server.maildir.wait(promised, 60)
        ballast.unlink()
        time.sleep(3)
        assert submit(server.port["submissions"], message("again")).startswith("250")


def test_help_and_wrong_use(appliance):
    server = appliance()
    assert server.hands("--help").returncode == 0
    for wrong in (["serve"], ["serv"], ["serve", "--config"], ["user", "add"], ["config", "example", "nowhere"]):
        done = server.hands(*wrong)
        assert done.returncode == 2 and done.stderr, wrong


def test_nobody_reads_what_is_printed(appliance):
    """A full disk, or a reader that has gone: no panic, and the exit status is what it would have been."""
    server = appliance()
    with open("/dev/full", "wb") as full:
        for arguments, status in ((["check", "--config", server.config], 0), (["check", "--config", "/nowhere"], 1)):
            done = subprocess.run([server.binary, *arguments], stdout=full, stderr=full, timeout=60)
            assert done.returncode == status, arguments


class Prompt:
    """`penstock user add` on a terminal of its own, of which it is the master."""

    def __init__(self, server):
        self.child, self.terminal = pty.fork()
        if self.child == 0:
            os.execv(server.binary, [str(server.binary), "user", "add", "--config", str(server.config), "cleo"])
        self.seen = b""

    def until(self, words):
        while words not in self.seen:
            self.seen += os.read(self.terminal, 4096)

    def echoes(self):
        return bool(termios.tcgetattr(self.terminal)[3] & termios.ECHO)

    def status(self):
        """As the shell would say it."""
        return os.waitstatus_to_exitcode(os.waitpid(self.child, 0)[1])


def test_a_password_is_asked_for_twice_and_not_shown(appliance):
    server = appliance()
    prompt = Prompt(server)
    for question in (b"Password for ", b"The same again: "):
        prompt.until(question)
        assert not prompt.echoes()
        os.write(prompt.terminal, b"correct horse\n")
    prompt.until(b" added")
    assert prompt.status() == 0 and b"correct" not in prompt.seen
    assert "cleo" in server.users.read_text()


def test_ctrl_c_at_the_password_leaves_the_terminal_as_it_was(appliance):
    server = appliance()
    prompt = Prompt(server)
    prompt.until(b"Password for ")
    os.write(prompt.terminal, b"corr\x03")
    wait_for(prompt.echoes, 10, "the echo is still off")
    assert prompt.status() == -signal.SIGINT
    assert "cleo" not in server.users.read_text()
