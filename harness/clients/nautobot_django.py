"""PostgreSQL through Django's own backend, with DATABASES."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import django
import django.conf
import django.db.utils
import psycopg2

from mtls_protocol import Job, Json, Session, Unable, split_address
from mtls_psycopg2 import Psycopg2, look, refusal
from nautobot_loading import Configuration, environment, no_options, shown
from nautobot_mount import Mount


class NautobotDjango(Psycopg2):
    """PostgreSQL through Django."""

    def __init__(self, configuration: Configuration, mount: Mount) -> None:
        self.configuration = configuration
        self.mount = mount
        django.conf.settings.configure()

    def hello(self) -> Json:
        """Versions."""
        hello = super().hello()
        return {**hello, "version": f"Django {django.__version__}, {hello['version']}"}

    def open(self, job: Job) -> tuple[Json, Session]:
        """Connects, and asks for the server's view."""
        request = job.connect.get("postgres")
        if request is None:
            raise Unable("this client connects to PostgreSQL only")
        no_options(request, ("sslmode", "sslnegotiation", "min_tls", "max_tls", "alpn", "replication"))
        address = request["endpoint"]["address"]
        if "tcp" not in address:
            raise Unable("nautobot_config.py is about connections by TCP")
        ip, port = split_address(address["tcp"])
        where = {
            "NAUTOBOT_DB_HOST": request["endpoint"]["host"],
            "NAUTOBOT_DB_PORT": str(port),
            "NAUTOBOT_DB_NAME": request["database"],
            "NAUTOBOT_DB_USER": request["user"],
            "NAUTOBOT_DB_PASSWORD": request.get("password") or "",
        }
        with environment(job, {**where, **request.get("env", {})}), self.mount.holding(request["files"]):
            databases = self.configuration.settings().DATABASES
            options = databases["default"].get("OPTIONS", {})
            job.settings = shown(options)
            databases = copy.deepcopy(databases)
            # The host's name is not looked up, as an entry in /etc/hosts would have it; and no encryption but TLS is tried.
            databases["default"]["OPTIONS"] = {**options, "hostaddr": ip, "gssencmode": "disable"}
            session = DjangoSession(databases)
            try:
                with job.phase("connect_ns"):
                    connection = session.connect()
                return look(job, connection), session
            except BaseException:
                session.close()
                raise


class DjangoSession:
    """A connection of Django, as its threads keep one between requests."""

    def __init__(self, databases: Json) -> None:
        self._connection: Any = django.db.utils.ConnectionHandler(databases)["default"]
        # Django ties it to the thread that made it; here whichever is free asks.
        self._connection.inc_thread_sharing()

    def connect(self) -> Any:
        """Connects; gives the connection of psycopg2 beneath."""
        with refusals():
            self._connection.ensure_connection()
        return self._connection.connection

    def keep(self) -> None:
        """Every statement by itself: Django's default, which the configuration may have changed."""
        with refusals():
            self._connection.rollback()
            self._connection.set_autocommit(True)

    def ask(self) -> None:
        """`SELECT 1`. Django connects anew only when a request of its own begins or ends."""
        with refusals(), self._connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchone()

    def close(self) -> None:
        """Says goodbye."""
        self._connection.close()


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """What Django repeats of psycopg2's words is a refusal. What it says by itself is none, but about how it is used."""
    try:
        yield
    except (django.db.utils.Error, psycopg2.Error) as error:
        # Django leaves the SQLSTATE out.
        cause = error.__cause__ or error
        if not isinstance(cause, psycopg2.Error):
            raise
        raise refusal(cause) from error
