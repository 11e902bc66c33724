"""Fixtures. A test that takes `appliance` runs under io_uring (`auto`) and once more under epoll."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from appliance import PENSTOCK, Penstock

# Both kernel interfaces; PENSTOCK_TEST_IO=epoll narrows it.
DRIVERS = os.environ.get("PENSTOCK_TEST_IO", "auto epoll").split()


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes more than ten seconds")
    config.addinivalue_line("markers", "needs_penstock: cannot run before the binary is built")


def pytest_report_header():
    return f"penstock: {PENSTOCK}; io: {' '.join(DRIVERS)}"


@pytest.fixture(params=DRIVERS)
def io(request):
    return request.param


@pytest.fixture
def directory():
    """A directory that other users (Postfix's, Dovecot's) may look into; removed when the test has passed."""
    path = Path(tempfile.mkdtemp(prefix="penstock-e2e-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def appliance(directory, io):
    """Makes servers: `with appliance(routes=[..]) as server`."""
    made = []

    def make(**settings):
        server = Penstock(directory / f"penstock-{len(made)}", **{"io": io, **settings})
        made.append(server)
        return server

    yield make
    for server in made:
        server.kill()


@pytest.fixture
def server(appliance):
    """A running server that delivers to a Maildir; stopped in order at the end."""
    with appliance() as running:
        yield running
