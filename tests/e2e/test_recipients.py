"""Recipients: how many a user may name, and who there is in our own domains."""

import pytest
from appliance import wait_for
from test_brakes import counters
from wire import Wire

UNKNOWN = "550 5.1.1"
OVER = "450 4.7.1"


def recipient(wire, address):
    wire.send(f"RCPT TO:<{address}>\r\n")
    return wire.reply()


def begun(server, user="anna", password="sesame"):
    """A session with MAIL taken."""
    wire = Wire(server.port["submissions"], tls=True)
    wire.login(user, password)
    wire.say("MAIL FROM:<anna@example.edu>", "250")
    return wire


# covers: 5.17
def test_sessions_of_a_user_share_the_limit_and_others_have_their_own(appliance):
    settings = {"limits": {"user_recipients_per_hour": 100}, "top": {"trusted_networks": ["127.0.0.0/8"]}}
    with appliance(**settings) as server:
        # So many that not all of them are on one core.
        sessions = [begun(server) for _ in range(10)]
        replies = [recipient(sessions[n % 10], f"r{n}@example.org")[:9] for n in range(104)]
        # One is forgiven each 36 s, in which a slow machine may be.
        granted = replies.count("250 2.1.5")
        assert replies[:100] == ["250 2.1.5"] * 100 and granted < 104, replies[100:]
        assert OVER in replies[100:]
        # Pipelined: no more than what was forgiven meanwhile.
        sessions[0].send("".join(f"RCPT TO:<p{n}@example.org>\r\n" for n in range(50)))
        burst = [sessions[0].reply()[:9] for _ in range(50)]
        assert burst.count(OVER) > 40
        # A name written otherwise is the same account.
        same = begun(server, "Anna@example.edu")
        assert any(recipient(same, f"s{n}@example.org").startswith(OVER) for n in range(4))
        # Another user, and a trusted network that is no user, are not affected.
        other = begun(server, "ben", "open up, please")
        assert all(recipient(other, f"o{n}@example.org").startswith("250") for n in range(50))
        with Wire(server.port["smtp"]) as printer:
            printer.say("EHLO printer.example.edu", "250")
            printer.say("MAIL FROM:<printer@example.edu>", "250")
            assert all(recipient(printer, f"q{n}@example.org").startswith("250") for n in range(110))
        # What was taken before is sent.
        sessions[1].say("DATA", "354")
        sessions[1].send("Subject: taken\r\n\r\nHi.\r\n.\r\n")
        assert sessions[1].reply().startswith("250")
        told = [line for line in server.log_text().splitlines() if "over the limit of recipients" in line]
        assert len(told) == 1 and '"user":"anna"' in told[0], told
        assert counters(server)["recipients_over_rate"] >= replies.count(OVER) + burst.count(OVER)
        for wire in [*sessions, same, other]:
            wire.close()


def recipients_file(server, text):
    """Replaces the file as an editor does: a new file, renamed."""
    new = server.directory / "recipients.new"
    new.write_text(text)
    new.rename(server.directory / "recipients")


@pytest.fixture
def known(appliance):
    """A server that knows anna only."""
    server = appliance(top={"local_recipients": "recipients"})
    recipients_file(server, "# ours\nAnna@example.edu\n")
    with server as running:
        yield running


def answer(server, address):
    """What a stranger is told about an address."""
    with Wire(server.port["smtp"]) as wire:
        wire.say("EHLO client.example", "250")
        wire.say("MAIL FROM:<x@example.org>", "250")
        return recipient(wire, address)


def wait_answer(server, address, code):
    wait_for(lambda: answer(server, address).startswith(code), 10,
             lambda: f"{address} does not get {code}:\n{server.log_text()[-3000:]}")


# covers: 4.7
def test_a_file_says_who_there_is(known):
    for address in ["anna@example.edu", "ANNA+x@Example.edu", "postmaster", "postmaster@example.edu"]:
        assert answer(known, address).startswith("250 2.1.5"), address
    assert answer(known, "nobody@example.edu").startswith(UNKNOWN)
    wire = begun(known)
    assert recipient(wire, "nobody@example.edu").startswith(UNKNOWN), "a user is told too"
    assert recipient(wire, "nobody@example.org").startswith("250"), "elsewhere is not ours to know"
    # A session that was there before the file changed sees the new one.
    recipients_file(known, "anna@example.edu\nnobody@example.edu\n")
    wait_answer(known, "nobody@example.edu", "250")
    assert recipient(wire, "nobody@example.edu").startswith("250")
    wire.close()


# covers: 4.7
@pytest.mark.parametrize("broken", ["anna\n", "anna@example.edu\n@\n", "", "# nobody\n"])
def test_a_broken_file_keeps_the_old_recipients(known, broken):
    recipients_file(known, broken)
    known.wait_log("local recipients not taken")
    assert answer(known, "anna@example.edu").startswith("250")
    assert answer(known, "nobody@example.edu").startswith(UNKNOWN)
    checked = known.hands("check", "--config", known.config)
    assert checked.returncode == 1 and "recipients" in checked.stderr, checked.stderr
    recipients_file(known, "@example.edu\n")
    wait_answer(known, "nobody@example.edu", "250")


def test_sighup_reads_the_recipients_again(known):
    before = known.log_text().count("local recipients loaded")
    known.reload()
    known.wait_log("local recipients loaded", times=before + 1)
    assert answer(known, "nobody@example.edu").startswith(UNKNOWN)


def test_a_missing_file_is_refused_at_start(appliance):
    server = appliance(top={"local_recipients": "recipients"})
    done = server.hands("serve", "--config", server.config)
    assert done.returncode != 0 and "recipients does not exist" in done.stderr, done.stderr
