"""What a client may not do to us: be slow for ever, not read, come too often, talk first. Each with the honest client
beside it, who is not hurt. Limits are seconds here; every wait has a generous bound and no test measures time.

Clients differ by their address: any of 127.0.0.0/8 is on the loopback interface.
"""

import os
import re
import resource
import socket
import ssl
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from appliance import wait_for
from mail import message
from wire import Wire, plain, submit, unverified

# Nothing is exempt here.
STRICT = {"connections_exempt_networks": []}
TRUSTED = {"trusted_networks": ["127.9.9.9/32"]}


def limits(**changes):
    return {**STRICT, **changes}


def counters(server):
    """The totals, asked for by SIGUSR1."""
    before = len(re.findall(r'"event":"totals"', server.log_text()))
    server.process.send_signal(10)
    server.wait_log(r'"event":"totals"', times=before + 1)
    line = [line for line in server.log_text().splitlines() if '"event":"totals"' in line][-1]
    return {name: int(value) for name, value in re.findall(r'"(\w+)":"(\d+)"', line)}


def descriptors(server):
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


def resident_kib(server):
    with open(f"/proc/{server.process.pid}/status") as status:
        return int(re.search(r"VmRSS:\s+(\d+)", status.read()).group(1))


def honest(server, tag, port="submissions"):
    """A message from an honest client arrives, whatever goes on."""
    before = len(server.maildir.files())
    assert submit(server.port[port], message(tag)).startswith("250 2.0.0")
    wait_for(lambda: len(server.maildir.files()) > before, 20, f"{tag} did not arrive")


class Drip(threading.Thread):
    """Sends an octet now and then, from whatever `octets` gives, until the server closes or it is told to stop."""

    def __init__(self, wire, octets, pause_s=0.05):
        super().__init__(daemon=True)
        self.wire, self.octets, self.pause_s, self.over = wire, octets, pause_s, threading.Event()
        self.start()

    def run(self):
        try:
            while not self.over.wait(self.pause_s):
                self.wire.send(self.octets)
        except OSError:
            pass


def ends_timed_out(server, wire, reason, octets):
    """The server says 421 4.4.2 although octets keep coming, closes, and logs the reason once."""
    drip = Drip(wire, octets) if octets else None
    try:
        reply = wire.reply()
        while reply[:3] in ("250", "334", "500", "501"):
            reply = wire.reply()
        # A reset may overtake the reply while we are sending.
        assert reply.startswith("421 4.4.2") or reply == "", reply
        assert wire.at_end()
    finally:
        if drip:
            drip.over.set()
            drip.join(10)
    wire.close()
    server.wait_log(f'"event":"timed out".*"reason":"{reason}"')


# covers: 11.1
@pytest.mark.parametrize("octets", [b"", b"N"], ids=["silent", "dripping"])
def test_a_stranger_that_does_not_finish_a_command(appliance, octets):
    with appliance(limits=limits(stranger_timeout_s=1)) as server:
        wire = Wire(server.port["submission"])
        with Wire(server.port["submissions"], tls=True) as patient:
            patient.login()
            ends_timed_out(server, wire, "command line without end" if octets else "no command", octets)
            # Who has authenticated has five minutes.
            assert patient.mail(message("patient")).startswith("250 2.0.0")
        count = counters(server)
        assert (count["timed_out_idle"], count["timed_out_line"]) == ((0, 1) if octets else (1, 0))


# covers: 11.1
def test_known_clients_and_mail_servers_have_their_limit_too(appliance):
    with appliance(limits=limits(idle_timeout_s=1), top=TRUSTED) as server:
        for port, source in (("smtp", "127.0.0.1"), ("smtp", "127.9.9.9")):
            ends_timed_out(server, Wire(server.port[port], source=source), "command line without end", b"N")
        wire = Wire(server.port["submissions"], tls=True)
        wire.login()
        ends_timed_out(server, wire, "no command", b"")


# covers: 10.13 11.3
@pytest.mark.parametrize("end", ["close", "behind octets", "reset"])
def test_guesses_whose_author_has_gone_cost_nothing(appliance, end):
    """Who asks and leaves does not keep honest clients waiting: his guesses are not hashed."""
    guesses = 40
    with appliance(limits=limits(), auth={"verifiers": 1}) as server:
        # Hers takes as long as a real one.
        done = server.hands("user", "add", "--config", server.config, "cleo", stdin="correct horse\n")
        assert done.returncode == 0, done.stderr
        server.wait_log('"event":"users file loaded"')
        for number in range(guesses):
            wire = Wire(server.port["submissions"], tls=True, source=f"127.0.1.{number + 1}")
            wire.say("EHLO client.example", "250")
            wire.send(f"AUTH PLAIN {plain('cleo', f'guess-{number}')}\r\n")
            if end != "close":
                wire.send("NOOP\r\n")
            if end == "reset":
                wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            wire.close()
        honest(server, "after-the-guesses")
        with Wire(server.port["submissions"], tls=True) as wire:
            wire.login("cleo", "correct horse")
        # Those that were made before their author was seen to leave; all of them are over by now, or never will be made.
        assert counters(server)["auth_failed"] < guesses / 2


# covers: 10.13
def test_what_is_pipelined_behind_a_password_is_no_end(appliance):
    with appliance() as server:
        wire = Wire(server.port["submissions"], tls=True)
        wire.say("EHLO client.example", "250")
        wire.send(f"AUTH PLAIN {plain('anna', 'sesame')}\r\n")
        wire.send("NOOP\r\n")
        wire.expect("235")
        wire.expect("250")
        wire.close()


class Record(Wire):
    """TLS whose records can be had, to be sent an octet at a time."""

    def handshake(self, context=None):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = (context or unverified()).wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.raw, self.socket = self.socket, self
        self.until_done(self.tls.do_handshake)

    def until_done(self, step):
        while True:
            try:
                done = step()
                break
            except ssl.SSLWantReadError:
                self.raw.sendall(self.outgoing.read())
                data = self.raw.recv(65536)
                if not data:
                    return b""
                self.incoming.write(data)
        self.raw.sendall(self.outgoing.read())
        return done

    def sendall(self, data):
        self.raw.sendall(self.sealed(data))

    def recv(self, size):
        return self.until_done(lambda: self.tls.read(size))

    def close(self):
        getattr(self, "raw", self.socket).close()

    def sealed(self, data):
        """The records of `data`, not sent."""
        self.tls.write(data)
        return self.outgoing.read()


# covers: 11.1
@pytest.mark.parametrize("login", [False, True], ids=["stranger", "known"])
def test_a_record_that_does_not_end(appliance, login):
    """Octets of a record that never is complete are no command: the wait for one ends as if there were none."""
    with appliance(limits=limits(stranger_timeout_s=1, idle_timeout_s=1)) as server:
        wire = Record(server.port["submissions"], tls=True)
        wire.say("EHLO client.example", "250")
        if login:
            wire.say(f"AUTH PLAIN {plain('anna', 'sesame')}", "235")
        record = wire.sealed(b"NOOP " + b"a" * 480 + b"\r\n")
        ends = threading.Event()

        def drip():
            for octet in record[:-1]:
                if ends.wait(0.05):
                    return
                try:
                    wire.raw.sendall(bytes([octet]))
                except OSError:
                    return

        dripping = threading.Thread(target=drip, daemon=True)
        dripping.start()
        try:
            reply = wire.reply()
            # A reset may overtake the reply while we are sending.
            assert reply.startswith("421 4.4.2") or reply == "", reply
        finally:
            ends.set()
            dripping.join(10)
        wire.close()
        server.wait_log('"event":"timed out".*"reason":"no command"')


# covers: 11.1
@pytest.mark.parametrize("octets", [b"", b"A"], ids=["silent", "dripping"])
def test_an_exchange_that_does_not_end(appliance, octets):
    with appliance(limits=limits(stranger_timeout_s=1)) as server:
        wire = Wire(server.port["submissions"], tls=True)
        wire.say("EHLO client.example", "250")
        wire.say("AUTH PLAIN", "334")
        ends_timed_out(server, wire, "AUTH exchange without end", octets)


# covers: 11.1 11.3
def test_a_stranger_that_keeps_busy_and_never_authenticates(appliance):
    with appliance(limits=limits(login_timeout_s=2)) as server:
        wire = Wire(server.port["submission"])
        with Wire(server.port["submissions"], tls=True) as patient:
            patient.login()
            ends_timed_out(server, wire, "not authenticated in time", b"NOOP\r\n")
            assert patient.mail(message("patient")).startswith("250 2.0.0")


# covers: 11.1
def test_a_transaction_that_does_not_end(appliance):
    with appliance(limits=limits(transaction_timeout_s=2)) as server:
        wire = Wire(server.port["submissions"], tls=True)
        wire.login()
        wire.say("MAIL FROM:<anna@example.edu>", "250")
        ends_timed_out(server, wire, "transaction without end", b"NOOP\r\n")
        wire = Wire(server.port["submissions"], tls=True)
        wire.login()
        # Messages one after the other are not one transaction.
        for number in range(40):
            assert wire.mail(message(f"one-of-many-{number}")).startswith("250 2.0.0")
            time.sleep(0.1)
        wire.close()
        server.maildir.wait(40)


# covers: 11.3
@pytest.mark.parametrize("tls", [False, True], ids=["clear", "TLS"])
def test_content_below_the_least_rate(appliance, tls):
    """A drip ends; a client that is slow, but above the rate, finishes, and takes longer than the window for it."""
    with appliance(limits=limits(receiving_rate_min=500, receiving_window_s=1)) as server:
        port = server.port["smtps" if tls else "smtp"]

        def in_data(tag):
            wire = Wire(port, tls=tls)
            wire.say("EHLO client.example", "250")
            wire.say("MAIL FROM:<stranger@example.org>", "250")
            wire.say("RCPT TO:<ben@example.edu>", "250")
            wire.say("DATA", "354")
            wire.send(message(tag))
            return wire

        ends_timed_out(server, in_data("drip"), "content too slow", b"x")
        slow = in_data("slow-but-honest")
        for _ in range(60):
            slow.send(b"y" * 398 + b"\r\n")
            time.sleep(0.05)
        slow.say(".", "250 2.0.0")
        server.maildir.wait(1)
        assert len(server.maildir.files()) == 1
        assert counters(server)["timed_out_slow"] == 1


def ask_and_never_read(port, tls, count):
    """So many trusted clients at once, each of which asks until nothing goes through any more. Strangers are sent away before."""

    def one(_):
        wire = Wire(port, tls=tls, receive_bytes=4096, source="127.9.9.9")
        wire.say("EHLO printer.example.edu", "250")
        wire.say("MAIL FROM:<printer@example.edu>", "250")
        wire.socket.settimeout(0.5)
        try:
            while True:
                # So many may be refused, and a message in between starts the count anew.
                wire.send(b"RCPT TO:<nobody-of-this-name@example.edu>\r\n" * 9_000)
                wire.send(b"RCPT TO:<anna@example.edu>\r\nDATA\r\nSubject: clog\r\n\r\n.\r\nMAIL FROM:<printer@example.edu>\r\n")
        except (OSError, ValueError):
            return wire

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


# covers: 8.4 11.7
@pytest.mark.parametrize("tls", [False, True], ids=["clear", "TLS"])
def test_clients_that_never_read(appliance, tls):
    """Each asks for more than the kernel's buffers hold. Our memory does not grow by it, and the connections end."""
    changes = limits(reply_timeout_s=1, recipients_max=10_000)
    server = appliance(limits=changes, top={"cores": 1, "local_recipients": "recipients", **TRUSTED})
    (server.directory / "recipients").write_text("anna@example.edu\nben@example.edu\n")
    with server:
        port = server.port["smtps" if tls else "smtp"]
        honest(server, "before")
        before = descriptors(server)
        # What is pooled is there once.
        wires = ask_and_never_read(port, tls, 10)
        memory = resident_kib(server)
        wires += ask_and_never_read(port, tls, 20)
        server.wait_log('"event":"timed out".*"reason":"replies not read"', times=30, seconds=60)
        grown = resident_kib(server) - memory
        assert grown < 20 * 150, f"{grown} KiB for 20 clients: replies are bounded"
        honest(server, "after")
        for wire in wires:
            wire.close()
        wait_for(lambda: descriptors(server) <= before + 5, 20, lambda: f"{descriptors(server)} descriptors, {before} before")


# covers: 11.3
def test_handshakes_that_do_not_end(appliance):
    with appliance(limits=limits(handshake_timeout_s=1)) as server:
        raw = socket.create_connection(("127.0.0.1", server.port["submissions"]), timeout=20)
        starting = Wire(server.port["submission"])
        starting.say("EHLO client.example", "250")
        starting.say("STARTTLS", "220")
        server.wait_log('"event":"timed out".*"reason":"TLS handshake without end"', times=2)
        server.wait_log('"TLS handshake without end","meaning":"the client may be set to STARTTLS', times=1)
        assert raw.recv(100) == b"" and starting.at_end(), "not a word in the clear"
        assert counters(server)["timed_out_handshake"] == 2


# covers: 11.3
def test_too_many_from_one_address_and_from_one_network(appliance):
    changes = limits(connections_per_address=3, connections_per_network=5)
    with appliance(limits=changes, top=TRUSTED) as server:
        clear, port = server.port["submission"], server.port["submissions"]
        open_ones = [Wire(clear, source="127.1.1.1") for _ in range(3)]
        for _ in range(20):
            refused = Wire(clear, source="127.1.1.1", greeting=False)
            assert refused.reply().startswith("421 4.7.0") and refused.at_end()
        silent = socket.create_connection(("127.0.0.1", port), timeout=20, source_address=("127.1.1.1", 0))
        assert silent.recv(100) == b"", "a clear word under implicit TLS"
        # Another address of the same network, up to the network's limit; and another network.
        open_ones += [Wire(clear, source="127.1.1.2") for _ in range(2)]
        assert Wire(clear, source="127.1.1.3", greeting=False).reply().startswith("421 4.7.0")
        Wire(clear, source="127.1.2.1").close()
        # The trusted network, on a listener where that counts.
        open_ones += [Wire(server.port["smtp"], source="127.9.9.9") for _ in range(20)]
        # One line for the network, not one for each.
        server.wait_log('"event":"connections refused".*"network":"127.1.1.0/24"')
        assert len(re.findall('"event":"connections refused","network":"127.1.1.0/24"', server.log_text())) == 1
        assert counters(server)["networks_refused"] >= 22
        # Who goes makes room.
        for wire in open_ones:
            wire.close()
        wait_for(lambda: Wire(clear, source="127.1.1.1", greeting=False).reply().startswith("220"), 20, "no room")


# covers: 11.3
def test_students_behind_one_address_are_limited_only_until_they_log_in(appliance):
    with appliance(limits=limits(connections_per_address=2, connections_per_network=2)) as server:
        students = []
        for _ in range(10):
            student = Wire(server.port["submissions"], tls=True, source="127.2.2.2")
            student.login()
            students.append(student)
        waiting = [Wire(server.port["submission"], source="127.2.2.2") for _ in range(2)]
        assert Wire(server.port["submission"], source="127.2.2.2", greeting=False).reply().startswith("421 4.7.0")
        for number, student in enumerate(students):
            assert student.mail(message(f"student-{number}")).startswith("250 2.0.0")
            student.close()
        for wire in waiting:
            wire.close()


# covers: 11.3
def test_a_campus_can_be_exempt(appliance):
    changes = limits(connections_per_address=2, connections_per_network=2, connections_exempt_networks=["127.3.0.0/16"])
    with appliance(limits=changes) as server:
        campus = [Wire(server.port["submission"], source="127.3.3.3") for _ in range(20)]
        for wire in campus:
            wire.close()


# covers: 2.1 11.3
def test_strangers_make_room_for_others(appliance):
    """All places are taken: the stranger that has waited longest goes, never a client that has authenticated."""
    changes = limits(connections_per_core=8, connections_per_address=500, stranger_timeout_s=300, crowded_timeout_s=300)
    with appliance(limits=changes, top={"cores": 1}) as server:
        known = [Wire(server.port["submissions"], tls=True) for _ in range(2)]
        for wire in known:
            wire.login()
        strangers = []
        for _ in range(6):
            strangers.append(Wire(server.port["submission"]))
            time.sleep(0.6)
        # The first has said something since, so that the second is the one that has waited longest.
        strangers[0].say("NOOP", "250")
        newcomer = Wire(server.port["submission"])
        assert strangers[1].reply().startswith("421 4.3.2") and strangers[1].at_end()
        strangers[2].say("NOOP", "250")
        # A flood of strangers takes places from strangers only, and an honest client gets in and stays.
        flood = [Wire(server.port["submission"], greeting=False) for _ in range(50)]

        def got_through():
            """With six places, the tail of the flood may still take the one of an honest client at once."""
            try:
                return submit(server.port["submissions"], message("through-the-flood")).startswith("250 2.0.0")
            except (OSError, AssertionError):
                return False

        wait_for(got_through, 20, "nobody gets through")
        for wire in known:
            assert wire.mail(message("known")).startswith("250 2.0.0")
        server.wait_log('"event":"displaced"')
        for wire in flood + strangers + known + [newcomer]:
            wire.close()
        assert counters(server)["connections_displaced"] >= 50


# covers: 11.3
def test_all_connections_together_are_bounded(appliance):
    changes = limits(connections_max=4, stranger_timeout_s=300, crowded_timeout_s=300)
    with appliance(limits=changes, top={"cores": 1}) as server:
        known = [Wire(server.port["submissions"], tls=True) for _ in range(4)]
        for wire in known:
            wire.login()
        refused = Wire(server.port["submission"], greeting=False)
        assert refused.reply().startswith("421 4.3.2") and refused.at_end()
        known.pop().close()
        wait_for(lambda: Wire(server.port["submission"], greeting=False).reply().startswith("220"), 20, "no room")


# covers: 11.1
def test_strangers_have_less_time_where_it_is_crowded(appliance):
    changes = limits(connections_per_core=8, crowded_timeout_s=1)
    with appliance(limits=changes, top={"cores": 1}) as server:
        known = [Wire(server.port["submissions"], tls=True) for _ in range(5)]
        for wire in known:
            wire.login()
        ends_timed_out(server, Wire(server.port["submission"]), "no command", b"")
        for wire in known:
            wire.say("NOOP", "250")
            wire.close()


def early(port, octets, source="127.0.0.1"):
    """Connects and has `octets` under way before the server can have said a word: it is stopped meanwhile."""
    wire = Wire(port, greeting=False, source=source)
    wire.send(octets)
    return wire


# covers: 2.8
def test_early_talkers_are_sent_away(appliance):
    with appliance(top={**TRUSTED, "cores": 1}) as server:
        server.process.send_signal(19)
        talkers = [early(server.port[name], b"EHLO x\r\nQUIT\r\n") for name in ("smtp", "submission")]
        talkers.append(early(server.port["smtp"], b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
        talkers.append(early(server.port["smtp"], b"PROXY TCP4 192.0.2.1 192.0.2.2 1025 25\r\n"))
        trusted = early(server.port["smtp"], b"EHLO x\r\nQUIT\r\n", source="127.9.9.9")
        silent = Wire(server.port["smtp"], greeting=False)
        server.process.send_signal(18)
        for wire in talkers:
            assert wire.reply().startswith("554 5.5.0"), "first word"
            assert wire.at_end(), "something was run"
        assert trusted.expect("220") and trusted.expect("250") and trusted.expect("221")
        assert silent.expect("220") and silent.say("QUIT", "221")
        server.wait_log('"event":"client spoke before the greeting"', times=4)
        server.wait_log('"meaning":"a PROXY header from an address which is not in this listener\'s proxy_from"')
        assert counters(server)["early_talkers"] == 4


# covers: 2.8
def test_early_talk_inside_tls_is_served_in_order(appliance):
    with appliance(top={"cores": 1}) as server:
        wire = Wire(server.port["smtps"], tls=True, greeting=False)
        wire.send(b"EHLO x\r\nNOOP\r\nQUIT\r\n")
        for code in ("220", "250", "250", "221"):
            wire.expect(code)
        assert wire.at_end()


def test_clients_that_never_use_starttls_are_counted_by_network(appliance):
    with appliance(limits=limits(connections_per_address=500)) as server:
        for _ in range(3):
            with Wire(server.port["submission"], source="127.4.4.4") as wire:
                wire.say("EHLO client.example", "250")
                wire.say("MAIL FROM:<anna@example.edu>", "530 5.7.0")
        with Wire(server.port["smtp"], source="127.5.5.5") as wire:
            wire.say("EHLO client.example", "250")
            wire.say(f"AUTH PLAIN {plain('anna', 'sesame')}", "538 5.7.11")
        with Wire(server.port["submission"], source="127.6.6.6") as wire:
            wire.say("EHLO client.example", "250")
            wire.say("QUIT", "221")
        # These are in order: TLS, no need of TLS, no EHLO.
        with Wire(server.port["submission"], source="127.7.7.7") as wire:
            wire.starttls()
        with Wire(server.port["smtp"], source="127.7.7.7") as wire:
            wire.say("EHLO client.example", "250")
            wire.say("QUIT", "221")
        Wire(server.port["submission"], source="127.7.7.7").close()
        with Wire(server.port["submission"], source="127.7.7.7") as wire:  # Its handshake fails, which has a line of its own.
            wire.say("EHLO client.example", "250")
            wire.say("STARTTLS", "220")
        for network in ("127.4.4.0/24", "127.5.5.0/24", "127.6.6.0/24"):
            server.wait_log(f'"event":"client never used STARTTLS","listener":"[^"]+","network":"{network}","seen":"1"')
        wait_for(lambda: counters(server)["never_secured"] == 5, 20, lambda: counters(server))
        lines = re.findall('"event":"client never used STARTTLS".*', server.log_text())
        assert len(lines) == 3, lines
        assert "sesame" not in server.log_text() and plain("anna", "sesame") not in server.log_text()


def reset(connection):
    """Closes with RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


# covers: 11.6 11.7
def test_out_of_descriptors(appliance):
    """accept fails; those that wait are told 421 instead of nothing, and when it is over all is as before."""
    with appliance(limits={"connections_per_core": 200, "stranger_timeout_s": 300}, top={"cores": 1}) as server:
        honest(server, "before")
        wait_for(lambda: descriptors(server) < 60, 20, lambda: f"{descriptors(server)} descriptors")
        before, memory = descriptors(server), resident_kib(server)
        old = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (before + 20, old[1]))
        flood = []
        # The first wave takes what there is; the second has little more than the spare one, which was taken back.
        for count, told_min in ((100, 50), (50, 40)):
            wave = [Wire(server.port["smtp"], greeting=False) for _ in range(count)]
            told = sum(wire.reply().startswith("421 4.3.2") for wire in wave)
            assert told >= told_min, (told, count)
            flood += wave
        server.wait_log('"event":"accept failed"')
        for wire in flood:
            reset(wire.socket)
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, old)
        wait_for(lambda: descriptors(server) <= before + 5, 20, lambda: f"{descriptors(server)} descriptors, {before} before")

        def accepted():
            """The spool may have lacked descriptors too, and says so until it has tried again."""
            try:
                return submit(server.port["submissions"], message("after")).startswith("250 2.0.0")
            except AssertionError as said:
                assert "452 4.3.1" in str(said)

        wait_for(accepted, 20, "no message is taken")
        server.maildir.wait(2)
        assert resident_kib(server) - memory < 20_000
        assert len(re.findall('"event":"accept failed"', server.log_text())) == 1, "one line a minute"
        assert counters(server)["accepts_failed"] >= 100


# covers: 11.7
def test_a_flood_of_connections_and_resets(appliance):
    """With as few descriptors as the server agrees to start with."""
    changes = {"connections_per_core": 50, "connections_exempt_networks": ["127.0.0.0/8"]}
    server = appliance(limits=changes, top={"cores": 1})
    server.start("prlimit", "--nofile=1422:1422")
    try:
        honest(server, "before")
        before, memory = descriptors(server), resident_kib(server)
        stop = threading.Event()

        def flood(name, number):
            while not stop.is_set():
                try:
                    connection = socket.create_connection(("127.0.0.1", server.port[name]), timeout=5)
                    connection.sendall([b"", b"EHLO x\r\n", b"\x16\x03\x01", bytes(range(256)) * 8][number % 4])
                    reset(connection) if number % 2 else connection.close()
                except OSError:
                    pass

        threads = [threading.Thread(target=flood, args=(name, number), daemon=True)
                   for number in range(4) for name in ("smtp", "submission", "submissions")]
        for thread in threads:
            thread.start()
        time.sleep(2)
        stop.set()
        for thread in threads:
            thread.join(20)
        honest(server, "after")
        wait_for(lambda: descriptors(server) <= before + 5, 30, lambda: f"{descriptors(server)} descriptors, {before} before")
        assert resident_kib(server) - memory < 30_000
        server.stop()
    finally:
        server.kill()
