"""`penstock queue`: through the real server's control socket, by users who may and who may not, and on a stopped spool."""

import json
import os
import re
import socket
import subprocess
import sys
import time

import pytest

from appliance import Penstock, free_port, wait_for
from fakes import Silent, Sink
from mail import Maildir, message
from wire import Wire

# Users and groups that every system has; SO_PEERCRED's group is enough to be a member.
HELPDESK, POSTMASTER, NOBODY = "mail", "news", "games"
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="becoming somebody else takes root")


def submit(server, tag, sender="anna@example.edu", recipients=("ben@example.org",), user="anna", password="sesame", asks=""):
    """Sends one message; its queue id."""
    return submit_all(server, [tag], sender, recipients, user, password, asks)[0]


def submit_all(server, tags, sender="anna@example.edu", recipients=("ben@example.org",), user="anna", password="sesame",
               asks=""):
    ids = []
    with Wire(server.port["submissions"], tls=True) as wire:
        wire.login(user, password)
        for tag in tags:
            wire.say(f"MAIL FROM:<{sender}>{asks}", "250")
            for recipient in recipients:
                wire.say(f"RCPT TO:<{recipient}>", "250")
            wire.say("DATA", "354")
            wire.send(message(tag) + b".\r\n")
            ids.append(re.search(r"queued as (\w{13})", wire.expect("250"))[1])
    return ids


def queue(server, *arguments, status=0, group=None):
    """A `penstock queue` command, by root or by somebody of a group; what it printed."""
    to = ["--config", server.config] if group is None else ["--socket", control(server)]
    who = {} if group is None else {"user": "nobody", "group": group, "extra_groups": []}
    done = subprocess.run([str(server.binary), "queue", *map(str, arguments), *map(str, to)], capture_output=True,
                          text=True, timeout=60, cwd="/", **who)
    assert done.returncode == status, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def rows(server, *arguments):
    """The messages that `list` or `show` tells of, by queue id."""
    lines = queue(server, *arguments, "--json").splitlines()
    messages = [json.loads(line)["message"] for line in lines if line.startswith('{"message"')]
    return {row["id"]: row for row in messages}


def control(server):
    return server.directory / "control"


def nowhere(**changes):
    """Settings of a server whose next hop is a port that nobody listens on, yet."""
    port = free_port()
    # A pause long enough that nothing goes out by itself.
    relay = {"retry_first_s": 600, "retry_max_s": 600}
    return port, {"routes": [{"smarthost": f"127.0.0.1:{port}", "tls": "none"}], "relay": relay, **changes}


def deferred(server, ids):
    wait_for(lambda: all(rows(server, "list").get(one, {}).get("status") == "deferred" for one in ids), 15,
             lambda: f"not deferred: {queue(server, 'list')}")


@pytest.fixture
def port_and_server(appliance):
    port, settings = nowhere()
    with appliance(**settings) as server:
        yield port, server


def test_orders_outlive_a_kill(port_and_server):
    port, server = port_and_server
    ids = submit_all(server, ["held", "deleted", "requeued", "released", "left"])
    held, deleted, requeued, released, left = ids
    deferred(server, ids)
    assert "done" in queue(server, "hold", held, released)
    assert "deleted for 1" in queue(server, "delete", deleted)
    queue(server, "requeue", requeued)
    queue(server, "release", released)
    before = rows(server, "list")
    assert set(before) == {held, requeued, released, left} and before[held]["status"] == "held"
    server.kill()
    server.start()
    deferred(server, [requeued, released, left])
    after = rows(server, "list")
    assert set(after) == set(before) and after[held]["status"] == "held"
    for one in (requeued, released):
        assert abs(after[one]["expires_ms"] - before[one]["expires_ms"]) < 10, "its time counts as it was ordered"
    assert after[requeued]["expires_ms"] > after[left]["expires_ms"]
    with Sink(port=port) as sink:
        queue(server, "flush")
        wait_for(lambda: len(sink.messages) == 3, 15, "three are delivered")
        wait_for(lambda: list(rows(server, "list")) == [held], 15, "and written down")
        queue(server, "release", held)
        wait_for(lambda: len(sink.messages) == 4, 15, "and the one that was held")
        wait_for(lambda: rows(server, "list") == {}, 15, "all is done")
        assert not any(b"Subject: deleted" in content for *_, content in sink.messages)
    assert "not in the queue" in queue(server, "release", held, status=1)


def test_release_of_all_is_of_what_is_held(port_and_server):
    _, server = port_and_server
    ids = submit_all(server, ["one", "two", "three"])
    deferred(server, ids)
    queue(server, "hold", ids[1])
    said = queue(server, "release", "--all")
    assert ids[1] in said and "release: 1 message\n" in said and ids[0] not in said
    assert queue(server, "release", "--all") == "release: 0 messages\n"


def test_a_paused_relay_takes_orders_and_delivers_nothing(appliance):
    with Sink() as sink:
        server = appliance(routes=[{"smarthost": f"127.0.0.1:{sink.port}", "tls": "none"}], relay={"paused": True})
        with server:
            held, deleted, left = submit_all(server, ["held", "deleted", "left"])
            wait_for(lambda: set(rows(server, "list")) == {held, deleted, left}, 15, lambda: queue(server, "list"))
            queue(server, "hold", held)
            queue(server, "delete", deleted)
            queue(server, "flush", left)
            wait_for(lambda: set(rows(server, "list")) == {held, left}, 15, lambda: queue(server, "list"))
        assert not sink.messages
        server.settings["relay"]["paused"] = False
        server.write_config()
        with server:
            wait_for(lambda: list(rows(server, "list")) == [held], 15, lambda: queue(server, "list"))
            assert [b"Subject: left" in content for *_, content in sink.messages] == [True]
            assert "paused" not in queue(server, "list") + queue(server, "stats")


@pytest.mark.slow
def test_delivered_mail_is_overwritten_in_time_during_a_pause_too(directory):
    """What waits stands in the same segment, which is looked at after a minute: it is waited for with one driver only."""
    port = free_port()
    with Sink() as sink:
        routes = [{"domains": ["example.com"], "smarthost": f"127.0.0.1:{port}", "tls": "none"},
                  {"smarthost": f"127.0.0.1:{sink.port}", "tls": "none"}]
        with Penstock(directory / "penstock", routes=routes, top={"cores": 1}, spool={"wipe_after_s": 8},
                      relay={"retry_first_s": 600, "retry_max_s": 600}) as server:
            waits = submit(server, "waits", recipients=["cleo@example.com"])
            submit(server, "delivered")
            wait_for(lambda: list(rows(server, "list")) == [waits], 15, "it is not delivered")
            server.kill()
            server.settings["relay"]["paused"] = True
            server.write_config()
            server.start()
            stored = lambda: b"".join(path.read_bytes() for path in (server.directory / "spool/segments").glob("*.seg"))
            wait_for(lambda: b"Subject: delivered" not in stored(), 100, "it is not overwritten")
            assert b"Subject: waits" in stored() and list(rows(server, "list")) == [waits]


def test_a_pause_is_seen_wherever_somebody_looks(appliance):
    server = appliance(relay={"paused": True})
    with server:
        one = submit(server, "one")
        for arguments in (["list"], ["show", one], ["stats"], ["flush"]):
            assert queue(server, *arguments).startswith("the relay is paused (relay.paused = true): nothing is delivered")
        assert [json.loads(line) for line in queue(server, "list", "--json").splitlines()][0] == {"relay": {"paused": True}}
        assert json.loads(queue(server, "stats", "--json").splitlines()[0])["stats"]["paused"] is True
        server.settings["relay"]["paused"] = False
        server.stop()
        server.write_config()
        server.start()
        wait_for(lambda: rows(server, "list") == {}, 15, "it is delivered")


# covers: 12.7
def test_after_a_pause_what_is_past_its_time_is_tried_before_it_is_returned(appliance, directory):
    """As after an outage of the appliance that lasted longer than a message may wait."""
    inbox = Maildir(directory / "inbox")
    with Sink(replies={"RCPT TO:<full@": "450 4.2.1 mailbox full"}) as sink:
        routes = [{"domains": ["example.edu"], "maildir": inbox.path}, {"smarthost": f"127.0.0.1:{sink.port}", "tls": "none"}]
        server = appliance(routes=routes, relay={"paused": True, "expire_s": 3})
        with server:
            submit_all(server, ["one", "two"])
            last = submit(server, "three", recipients=["ben@example.org", "full@example.org"])
            end_ms = rows(server, "show", last)[last]["expires_ms"]
        wait_for(lambda: time.time() * 1000 > end_ms + 100, 15, "its time is not over")
        assert not sink.messages and not inbox.files()
        server.settings["relay"]["paused"] = False
        server.write_config()
        with server:
            wait_for(lambda: rows(server, "list") == {}, 15, lambda: queue(server, "list"))
            assert sorted(re.search(rb"Subject: (\w+)", content)[1] for *_, content in sink.messages) == [b"one", b"three", b"two"]
            report, = inbox.wait(1)
            assert b"450 4.2.1 mailbox full" in report, report
            assert b"\nFinal-Recipient: rfc822;full@example.org" in report.replace(b"rfc822; ", b"rfc822;"), report
            # Its log line tells which notification that is, and its trace too.
            notice = re.search(r'"event":"bounced".*"queue_id":"%s".*"notification":"(\w{13})"' % last, server.log_text())[1]
            assert f"Message-ID: <{notice}.".encode() in report


def test_what_its_sender_wants_later_is_not_sent_by_an_order_for_all(port_and_server):
    port, server = port_and_server
    later = submit(server, "later", asks=" HOLDFOR=3600")
    now = submit(server, "now")
    deferred(server, [now])
    assert rows(server, "list")[later]["status"] == "scheduled", "though its destination is down"
    for order in (["requeue", "--all"], ["requeue", "--user", "anna"], ["flush"]):
        said = queue(server, *order)
        assert f"{order[0]}: 1 message; 1 message left alone" in said and later not in said, said
    assert set(rows(server, "list", "--status", "scheduled")) == {later}
    with Sink(port=port) as sink:
        queue(server, "requeue", "--all")
        wait_for(lambda: list(rows(server, "list")) == [later], 15, lambda: queue(server, "list"))
        assert [b"Subject: now" in content for *_, content in sink.messages] == [True]
        assert "nothing to try" in queue(server, "flush", later)
        queue(server, "requeue", later)
        wait_for(lambda: rows(server, "list") == {}, 15, "who names it means it")
        assert len(sink.messages) == 2


def test_orders_outlive_many_kills(appliance):
    """What the first start reads of orders must be there for the next."""
    port, settings = nowhere()
    with appliance(**settings) as server:
        held, left = submit_all(server, ["held", "left"])
        deferred(server, [held, left])
        queue(server, "hold", held)
        for _ in range(3):
            server.kill()
            server.start()
            wait_for(lambda: rows(server, "list").get(held, {}).get("status") == "held", 15, "it is held")


def test_deletion_may_tell_the_sender(appliance, directory):
    inbox, port = Maildir(directory / "inbox"), free_port()
    routes = [{"domains": ["example.edu"], "maildir": inbox.path}, {"smarthost": f"127.0.0.1:{port}", "tls": "none"}]
    with appliance(routes=routes, relay={"retry_first_s": 600, "retry_max_s": 600}) as server:
        silent, told = submit_all(server, ["silent", "told"])
        deferred(server, [silent, told])
        queue(server, "delete", silent)
        queue(server, "delete", "--bounce", told)
        report = inbox.wait(1)[0]
        assert b"the postmaster has stopped its delivery" in report and b"Subject: told" in report
        wait_for(lambda: rows(server, "list") == {}, 15, "nothing is left")
        assert len(inbox.files()) == 1
        # A notification is answered by none, and nobody says that it was sent back.
        notice = submit(server, "notice", sender="")
        deferred(server, [notice])
        assert "deleted for 1 recipient; its sender is not told" in queue(server, "delete", "--bounce", notice)
        acts = {"told": "sent back by root at", "silent": "deleted by root at", "notice": "deleted by root at"}
        for one, act in zip([told, silent, notice], acts.values()):
            wait_for(lambda: act in traced(server, one), 15, lambda: traced(server, one))
            assert len(re.findall("sent back by|deleted by", traced(server, one))) == 1


def traced(server, one):
    done = subprocess.run([str(server.binary), "trace", one, "--config", str(server.config)], capture_output=True, text=True,
                          timeout=60)
    return done.stdout + done.stderr


def test_what_cannot_be_read_is_said_to_be_there(port_and_server):
    _, server = port_and_server
    whole, broken = submit_all(server, ["whole", "broken"])
    deferred(server, [whole, broken])
    for path in (server.directory / "spool/segments").glob("*.seg"):
        octets = path.read_bytes()
        at = octets.find(b"Subject: broken")
        if at >= 0:
            with open(path, "r+b") as segment:
                # In its envelope, which stands before what we have put in front of the content.
                segment.seek(octets.rfind(b"anna@example.edu", 0, octets.rfind(b"Received:", 0, at)))
                segment.write(b"?")
    there = f"{broken}  in the queue, but its record on the disk cannot be read"
    assert there in queue(server, "show", broken, status=1)
    listed = queue(server, "list", status=1)
    assert there in listed and whole in listed
    assert there in queue(server, "hold", "--all", status=1)
    assert "1  unreadable" in queue(server, "stats")
    assert "not delivered yet: it is in the queue, but its record" in traced(server, broken)
    queue(server, "delete", broken)
    wait_for(lambda: set(rows(server, "list")) == {whole}, 15, "it is not deleted")


def test_the_oldest_are_listed_first_whatever_core_took_them(port_and_server):
    _, server = port_and_server
    # The kernel chooses the core of each connection.
    ids = [submit(server, f"{number}") for number in range(12)]
    assert list(rows(server, "list")) == ids
    assert list(rows(server, "list", "--limit", "5")) == ids[:5]


def test_what_is_being_sent_when_it_is_held_is_said(appliance):
    with Silent() as hop:
        routes = [{"smarthost": f"127.0.0.1:{hop.port}", "tls": "none"}]
        with appliance(routes=routes) as server:
            one = submit(server, "one")
            wait_for(lambda: rows(server, "list")[one]["status"] == "sending", 15, "it is not sent")
            assert "done for 0 recipients; to 1 recipient it is being delivered in this moment" in queue(server, "hold", one)


def test_filters_and_what_is_shown(port_and_server):
    _, server = port_and_server
    one = submit(server, "one")
    many = submit(server, "many", recipients=["cleo@example.com", "dan@example.org"])
    bens = submit(server, "bens", sender="ben@example.edu", user="ben", password="open up, please")
    deferred(server, [one, many, bens])
    for arguments, expected in [
        ([], {one, many, bens}),
        (["--sender", "anna@example.edu"], {one, many}),
        (["--sender", "@example.edu"], {one, many, bens}),
        (["--recipient", "dan@example.org"], {many}),
        (["--domain", "example.org"], {one, many, bens}),
        (["--domain", "example.com"], {many}),
        (["--user", "ben"], {bens}),
        (["--older", "1h"], set()),
        (["--younger", "1h", "--user", "anna"], {one, many}),
        (["--status", "held"], set()),
        (["--status", "deferred", "--user", "ben"], {bens}),
        (["--recipient", "<dan@example.org>"], {many}),
        ([many], {many}),
    ]:
        assert set(rows(server, "list", *arguments)) == expected, arguments
    for arguments, wanted in [
        (["--domain", "dan@example.org"], "behind the @"),
        (["--sender", "anna"], "an address such as"),
        (["--recipient", "example.org"], "an address such as"),
        (["--user", ""], "a user name"),
        (["--older", "2h", "--younger", "1h"], "no message is older"),
        (["--older", "1w"], "write 90s, 15m, 3h or 2d"),
        (["--status", "lost"], "waiting"),
    ]:
        assert wanted in queue(server, "list", *arguments, status=2), arguments
    assert len(rows(server, "list", "--limit", "2")) == 2
    text = queue(server, "list", "--user", "anna")
    assert one in text and "cannot be reached" not in text.splitlines()[1] and "4.4.1" in text
    shown = queue(server, "show", many, "--headers")
    for part in [many, "deferred", "anna@example.edu", "user anna", "cleo@example.com", "dan@example.org", "next try in",
                 f"127.0.0.1:{server.settings['relay.route'][0]['smarthost'].split(':')[1]}", "Subject: many", "Received: from"]:
        assert part in shown, f"{part} not in {shown}"
    assert "Subject" not in queue(server, "show", many)
    stats = queue(server, "stats")
    assert "messages    3" in stats and re.search(r"3  deferred", stats)
    held = queue(server, "hold", "--user", "anna")
    assert "hold: 2 messages" in held
    assert set(rows(server, "list", "--status", "held")) == {one, many}


def let_groups_ask(server):
    """From its next start on, which is now."""
    server.stop()
    server.settings["control"] = {"socket": control(server), "helpdesk_group": HELPDESK, "postmaster_group": POSTMASTER}
    server.write_config()
    server.start()


@needs_root
def test_who_may_what(appliance):
    port, settings = nowhere()
    with appliance(**settings) as server:
        let_groups_ask(server)
        one = submit(server, "one")
        deferred(server, [one])
        for group, arguments, allowed in [
            (HELPDESK, ["list"], False),
            (HELPDESK, ["stats"], True),
            (HELPDESK, ["show", one], False),
            (HELPDESK, ["show", one, "--headers"], False),
            (HELPDESK, ["hold", one], False),
            (HELPDESK, ["delete", one], False),
            (HELPDESK, ["flush"], False),
            (HELPDESK, ["requeue", "--all"], False),
            (NOBODY, ["list"], False),
            (NOBODY, ["delete", "--all"], False),
            (POSTMASTER, ["show", one, "--headers"], True),
            (POSTMASTER, ["hold", one], True),
            (POSTMASTER, ["delete", one], True),
        ]:
            said = queue(server, *arguments, group=group, status=0 if allowed else 1)
            assert allowed or "may not" in said, said
        assert rows(server, "list") == {}
        server.wait_log('"operator acts".*"act":"delete"')
        log = [json.loads(line) for line in server.log_text().splitlines() if line.startswith("{")]
        acts = [line for line in log if line["event"] == "operator acts"]
        assert [(line["user"], line["act"], line["queue_id"], line["result"]) for line in acts] == [
            ("nobody", "hold", one, "done"), ("nobody", "delete", one, "done")]
        refused = [line for line in log if line["event"] == "operator refused"]
        # A stranger who tries again at once is told so and makes no further line.
        assert [line["act"] for line in refused] == ["list", "show", "headers", "hold", "delete", "flush", "requeue", "connect"]
        assert all(line["uid"] == "65534" for line in refused + acts)


FLOOD = """
import os, socket, sys
os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(65534)
while os.getppid() == int(sys.argv[3]):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(5)
    try:
        client.connect(sys.argv[1])
        client.recv(1)
    except OSError:
        pass
    client.close()
"""


@needs_root
@pytest.mark.parametrize("group", [NOBODY, HELPDESK])
def test_others_cannot_keep_root_out(appliance, group):
    """Strangers who connect without end, or the help desk with connections on which nothing is said."""
    import grp

    _, settings = nowhere()
    with appliance(**settings) as server:
        let_groups_ask(server)
        flood = [sys.executable, "-c", FLOOD, str(control(server)), str(grp.getgrnam(group).gr_gid), str(os.getpid())]
        floods = [subprocess.Popen(flood) for _ in range(12)]
        try:
            for _ in range(20):
                queue(server, "stats")
                queue(server, "list", group=POSTMASTER)
        finally:
            for one in floods:
                one.kill()
                one.wait(10)


def test_a_name_on_which_somebody_else_listens_is_said_at_once(appliance):
    _, settings = nowhere()
    server = appliance(**settings)
    with server:
        submit(server, "one")
    squatter = socket.socket(socket.AF_UNIX)
    squatter.bind(str(server.directory / "spool/control"))
    squatter.listen(0)
    waiting = []
    for _ in range(100):
        client = socket.socket(socket.AF_UNIX)
        client.setblocking(False)
        waiting.append(client)
        if client.connect_ex(str(server.directory / "spool/control")):
            break
    server.spawn()
    assert server.process.wait(20) == 1
    assert "listens on it already" in server.log_text() and "set control.socket to a path" in server.log_text()
    assert "nobody takes connections there" in queue(server, "list", status=1)
    squatter.close()
    server.start()
    server.stop()


@needs_root
def test_one_group_has_the_socket_to_itself(appliance):
    _, settings = nowhere()
    with appliance(**settings) as server:
        assert (server.directory / "spool/control").stat().st_mode & 0o777 == 0o660
        server.stop()
        server.settings["control"] = {"socket": control(server), "helpdesk_group": HELPDESK}
        server.write_config()
        server.start()
        assert control(server).stat().st_mode & 0o777 == 0o660 and control(server).group() == HELPDESK
        queue(server, "stats", group=HELPDESK)
        assert "Permission denied" in queue(server, "stats", group=NOBODY, status=1)
        server.stop()
        assert not control(server).exists()


def files(directory):
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in directory.rglob("*") if path.is_file()}


def test_a_stopped_spool_is_read_and_left_as_it_is(port_and_server):
    _, server = port_and_server
    one, two, gone = submit_all(server, ["one", "two", "gone"])
    deferred(server, [one, two, gone])
    queue(server, "hold", two)
    queue(server, "delete", gone)
    server.kill()
    before = files(server.directory / "spool")
    listed = rows(server, "list")
    assert set(listed) == {one, two} and listed[two]["status"] == "held"
    assert "Subject: one" in queue(server, "show", one, "--headers")
    assert "messages    2" in queue(server, "stats") and "does not run" in queue(server, "stats")
    for arguments in (["hold", one], ["delete", "--all"], ["flush"]):
        assert "takes a running server" in queue(server, *arguments, status=1)
    after = files(server.directory / "spool")
    assert after == before, "nothing was changed"
    server.start()
    assert set(rows(server, "list")) == {one, two}
    (server.directory / "spool/control").unlink()
    assert "is in use" in queue(server, "list", status=1)


def test_a_damaged_spool_is_read_and_left_as_it_is(port_and_server):
    _, server = port_and_server
    one, two = submit_all(server, ["one", "two"])
    deferred(server, [one, two])
    server.kill()
    for segment in (server.directory / "spool/segments").glob("*.seg"):
        octets = bytearray(segment.read_bytes())
        if (at := octets.find(b"Subject: one")) >= 0:
            octets[at] ^= 1
            segment.write_bytes(octets)
    before = files(server.directory / "spool")
    assert set(rows(server, "list")) == {two}
    assert "damaged" in queue(server, "list")
    assert files(server.directory / "spool") == before, "nothing was set aside"
    server.start()


@pytest.mark.slow
def test_clients_that_never_read_cost_nobody_else(port_and_server):
    port, server = port_and_server
    ids = submit_all(server, [f"m{number}" for number in range(600)])
    deferred(server, ids[-1:])
    path = str(server.directory / "spool/control")
    stuck = []
    for _ in range(7):
        client = socket.socket(socket.AF_UNIX)
        client.connect(path)
        client.sendall(b'{"do":"list","filter":{}}\n')
        stuck.append(client)
    assert len(rows(server, "list")) == 600, "the eighth is served whole"
    eighth = socket.socket(socket.AF_UNIX)
    eighth.connect(path)
    eighth.sendall(b'{"do":"list","filter":{}}\n')
    said = queue(server, "list", status=1)
    assert "too many ask at once" in said
    submit(server, "meanwhile")
    # Whoever does not read for ten seconds is dropped.
    wait_for(lambda: "messages" in subprocess.run(
        [str(server.binary), "queue", "stats", "--config", str(server.config)], capture_output=True, text=True).stdout,
        30, "they are dropped")
    for client in [*stuck, eighth]:
        client.close()


def test_two_clients_at_once(port_and_server):
    _, server = port_and_server
    ids = submit_all(server, [f"m{number}" for number in range(100)])
    deferred(server, ids[-1:])
    command = [str(server.binary), "queue"]
    to = ["--config", str(server.config)]
    jobs = [subprocess.Popen([*command, what, *some, *to], stdout=subprocess.PIPE, text=True)
            for what, some in [("hold", ids[:50]), ("delete", ids[50:]), ("list", []), ("hold", ids[:50])]]
    for job in jobs:
        job.communicate(timeout=60)
        assert job.returncode == 0
    listed = rows(server, "list")
    assert set(listed) == set(ids[:50]) and all(row["status"] == "held" for row in listed.values())


@pytest.mark.parametrize("line", [b"", b"{}\n", b"{\n", b'{"do":"delete"}\n', b"x" * 70_000, b'{"do":"hold","ids":["\xff"]}\n'])
def test_nonsense_is_refused(port_and_server, line):
    _, server = port_and_server
    one = submit(server, "one")
    deferred(server, [one])
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(20)
    client.connect(str(server.directory / "spool/control"))
    try:
        client.sendall(line)
        client.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    assert b'"error"' in client.recv(65536)
    assert rows(server, "list")[one]["status"] != "held"
