"""`penstock trace`: where is my message? Through the real server, over restarts, and after it has stopped."""

import json
import os
import re
import subprocess
import time

from appliance import wait_for
from fakes import Sink
from mail import Maildir
from test_queue import HELPDESK, control, deferred, let_groups_ask, needs_root, nowhere, queue, submit, submit_all


def trace(server, what, *arguments, group=None, status=0):
    """What `penstock trace` prints."""
    to = ["--config", server.config] if group is None else ["--socket", control(server)]
    who = {} if group is None else {"user": "nobody", "group": group, "extra_groups": []}
    done = subprocess.run([str(server.binary), "trace", what, *arguments, *map(str, to)], capture_output=True, text=True,
                          timeout=60, cwd="/", **who)
    assert done.returncode == status, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def told(server, what, *parts):
    """Waits until the trace tells all of that: it is written a moment after it happened."""
    wait_for(lambda: all(part in trace(server, what) for part in parts), 15, lambda: f"not {parts}:\n{trace(server, what)}")


def test_from_acceptance_to_the_downstreams_reply(appliance):
    replies = {"RCPT TO:<bad@": "550 5.1.1 no such person", "RCPT TO:<full@": "450 4.2.1 mailbox full"}
    with Sink(replies=replies) as sink:
        routes = [{"smarthost": f"127.0.0.1:{sink.port}", "tls": "none"}]
        with appliance(routes=routes, relay={"retry_first_s": 600, "retry_max_s": 600}) as server:
            one = submit(server, "one", recipients=["Ben@example.org", "bad@example.org", "full@example.org"])
            said = [f"{one}  accepted 20", "user anna", "sender anna@example.edu", f"127.0.0.1:{sink.port} took it and said: 250 2.0.0 Ok",
                    "bad@example.org: NOT delivered; the sender was told so", "550 5.1.1 no such person",
                    "full@example.org: not delivered yet. The last answer", "450 4.2.1 mailbox full", "It is tried again in"]
            for what in (one, one.lower(), "anna", "ANNA@example.edu", "ben@example.org", "full@example.org"):
                told(server, what, *said)
            for what in ("nobody@example.org", "en@example.org", "ann", "0000000000001"):
                assert "nothing is known of it" in trace(server, what)
            queue(server, "hold", one)
            told(server, one, "full@example.org: on hold since", "held by root at")
            queue(server, "delete", one)
            told(server, one, "full@example.org: NOT delivered; root deleted it", "bad@example.org: NOT delivered; the sender was told so",
                 "ben@example.org: delivered")
            # It is kept, and not told twice, over restarts; and found where no server runs.
            server.kill()
            assert "ben@example.org: delivered" in trace(server, "ben@example.org")
            server.start()
            told(server, one, "ben@example.org: delivered")
            row = json.loads(trace(server, one, "--json").splitlines()[0])["trace"]
            assert [recipient["address"] for recipient in row["recipients"]] == ["ben@example.org", "bad@example.org", "full@example.org"]
            assert [recipient["now"] for recipient in row["recipients"]] == ["delivered", "failed", "deleted"]


def test_what_was_accepted_before_a_kill_is_known_after_it(appliance):
    _, settings = nowhere()
    with appliance(**settings) as server:
        ids = submit_all(server, [f"m{number}" for number in range(50)])
        server.kill()
        server.start()
        for one in (ids[0], ids[-1]):
            told(server, one, f"{one}  accepted 20", "ben@example.org: not delivered yet")
        wait_for(lambda: len(re.findall("accepted 20", trace(server, "anna", "--limit", "100"))) == 50, 15, "all of them")
        assert len(re.findall("accepted 20", trace(server, "anna"))) == 20
        # What is told comes from the queue, too; all of it is in the files when the server has ended.
        server.stop()
        lines = [line for file in (server.directory / "spool/traces").iterdir() for line in file.read_text().splitlines()]
        size = sum(len(line) + 1 for line in lines)
        print(f"{size / 50:.0f} octets a message in {len(lines)} lines")
        assert size > 0
        for file in (server.directory / "spool/traces").iterdir():
            assert file.stat().st_mode & 0o777 == 0o600
            # As if the last line had been written later than ten seconds after these.
            os.utime(file, (time.time() + 60, time.time() + 60))
        server.start()
        server.stop()
        after = [line for file in (server.directory / "spool/traces").iterdir() for line in file.read_text().splitlines()]
        accepted = [sum("\tA\t" in line for line in some) for some in (lines, after)]
        assert accepted[0] == accepted[1], f"told again: {accepted}"


def test_without_traces_what_is_queued_is_still_told(appliance):
    _, settings = nowhere()
    with appliance(**settings) as server:
        server.stop()
        server.settings["trace"] = {"retention_days": 0}
        server.write_config()
        server.start()
        one = submit(server, "one")
        deferred(server, [one])
        for what in (one, "anna", "anna@example.edu", "ben@example.org"):
            told(server, what, f"{one}  accepted 20", "ben@example.org: not delivered yet")
        assert not list((server.directory / "spool").glob("traces/*"))


def test_a_notification_is_traced_too(appliance, directory):
    inbox = Maildir(directory / "inbox")
    with Sink(replies={"RCPT": "550 5.1.1 no"}) as sink:
        routes = [{"domains": ["example.edu"], "maildir": inbox.path}, {"smarthost": f"127.0.0.1:{sink.port}", "tls": "none"}]
        with appliance(routes=routes) as server:
            submit(server, "one")
            inbox.wait(1)
            told(server, "anna@example.edu", "accepted", "by this server itself", "sender <>", f"{inbox.path} took it")


@needs_root
def test_the_help_desk_may_trace(appliance):
    _, settings = nowhere()
    with appliance(**settings) as server:
        server.stop()
        server.settings["control"] = {"socket": control(server), "helpdesk_group": HELPDESK}
        server.write_config()
        server.start()
        one = submit(server, "one")
        told(server, one, "accepted")
        assert one in trace(server, "ben@example.org", group=HELPDESK)
        server.wait_log('"user":"nobody","act":"trace","object":"ben@example.org"')
        assert (server.directory / "spool/traces").stat().st_mode & 0o777 == 0o700


def test_the_latest_are_those_that_came_last_on_whatever_core(appliance):
    _, settings = nowhere()
    for trace_settings in ({}, {"retention_days": 0}):
        with appliance(**settings) as server:
            server.stop()
            server.settings["trace"] = trace_settings
            server.write_config()
            server.start()
            # The kernel chooses the core of each connection.
            for number in range(12):
                one = submit(server, f"{number}")
                wait_for(lambda: one in trace(server, "anna", "--json"), 15, "never traced")
                lines = trace(server, "anna", "--limit", "1", "--json").splitlines()
                assert [json.loads(line)["trace"]["id"] for line in lines if line.startswith('{"trace"')] == [one]


def test_a_list_that_was_greylisted_name_by_name_is_told_to_its_end(appliance):
    greylists = True

    class Greylisting(Sink):
        def scripted(self, command, usual):
            is_refused = greylists and command.startswith("RCPT")
            return f"450 4.2.0 {command[8:]}: greylisted" if is_refused else usual

    count = 1000
    with Greylisting() as sink:
        routes = [{"smarthost": f"127.0.0.1:{sink.port}", "tls": "none"}]
        with appliance(routes=routes, relay={"retry_first_s": 600, "retry_max_s": 600}) as server:
            one = submit(server, "list", recipients=[f"r{number}@example.org" for number in range(count)])
            for tries in (1, 2, 3, 4):
                wait_for(lambda: attempts(server, one) == {tries}, 30, "it is not tried")
                greylists = tries < 4
                queue(server, "flush", one)
            wait_for(lambda: trace(server, one).count("delivered 20") == count, 30, lambda: trace(server, one)[:500])


def attempts(server, one):
    shown = queue(server, "show", one, "--json").splitlines()
    return {recipient["attempts"] for recipient in json.loads(shown[0])["message"]["recipients"]}


@needs_root
def test_nobodys_name_is_no_name(appliance):
    _, settings = nowhere()
    with appliance(**settings) as server:
        let_groups_ask(server)
        one = submit(server, "one", sender="")
        deferred(server, [one])
        said = trace(server, "<>", group=HELPDESK, status=2)
        assert "a trace is of a queue id, a user, or an address" in said and one not in said
