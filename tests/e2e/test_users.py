"""The users file: `penstock user`, changes noticed within a second or so, a broken file, the verdict cache."""

import base64
import hashlib
import subprocess
import threading
import time

import pytest
from scramp import ScramClient

from appliance import USERS, cheap_hash, wait_for, write_users
from mail import message
from wire import Wire, plain, submit


def login(server, user, password, source="127.0.0.1"):
    """The reply to AUTH, in a session of its own."""
    with Wire(server.port["submissions"], tls=True, source=source) as wire:
        wire.say("EHLO client.example", "250")
        wire.send(f"AUTH PLAIN {plain(user, password)}\r\n")
        return wire.reply()


def wait_login(server, user, password, code):
    wait_for(lambda: login(server, user, password).startswith(code), 10,
             lambda: f"{user} does not get {code}:\n{server.log_text()[-3000:]}")


def test_a_user_added_by_command_can_log_in(server):
    before = server.users.read_text()
    done = server.hands("user", "add", "--config", server.config, "cleo", stdin="correct horse\n")
    assert done.returncode == 0, done.stderr
    assert "correct horse" not in server.users.read_text() + done.stdout + done.stderr
    assert server.users.read_text().startswith(before), "the other lines stay as they are"
    wait_login(server, "cleo", "correct horse", "235")
    assert login(server, "cleo", "wrong").startswith("535 5.7.8")
    assert login(server, "cleo@example.edu", "correct horse").startswith("235")
    assert "cleo" in server.hands("user", "list", "--config", server.config).stdout.split()
    changed = server.hands("user", "add", "--config", server.config, "cleo", stdin="battery staple\n")
    assert changed.returncode == 0, changed.stderr
    wait_login(server, "cleo", "battery staple", "235")
    # The verdict cache knew the old password; the change of the file ends that.
    wait_login(server, "cleo", "correct horse", "535")
    removed = server.hands("user", "remove", "--config", server.config, "cleo")
    assert removed.returncode == 0, removed.stderr
    wait_login(server, "cleo", "battery staple", "535")
    assert "cleo" not in server.hands("user", "list", "--config", server.config).stdout.split()
    assert login(server, "anna", "sesame").startswith("235")


@pytest.mark.parametrize("arguments, stdin", [
    (["user", "add", "--config", "{config}", "dan"], ""),
    (["user", "add", "--config", "{config}", "d an"], "secret word\n"),
    (["user", "add", "--config", "{config}", "d:an"], "secret word\n"),
    (["user", "remove", "--config", "{config}", "nobody"], None),
    (["user", "add", "--config", "/nonexistent/penstock.toml", "dan"], "secret word\n"),
])
def test_mistakes_with_the_user_command(server, arguments, stdin):
    before = server.users.read_text()
    done = server.hands(*[argument.format(config=server.config) for argument in arguments], stdin=stdin or "")
    assert done.returncode != 0
    assert done.stderr.strip() and "panicked" not in done.stderr
    assert server.users.read_text() == before


def test_a_change_by_an_editor_is_noticed(server):
    write_users(server.users, {**USERS, "dan": "new here"})  # renamed into place
    wait_login(server, "dan", "new here", "235")
    with open(server.users, "a") as file:  # written in place
        file.write(f"eve:{cheap_hash('also new')}\n")
    wait_login(server, "eve", "also new", "235")
    write_users(server.users, {"dan": "new here"})
    wait_login(server, "anna", "sesame", "535")


def test_a_change_is_noticed_within_a_second_or_so(server):
    """Not a speed test: ten times the promise still tells a watcher from a poll of minutes."""
    start = time.monotonic()
    write_users(server.users, {**USERS, "dan": "new here"})
    wait_login(server, "dan", "new here", "235")
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("broken", ["", "anna\n", "anna:plain\n", "anna:$argon2id$v=19$m=8,t=1,p=1$x\n", "\xff\xfe\n", "anna:{hash}\nANNA:{hash}\n"])
def test_a_broken_file_keeps_the_old_users(server, broken):
    loads = server.log_text().count("users file not taken")
    server.users.write_bytes(broken.format(hash=cheap_hash("other")).encode("latin-1"))
    server.wait_log("users file not taken", times=loads + 1)
    assert login(server, "anna", "sesame").startswith("235")
    write_users(server.users, {"anna": "mended"})
    wait_login(server, "anna", "mended", "235")


def test_a_file_that_goes_keeps_the_old_users(server):
    server.users.unlink()
    server.wait_log("users file not taken")
    assert login(server, "anna", "sesame").startswith("235")
    write_users(server.users, {"anna": "back"})
    wait_login(server, "anna", "back", "235")


def test_sighup_keeps_sessions_and_reads_again(server):
    with Wire(server.port["submissions"], tls=True) as wire:
        wire.login()
        with open(server.users, "a") as file:
            file.write(f"dan:{cheap_hash('new here')}\n")
        server.reload()
        wait_login(server, "dan", "new here", "235")
        assert wire.mail(message("over")).startswith("250")


# covers: 11.8
@pytest.mark.parametrize("change", [["remove"], ["add"]])
def test_an_open_session_ends_with_its_user(server, change):
    """Who was removed, or has another password, finishes the message under way and begins no other."""
    with Wire(server.port["submissions"], tls=True) as gone, Wire(server.port["submissions"], tls=True) as other:
        gone.login("ben", "open up, please")
        other.login()
        assert gone.mail(message("before"), sender="ben@example.edu").startswith("250")
        gone.say("MAIL FROM:<ben@example.edu>", "250")
        loads = server.log_text().count("users file loaded")
        done = server.hands("user", *change, "--config", server.config, "ben", stdin="another one\n")
        assert done.returncode == 0, done.stderr
        server.wait_log("users file loaded", times=loads + 1)
        gone.say("RCPT TO:<ben@example.org>", "250")
        gone.say("RSET", "250")
        gone.send("MAIL FROM:<ben@example.edu>\r\n")
        assert gone.reply().startswith("421 4.7.0 Your account has changed")
        assert other.mail(message("of somebody else")).startswith("250")
    server.wait_log("Your account has changed")


# covers: 3.7
def test_scram_is_offered_on_the_way_that_readme_describes(appliance):
    """Without auth.scram: each user by `penstock user add --scram`, while the server runs."""
    def offered():
        with Wire(server.port["submissions"], tls=True) as wire:
            return "SCRAM-SHA-256" in wire.say("EHLO client.example", "250")

    with appliance() as server:
        for user, password in USERS.items():
            assert not offered()
            done = server.hands("user", "add", "--scram", "--config", server.config, user, stdin=password + "\n")
            assert done.returncode == 0 and "SCRAM keys" in done.stdout, done
        server.wait_log("SCRAM is offered")
        assert offered()
        with Wire(server.port["submissions"], tls=True) as wire:
            reply, shown = scram(wire, "anna", "sesame")
            assert (reply[:3], shown) == ("235", True)
        checked = server.hands("check", "--config", server.config)
        assert "SCRAM" not in checked.stdout + checked.stderr
        done = server.hands("user", "add", "--config", server.config, "cleo", stdin="correct horse\n")
        assert "all others have SCRAM keys" in done.stderr
        server.wait_log("SCRAM is no longer offered")
        assert not offered()
        listed = server.hands("user", "list", "--config", server.config).stdout.splitlines()
        assert "anna\tSCRAM" in listed and "cleo" in listed


def test_users_are_changed_whatever_else_is_wrong(server):
    text = server.config.read_text()
    server.config.write_text("recipients_maximum = 3\n" + text)
    try:
        done = server.hands("user", "add", "--config", server.config, "cleo", stdin="correct horse\n")
        assert done.returncode == 0 and "recipients_maximum" in done.stderr, done
        done = server.hands("user", "add", "--config", server.config, "cleo", stdin="correct horse\nanother\n")
        assert done.returncode == 1 and "more than one line" in done.stderr, done
    finally:
        server.config.write_text(text)


def test_the_second_login_is_free_of_hashing(appliance):
    """A hash that takes long the first time: the log counts what was hashed."""
    with appliance() as server:
        done = server.hands("user", "add", "--config", server.config, "cleo", stdin="correct horse\n")
        assert done.returncode == 0, done.stderr
        wait_login(server, "cleo", "correct horse", "235")
        spent = cpu_s(server)
        for _ in range(20):
            assert login(server, "cleo", "correct horse").startswith("235")
        cached = cpu_s(server) - spent
        spent = cpu_s(server)
        for _ in range(4):
            assert login(server, "cleo", "wrong horse").startswith("535")
        hashed = cpu_s(server) - spent
        # 20 cached logins against 4 hashed ones (of 19 MiB, twice): a tenth each would be far too much already.
        assert cached / 20 < hashed / 4, (cached, hashed)


def cpu_s(server):
    """CPU seconds of the process so far."""
    fields = open(f"/proc/{server.process.pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def test_many_logins_at_once_are_answered(appliance):
    """A full verifier queue answers 454, never 535, and the session goes on."""
    with appliance(auth={"verifiers": 1, "verifier_queue": 1}) as server:
        done = server.hands("user", "add", "--config", server.config, "cleo", stdin="correct horse\n")
        assert done.returncode == 0, done.stderr
        wait_login(server, "cleo", "correct horse", "235")
        replies = []
        threads = [threading.Thread(target=lambda: replies.append(login(server, "cleo", "wrong"))) for _ in range(30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(replies) == 30
        assert {reply[:9] for reply in replies} <= {"454 4.7.0", "535 5.7.8"}
        assert any(reply.startswith("454 4.7.0") for reply in replies)
        assert submit(server.port["submissions"], message("after")).startswith("250")


@pytest.mark.parametrize("form, good, bad", [
    ("either", ["anna", "anna@example.edu", "ANNA@EXAMPLE.EDU"], ["anna@example.org", "anna@"]),
    ("require-domain", ["anna@example.edu", "Anna@Example.EDU"], ["anna", "anna@example.org"]),
    ("append-domain", ["anna"], ["anna@example.org"]),
])
def test_forms_of_user_names(appliance, form, good, bad):
    server = appliance(auth={"username_form": form})
    write_users(server.users, {"anna@example.edu": "sesame"})
    with server:
        for name in good:
            assert login(server, name, "sesame").startswith("235"), name
        for name in bad:
            assert login(server, name, "sesame").startswith("535"), name


@pytest.fixture
def scram_server(appliance):
    """Every user has SCRAM keys; the listener for implicit TLS lists -PLUS too."""
    server = appliance(auth={"scram": True, "scram_iterations": 4096})
    for user, password in USERS.items():
        done = server.hands("user", "add", "--config", server.config, user, stdin=password + "\n")
        assert done.returncode == 0, done.stderr
    for listener in server.settings["listener"]:
        if listener["name"] == "submissions":
            listener["mechanisms"] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"]
    server.write_config()
    with server:
        yield server


def end_point(wire):
    """tls-server-end-point (RFC 5929) of a certificate that is signed with SHA-256."""
    return hashlib.sha256(wire.socket.getpeercert(binary_form=True)).digest()


def scram(wire, user, password, plus=False, binding=None):
    """AUTH by scramp; the last reply, and whether the server has shown that it knows the password."""
    encode = lambda text: base64.b64encode(text.encode()).decode()
    decode = lambda reply: base64.b64decode(reply[4:]).decode()
    channel = ("tls-server-end-point", binding or end_point(wire)) if plus else None
    mechanism = "SCRAM-SHA-256-PLUS" if plus else "SCRAM-SHA-256"
    client = ScramClient([mechanism], user, password, channel_binding=channel)
    wire.say("EHLO client.example", "250")
    wire.send(f"AUTH {mechanism} {encode(client.get_client_first())}\r\n")
    reply = wire.reply()
    if not reply.startswith("334"):
        return reply, False
    client.set_server_first(decode(reply))
    wire.send(encode(client.get_client_final()) + "\r\n")
    reply = wire.reply()
    if not reply.startswith("334"):
        return reply, False
    client.set_server_final(decode(reply))  # raises if the signature is not that of the password
    wire.send("\r\n")
    return wire.reply(), True


# covers: 3.7 10.10
def test_scram_with_a_client_that_others_wrote(scram_server):
    for plus in (False, True):
        for user, password, code in [
            ("anna", "sesame", "235"),
            ("ANNA@example.edu", "sesame", "235"),
            ("anna", "Sesame", "535"),
            ("nobody", "sesame", "535"),
            ("ben", "open up, please", "235"),
        ]:
            with Wire(scram_server.port["submissions"], tls=True) as wire:
                reply, shown = scram(wire, user, password, plus)
                assert (reply[:3], shown) == (code, code == "235"), (plus, user, reply)
                if code == "235":
                    assert wire.mail(message("scram")).startswith("250")
    with Wire(scram_server.port["submissions"], tls=True) as wire:
        assert scram(wire, "anna", "sesame", plus=True, binding=b"x" * 32)[0].startswith("535"), "another certificate"
    with Wire(scram_server.port["submission"]) as wire:
        wire.starttls()
        hello = wire.say("EHLO client.example", "250")
        assert "250-AUTH PLAIN LOGIN SCRAM-SHA-256\n" in hello, hello
        assert scram(wire, "anna", "sesame")[0].startswith("235")
    log = scram_server.log_text()
    assert "sesame" not in log and "SCRAM-SHA-256$" not in log


# covers: 10.1 10.10
def test_the_salt_of_nobody_is_the_same_after_a_restart(scram_server):
    def salt(user):
        with Wire(scram_server.port["submissions"], tls=True) as wire:
            wire.say("EHLO client.example", "250")
            first = base64.b64encode(f"n,,n={user},r=abcdefgh".encode()).decode()
            reply = wire.say(f"AUTH SCRAM-SHA-256 {first}", "334")
            return base64.b64decode(reply[4:]).decode().split(",", 1)[1]

    users = ["anna", "nobody", "NOBODY", "somebody"]
    before = [salt(user) for user in users]
    assert before[1] == before[2] and len(set(before)) == 3 and len({len(text) for text in before}) == 1, before
    scram_server.stop()
    scram_server.start()
    assert [salt(user) for user in users] == before


def test_scram_is_offered_only_while_every_user_has_keys(scram_server):
    def offered():
        with Wire(scram_server.port["smtps"], tls=True) as wire:
            return next(line for line in wire.say("EHLO client.example", "250").split("\n") if "AUTH" in line)

    assert offered() == "250-AUTH PLAIN LOGIN SCRAM-SHA-256"
    with open(scram_server.users, "a") as file:
        file.write(f"eve:{cheap_hash('also new')}\n")
    wait_login(scram_server, "eve", "also new", "235")
    assert offered() == "250-AUTH PLAIN LOGIN"
    check = scram_server.hands("check", "--config", scram_server.config)
    assert "1 of 3 users have no SCRAM keys" in check.stderr and check.returncode == 0, check.stderr


# covers: 10.10
@pytest.mark.parametrize("password, right", [("sesame", True), ("wrong", False)])
def test_scram_with_gsasl(scram_server, password, right):
    done = subprocess.run(
        ["gsasl", "--client", "--smtp", "--connect", f"localhost:{scram_server.port['submission']}",
         f"--x509-ca-file={scram_server.ca}", "--mechanism", "SCRAM-SHA-256", "--authentication-id", "anna",
         # It binds by tls-exporter only, and refuses SCRAM without -PLUS where it could bind.
         "--password", password, "--hostname", "localhost", "--service", "smtp", "--no-cb"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
    )
    assert ("235 2.7.0" in done.stdout) == right, done.stdout + done.stderr
    assert ("535 5.7.8" in done.stdout) != right, done.stdout + done.stderr


# covers: 10.12
def test_a_guesser_is_stopped_and_the_user_elsewhere_logs_in(appliance):
    brake = {"brake_exempt_networks": ["127.0.0.3"], "brake_account_failures": 5, "brake_window_s": 600}
    with appliance(auth=brake) as server:
        replies = [login(server, "anna", f"guess {n}", "127.0.0.1")[:9] for n in range(8)]
        assert replies == ["535 5.7.8"] * 5 + ["454 4.7.0"] * 3
        assert login(server, "anna", "sesame", "127.0.0.1").startswith("454 4.7.0"), "right or wrong is not told"
        assert login(server, "anna", "sesame", "127.0.0.2").startswith("235"), "the user himself"
        assert login(server, "ben", "open up, please", "127.0.0.1").startswith("235"), "his neighbour"
        for n in range(8):
            assert login(server, "anna", f"guess {n}", "127.0.0.3").startswith("535"), "exempt"
        lines = [line for line in server.log_text().splitlines() if "braked" in line]
        begun, tried_on = lines
        assert "too many failed" in begun and "refused while braked" in tried_on, lines
        assert all('"127.0.0.1"' in line and '"anna"' in line and '"until":"20' in line for line in lines), lines
        assert '"refused":"1"' in tried_on, "the next line comes when a minute is over"
        failed = [line for line in server.log_text().splitlines() if '"authentication failed"' in line]
        assert all('"mechanism":"PLAIN","reason":"wrong password"' in line for line in failed), failed
        right = [line for line in server.log_text().splitlines() if '"event":"authenticated"' in line]
        assert len(right) == 2 and '"user":"anna","mechanism":"PLAIN"' in right[0], right
        assert "guess" not in server.log_text()
        # A password in the field of the name, over and over.
        assert [login(server, "opensesame", f"x{n}", "127.0.0.4")[:3] for n in range(6)] == ["535"] * 5 + ["454"]
        server.wait_log(r'"event":"refused while braked","from":"127.0.0.4","user":"\(withheld')
        assert "opensesame" not in server.log_text()
    assert '"auth_braked":"5"' in server.log_text(), server.log_text()[-2000:]


# covers: 10.12
def test_refused_answers_are_held_back(appliance):
    with appliance(auth={"failure_delay_ms": 300, "brake_exempt_networks": []}) as server:
        spent = []
        for n in range(3):
            start = time.monotonic()
            assert login(server, "anna", f"guess {n}").startswith("535")
            spent.append(time.monotonic() - start)
        # At least; how much longer is the machine's affair.
        assert spent[0] >= 0.3 and spent[1] >= 0.6 and spent[2] >= 1.2, spent
        assert login(server, "anna", "sesame").startswith("235")


# covers: 10.13
def test_a_response_that_is_mistaken_for_a_command_is_not_logged(server):
    with Wire(server.port["submissions"], tls=True) as wire:
        wire.say("EHLO client.example", "250")
        wire.say(plain("anna", "hush, hush"), "500")
        wire.say("AUTH PLAIN", "334")
        wire.say("!" + plain("anna", "hush, hush"), "501")
        wire.say(f"AUTH PLAIN {plain('anna', 'hush, hush')} x", "501")
        wire.say(f"AUTH PLAIN {plain('anna', 'hush, hush')}", "535")
        log = server.log_text()
        assert plain("anna", "hush, hush") not in log and "hush" not in log
