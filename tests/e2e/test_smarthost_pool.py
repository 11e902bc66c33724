"""Two real smarthosts, of which one dies and comes back."""


from appliance import free_port, wait_for
from mail import message
from servers import Postfix
from wire import Wire, submit


def send(server, numbers):
    with Wire(server.port["submissions"], tls=True) as wire:
        wire.login()
        for number in numbers:
            assert wire.mail(message(f"pool-{number}")).startswith("250")
        wire.say("QUIT", "221")


def arrived(*servers):
    return [name for server in servers for name in server.maildir.files()]


# covers: 12.6 12.11
def test_a_smarthost_that_dies_costs_no_mail_and_no_time(appliance, directory):
    with Postfix(directory / "one") as one, Postfix(directory / "two") as two:
        pool = [f"127.0.0.1:{one.port} weight=2", f"127.0.0.1:{two.port}"]
        # A message that had to wait for its own retry would not arrive in time.
        with appliance(routes=[{"smarthost": pool}], relay={"retry_first_s": 2, "retry_max_s": 3600}) as server:
            for number in range(30):
                submit(server.port["submissions"], message(f"pool-{number}"))
            wait_for(lambda: len(arrived(one, two)) == 30, 30, lambda: f"{len(arrived(one, two))} of 30")
            shares = len(arrived(one)), len(arrived(two))
            assert min(shares) > 0, shares
            one.stop()
            send(server, range(30, 130))
            wait_for(lambda: len(arrived(one, two)) == 130, 30, lambda: f"{len(arrived(one, two))} of 130")
            assert len(arrived(one)) == shares[0]
            server.wait_log(f"host is down, its pool goes on without.*127.0.0.1:{one.port}")
            assert "deferred" not in server.log_text() and "destination unreachable" not in server.log_text()
            one.start()
            # The probe rides on traffic.
            number = 130
            while "host is back" not in server.log_text():
                submit(server.port["submissions"], message(f"pool-{number}"))
                number += 1
                assert number < 1000
            # What a Postfix has taken and not yet delivered stops with it.
            wait_for(lambda: len(arrived(one, two)) == number, 30, lambda: f"{len(arrived(one, two))} of {number}")
            two.stop()
            send(server, range(number, number + 20))
            wait_for(lambda: len(arrived(one, two)) == number + 20, 30, lambda: f"{len(arrived(one, two))} of {number + 20}")


def test_all_smarthosts_dead_and_one_back(appliance, directory):
    ports = [free_port(), free_port()]
    pool = [f"127.0.0.1:{port}" for port in ports]
    with appliance(routes=[{"smarthost": pool}]) as server:
        send(server, range(5))
        server.wait_log("destination unreachable, mail stays queued.*" + ", ".join(pool))
        with Postfix(directory / "two", port=ports[1]) as two:
            wait_for(lambda: len(arrived(two)) == 5, 30, lambda: f"{len(arrived(two))} of 5")
