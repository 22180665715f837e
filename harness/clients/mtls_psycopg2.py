"""psycopg2 over its libpq."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from typing import Any

import psycopg2
import psycopg2.extensions

from mtls_protocol import NO_CONFIGURATION, Job, Json, Refused, Session, Unable, known, split_address, text_of, tls_version

SERVER_VIEW = (
    "SELECT ssl, version, cipher, client_dn, client_serial::text, issuer_dn, current_user FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
)
SERVER_VIEW_FIELDS = ("ssl", "version", "cipher", "client_dn", "client_serial", "issuer_dn", "user")


class Psycopg2:
    """psycopg2, connecting as applications do: blocking.

    Its other modes make the connection non-blocking, at which libpq forgets the beginning of its message
    (`connection to server at ... failed:`). The price: how far a connection had come can't be seen, so that no stage is told.
    """

    def hello(self) -> Json:
        """Versions; libpq's OpenSSL is the one that psycopg2 has mapped into this process."""
        number = psycopg2.extensions.libpq_version()
        version = f"psycopg2 {psycopg2.__version__.split()[0]}, libpq {number // 10000}.{number % 10000}"
        tls = mapped_openssl()
        if tls:
            version += ", " + " ".join(tls.split()[:2])
        return known(service="postgres", family="libpq", libpq=number, version=version, tls_library=tls)

    def open(self, job: Job) -> tuple[Json, Session]:
        """Connects with the options exactly as asked for, and asks for the server's view."""
        if "postgres" not in job.connect:
            raise Unable("psycopg2 connects to PostgreSQL only")
        options = libpq_options(job.connect["postgres"])
        with refusals(), job.phase("connect_ns"):
            connection = psycopg2.connect(**options)
        try:
            return look(job, connection), Psycopg2Session(connection)
        except BaseException:
            connection.close()
            raise


class Psycopg2Session:
    """A connection of psycopg2, as Django uses them: every statement by itself."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def keep(self) -> None:
        """Ends the transaction that the first query began, and begins no others."""
        with refusals():
            self._connection.rollback()
            self._connection.autocommit = True

    def ask(self) -> None:
        """`SELECT 1`."""
        with refusals(), self._connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchone()

    def close(self) -> None:
        """Says goodbye."""
        self._connection.close()


def look(job: Job, connection: Any) -> Json:
    """Asks for the server's view, and tells what this connection of psycopg2 is."""
    job.stage = "query"
    with refusals(), job.phase("query_ns"), connection.cursor() as cursor:
        cursor.execute(SERVER_VIEW)
        row = cursor.fetchone()
    view = known(**dict(zip(SERVER_VIEW_FIELDS, row)))
    info = connection.info
    if not info.ssl_in_use:
        return {"tls": False, "server_view": view}
    return known(
        tls=True,
        version=tls_version(info.ssl_attribute("protocol")),
        cipher=info.ssl_attribute("cipher"),
        alpn=info.ssl_attribute("alpn"),
        server_view=view,
    )


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """What psycopg2 raises meanwhile is a refusal."""
    try:
        yield
    except psycopg2.Error as error:
        raise refusal(error) from error


def refusal(error: psycopg2.Error) -> Refused:
    """What psycopg2 says, and SQLSTATE if the server told one."""
    return Refused(text_of(error), error.pgcode)


def libpq_options(request: Json) -> Json:
    """The options of libpq that a request asks for."""
    if request.get("env"):
        raise Unable(NO_CONFIGURATION)
    if request.get("alpn") is not None:
        raise Unable("libpq always offers the ALPN protocol `postgresql`")
    if request.get("replication"):
        raise Unable("applications open no session of streaming replication")
    address = request["endpoint"]["address"]
    if "tcp" in address:
        ip, port = split_address(address["tcp"])
        where = {"host": request["endpoint"]["host"], "hostaddr": ip, "port": port}
    else:
        where = {"host": address["unix"]["directory"], "port": address["unix"]["port"]}
    files = request["files"]
    options = {
        **where,
        "user": request["user"],
        "dbname": request["database"],
        "gssencmode": "disable",
        "application_name": "mtls-conformance",
        "password": request.get("password"),
        "sslmode": request.get("sslmode"),
        "sslnegotiation": request.get("sslnegotiation"),
        "ssl_min_protocol_version": request.get("min_tls"),
        "ssl_max_protocol_version": request.get("max_tls"),
        "sslcert": files.get("certificate"),
        "sslkey": files.get("key"),
        "sslrootcert": files.get("root"),
    }
    return {name: value for name, value in options.items() if value is not None}


def mapped_openssl() -> str | None:
    """The version text in the libcrypto that psycopg2's libpq brought into this process; Python's own `ssl` may have brought another."""
    try:
        with open("/proc/self/maps", encoding="utf-8") as maps:
            paths = {line.split()[-1] for line in maps if "libcrypto" in line}
    except OSError:
        return None
    candidates = [path for path in paths if "psycopg2" in path] or list(paths)
    if len(candidates) != 1:
        return None
    library = ctypes.CDLL(candidates[0])
    library.OpenSSL_version.restype = ctypes.c_char_p
    text = library.OpenSSL_version(0)
    return text.decode("ascii", "replace") if text else None
