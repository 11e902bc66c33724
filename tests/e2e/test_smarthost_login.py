"""A Postfix that takes mail only of whoever logs in (Dovecot checks), or shows a certificate."""

import pytest

from mail import added_fields, lf, message
from servers import Dovecot, Postfix
from wire import submit


def route(postfix, **keys):
    return {"smarthost": f"127.0.0.1:{postfix.port}", "tls": "verified", "ca_file": postfix.directory / "ca.pem", **keys}


@pytest.mark.parametrize("mechanisms, used", [
    ("plain login scram-sha-256", "SCRAM-SHA-256"), ("plain login", "PLAIN"), ("login", "LOGIN"),
])
# covers: 12.10
def test_the_best_mechanism_that_the_smarthost_offers(appliance, directory, mechanisms, used):
    password = directory / "password"
    password.write_text(f"{Dovecot.PASSWORD}\n")
    with Dovecot(directory / "dovecot", mechanisms) as dovecot:
        with Postfix(directory / "postfix", logins=dovecot.login_socket) as postfix:
            with appliance(routes=[route(postfix, username="penstock", password_file=password)]) as server:
                content = message("known")
                assert submit(server.port["submissions"], content).startswith("250 2.0.0")
                fields = added_fields(lf(content), postfix.maildir.wait(1)[0])
                log = postfix.log_text()
    received = [value for field, value in fields if field == "received"]
    assert "(Authenticated sender: penstock)" in received[0], received[0]
    assert f"sasl_method={used}, sasl_username=penstock" in log, log[-2000:]


# covers: 12.5 12.11
def test_a_wrong_password_is_our_mistake_and_costs_no_mail(appliance, directory):
    password = directory / "password"
    password.write_text("mistyped\n")
    with Dovecot(directory / "dovecot") as dovecot:
        with Postfix(directory / "postfix", logins=dovecot.login_socket) as postfix:
            with appliance(routes=[route(postfix, username="penstock", password_file=password)]) as server:
                content = message("patient")
                assert submit(server.port["submissions"], content).startswith("250 2.0.0")
                server.wait_log("it refuses our login: 535 .*look at username and password_file", times=2)
                assert "bounced" not in server.log_text() and "mistyped" not in server.log_text()
                password.write_text(f"{Dovecot.PASSWORD}\n")
                added_fields(lf(content), postfix.maildir.wait(1)[0])


# covers: 12.10
def test_a_certificate_in_place_of_a_login(appliance, directory):
    with Dovecot(directory / "dovecot") as dovecot:
        with Postfix(directory / "postfix", logins=dovecot.login_socket) as postfix:
            folder = postfix.directory
            routes = [route(postfix, certificate=folder / "certificate.pem", key=folder / "key.pem")]
            with appliance(routes=routes) as server:
                content = message("shown")
                assert submit(server.port["submissions"], content).startswith("250 2.0.0")
                added_fields(lf(content), postfix.maildir.wait(1)[0])
