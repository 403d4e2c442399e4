"""The fixtures: an empty directory below build/, Glance's database, and the two caches on that directory."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from glance_side import OURS, Glance
from our_side import OurProcess

LIBRARY = os.environ["IMAGE_CACHE_LIBRARY"]
WORKSPACE = Path(os.environ["GLANCE_WORKSPACE"])
DRIVERS = list(OURS)


def pytest_report_teststatus(report):
    """No dots: each test has a line, which scripts/test-more.sh counts."""
    return (report.outcome if report.when == "call" or not report.passed else ""), "", ""


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report):
    if report.when != "call" and report.passed:
        return
    name = report.nodeid.rsplit("/", 1)[-1]
    why = f": {report.longrepr[2]}" if report.skipped else ""
    word = {"passed": "passed", "failed": "FAILED", "skipped": "SKIPPED"}[report.outcome]
    print(f"{word}: {name}{why}", flush=True)


@pytest.fixture
def directory():
    path = Path(tempfile.mkdtemp(prefix="cache-", dir=WORKSPACE))
    cache = path / "cache"
    cache.mkdir()
    yield cache
    shutil.rmtree(path)


def create_tables(path, url):
    """As an operator does."""
    (path / "glance.conf").write_text(f"[database]\nconnection = {url}\n")
    command = [Path(sys.executable).with_name("glance-manage"), "--config-file", path / "glance.conf", "db_sync"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="session")
def database():
    """Glance's database, with SQLite."""
    path = Path(tempfile.mkdtemp(prefix="database-", dir=WORKSPACE))
    url = f"sqlite:///{path}/glance.db"
    create_tables(path, url)
    yield url
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def postgresql():
    """Glance's database, with a PostgreSQL server of its own, which listens on no port."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not programs:
        pytest.skip("PostgreSQL is missing (Debian package postgresql)")
    # The path of a socket has at most 107 bytes.
    path = Path(tempfile.mkdtemp(prefix="glance-postgresql-"))
    # The server refuses to run as root.
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    if user:
        shutil.chown(path, "postgres")

    def run(program, *arguments):
        command = [*user, programs[-1].with_name(program), "-D", path / "data", *arguments]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=path)
        assert done.returncode == 0, done.stderr

    try:
        run("initdb", "-A", "trust", "-U", "postgres")
        run("pg_ctl", "-w", "-l", path / "log", "-o", f"-c listen_addresses= -c unix_socket_directories={path}", "start")
        try:
            url = f"postgresql+psycopg2://postgres@/postgres?host={path}"
            create_tables(path, url)
            yield url
        finally:
            run("pg_ctl", "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(path)


@pytest.fixture
def glance(directory, database):
    """Starts Glance on the directory, as the node of that name. The rows of other nodes are not its own."""

    def start(driver, **options):
        options.setdefault("node", f"http://{directory.parent.name}")
        options.setdefault("database", database)
        return Glance(driver, directory, **options)

    return start


@pytest.fixture
def ours(directory):
    """Opens the directory with this library, in a process of its own."""
    opened = []

    def start(driver, **options):
        opened.append(OurProcess(LIBRARY, directory, driver, **options))
        return opened[-1]

    yield start
    for process in opened:
        if process.process.poll() is None:
            process.kill()
