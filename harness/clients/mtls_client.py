"""psycopg2 and redis-py behind the harness's JSON lines; PROTOCOL.md beside this file describes them.

Reads requests from standard input until it ends, serves each on a thread of its own, and answers in any order.
Needs Python 3.9, and psycopg2 or redis.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import select
import socket
import ssl
import sys
import threading
import time
from typing import Any, Callable, Protocol

PROTOCOL = 1
# Python's interpreter lock makes more threads than this wait for each other, which would show in the durations.
CONCURRENCY = 2
SERVER_VIEW = (
    "SELECT ssl, version, cipher, client_dn, client_serial::text, issuer_dn, current_user "
    "FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
)
SERVER_VIEW_FIELDS = ("ssl", "version", "cipher", "client_dn", "client_serial", "issuer_dn", "user")
TLS_VERSIONS = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")

Json = dict[str, Any]


class Unable(Exception):
    """The client has no way to do what is asked for."""


class TimedOut(Exception):
    """The request's limit is over."""


class Refused(Exception):
    """The connection was refused: the client's own words, and SQLSTATE where it gives one."""

    def __init__(self, text: str, sqlstate: str | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.sqlstate = sqlstate


class Job:
    """One request: how far it has come, and its one answer."""

    def __init__(self, request: Json) -> None:
        self.id: int = request["id"]
        self.connect: Json = request["connect"]
        self.start_ns = time.monotonic_ns()
        self.limit_ns: int = request["limit_ms"] * 1_000_000
        self.stage = "connect"
        self.file: str | None = None
        self.phases: dict[str, int] = {}
        self._answered = False
        self._lock = threading.Lock()

    def elapsed_ns(self) -> int:
        """Time since the request was read."""
        return time.monotonic_ns() - self.start_ns

    def left_s(self) -> float:
        """Time until the limit; 0 once it is over."""
        return max(0.0, (self.limit_ns - self.elapsed_ns()) / 1e9)

    def answer(self, result: Json) -> None:
        """Writes the answer, unless the request has one already."""
        with self._lock:
            if self._answered:
                return
            self._answered = True
        write({"id": self.id, "result": result})

    def failure(self, text: str, sqlstate: str | None = None) -> Json:
        """What is known of a failure."""
        known = {"text": text, "stage": self.stage, "sqlstate": sqlstate, "file": self.file, "phases": self.phases}
        return {name: value for name, value in known.items() if value is not None}

    def expire(self) -> None:
        """The limit is over: answers for a thread that is still waiting for its server."""
        self.answer({"timed-out": self.failure("")})


class Client(Protocol):
    """What this program drives."""

    def hello(self) -> Json:
        """The fields of DriverInfo, the name left out."""

    def connect(self, job: Job) -> Json:
        """Makes one connection and gives the Session."""


_output = threading.Lock()


def write(message: Json) -> None:
    """Writes one line."""
    line = json.dumps(message, ensure_ascii=False)
    data = (line + "\n").encode("utf-8", "replace")
    with _output:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def session(**fields: Any) -> Json:
    """A Session without what is unknown; OpenSSL's empty strings mean that too."""
    return {name: value for name, value in fields.items() if value not in (None, "")}


def tls_version(name: str | None) -> str | None:
    """The version, if the protocol knows it."""
    return name if name in TLS_VERSIONS else None


# --- psycopg2 -------------------------------------------------------------------------------------------------------------------------


class Psycopg2:
    """psycopg2 over its libpq.

    Connects through psycopg2's wait callback, in which libpq's state can be seen and the limit be kept. It drives the same
    PQconnectPoll that PQconnectdb drives inside a blocking connect.
    """

    STARTED, MADE, AWAITING_RESPONSE, SSL_STARTUP = 2, 3, 4, 7

    def __init__(self) -> None:
        import psycopg2
        import psycopg2.extensions

        self.module: Any = psycopg2
        self.extensions: Any = psycopg2.extensions
        self._jobs = threading.local()
        self.extensions.set_wait_callback(self._wait)

    def hello(self) -> Json:
        """Versions; libpq's OpenSSL is the one that psycopg2 has mapped into this process."""
        number = self.extensions.libpq_version()
        version = f"psycopg2 {self.module.__version__.split()[0]}, libpq {number // 10000}.{number % 10000}"
        tls = mapped_openssl()
        if tls:
            version += ", " + " ".join(tls.split()[:2])
        return session(service="postgres", family="libpq", libpq=number, version=version, tls_library=tls)

    def connect(self, job: Job) -> Json:
        """Connects with the options exactly as asked for, and asks for the server's view."""
        if "postgres" not in job.connect:
            raise Unable("psycopg2 connects to PostgreSQL only")
        options = self._options(job.connect["postgres"])
        self._jobs.current = job
        direct = options.get("sslnegotiation") == "direct"
        self._jobs.progress = Progress(job, direct)
        try:
            connection = self.module.connect(**options)
        except self.module.ProgrammingError as error:
            # psycopg2 parses the options before libpq connects.
            job.stage = "options"
            raise Refused(text_of(error), getattr(error, "pgcode", None)) from error
        except self.module.Error as error:
            raise Refused(text_of(error), getattr(error, "pgcode", None)) from error
        job.phases["connect_ns"] = job.elapsed_ns()
        try:
            return self._look(job, connection)
        finally:
            connection.close()

    def _look(self, job: Job, connection: Any) -> Json:
        job.stage = "query"
        before = time.monotonic_ns()
        try:
            with connection.cursor() as cursor:
                cursor.execute(SERVER_VIEW)
                row = cursor.fetchone()
        except self.module.Error as error:
            raise Refused(text_of(error), getattr(error, "pgcode", None)) from error
        job.phases["query_ns"] = time.monotonic_ns() - before
        info = connection.info
        view = session(**dict(zip(SERVER_VIEW_FIELDS, row)))
        if not info.ssl_in_use:
            return session(tls=False, server_view=view)
        return session(
            tls=True,
            version=tls_version(info.ssl_attribute("protocol")),
            cipher=info.ssl_attribute("cipher"),
            alpn=info.ssl_attribute("alpn"),
            server_view=view,
        )

    @staticmethod
    def _options(request: Json) -> Json:
        if request.get("alpn") is not None:
            raise Unable("libpq always offers the ALPN protocol `postgresql`")
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

    def _wait(self, connection: Any) -> None:
        """Called by psycopg2 wherever it would block."""
        job: Job = self._jobs.current
        progress: Progress = self._jobs.progress
        extensions = self.extensions
        while True:
            state = connection.poll()
            if state == extensions.POLL_OK:
                return
            fd = connection.fileno()
            progress.step(connection.info.status, bool(connection.info.ssl_in_use), fd)
            reading = state == extensions.POLL_READ
            ready = select.select([fd] if reading else [], [] if reading else [fd], [], job.left_s())
            if not any(ready):
                raise TimedOut
            if reading:
                progress.readable(fd)


class Progress:
    """The stage of a libpq connection, as `harness/src/driver/libpq/progress.rs` tells it."""

    def __init__(self, job: Job, direct: bool) -> None:
        self.job = job
        self.direct = direct
        self.status = Psycopg2.STARTED
        self.tls = False
        self.answer = b""
        self.local: object = None

    def step(self, status: int, tls: bool, fd: int) -> None:
        """Takes in what one poll has changed."""
        if self.job.stage == "query":
            return
        local = with_socket(fd, lambda sock: sock.getsockname())
        if self.local is not None and local != self.local:
            # libpq has given the first attempt up and started another.
            self.answer = b""
        self.local = local
        self.status = status
        self.tls = tls and status != Psycopg2.SSL_STARTUP
        self.job.stage = self._stage()

    def readable(self, fd: int) -> None:
        """The socket has something to read: the answer to SSLRequest, if that is what comes next."""
        if self.status == Psycopg2.SSL_STARTUP and not self.direct and not self.answer:
            self.answer = with_socket(fd, lambda sock: sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
            self.job.stage = self._stage()

    def _stage(self) -> str:
        if self.status == Psycopg2.STARTED:
            return "connect"
        if self.status == Psycopg2.SSL_STARTUP:
            return "handshake" if self.direct or self.answer == b"S" else "ssl-request"
        if self.status in (Psycopg2.MADE, Psycopg2.AWAITING_RESPONSE) and self.tls:
            return "post-handshake"
        if self.status == Psycopg2.MADE and not self.answer:
            return "connect"
        return "authentication"


def with_socket(fd: int, look: Callable[[socket.socket], Any]) -> Any:
    """Looks at a socket that belongs to libpq."""
    sock = socket.socket(fileno=os.dup(fd))
    try:
        return look(sock)
    except OSError:
        return b""
    finally:
        sock.close()


def mapped_openssl() -> str | None:
    """The version text in the libcrypto that psycopg2's libpq brought into this process; Python's own `ssl` may have brought another."""
    try:
        with open("/proc/self/maps", encoding="utf-8") as maps:
            paths = {line.split()[-1] for line in maps if "libcrypto" in line}
    except OSError:
        return None
    wheel = [path for path in paths if "psycopg2" in path]
    candidates = wheel or sorted(paths)
    if len(candidates) != 1:
        return None
    import ctypes

    library = ctypes.CDLL(candidates[0])
    library.OpenSSL_version.restype = ctypes.c_char_p
    text = library.OpenSSL_version(0)
    return text.decode("ascii", "replace") if text else None


# --- redis-py -------------------------------------------------------------------------------------------------------------------------


class RedisPy:
    """redis-py over Python's `ssl`."""

    CERT_REQS = {"no-verify": ("none", False), "verify-ca": ("required", False), "verify-full": ("required", True)}

    def __init__(self) -> None:
        import redis
        import redis.backoff
        import redis.retry

        self.module: Any = redis
        self.retry: Any = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
        watch_tls()

    def hello(self) -> Json:
        """Versions."""
        tls = ssl.OPENSSL_VERSION
        python = ".".join(str(part) for part in sys.version_info[:3])
        version = f"redis-py {self.module.__version__}, Python {python}, {' '.join(tls.split()[:2])}"
        return {"service": "redis", "family": "redis-py", "version": version, "tls_library": tls}

    def connect(self, job: Job) -> Json:
        """Connects, authenticates and sends PING."""
        if "redis" not in job.connect:
            raise Unable("redis-py connects to Redis only")
        request = job.connect["redis"]
        watched = Watched(job, *split_address(request["endpoint"]["address"]["tcp"]))
        _watched.current = watched
        client = self.module.Redis(**self._options(request, job))
        try:
            # Connects, and authenticates.
            connection = client.connection_pool.get_connection(*self._command_name())
            job.phases["connect_ns"] = job.elapsed_ns()
            client.connection_pool.release(connection)
            job.stage = "query"
            before = time.monotonic_ns()
            client.ping()
            job.phases["query_ns"] = time.monotonic_ns() - before
        except (self.module.RedisError, OSError, ssl.SSLError) as error:
            raise Refused(text_of(error)) from error
        finally:
            client.connection_pool.disconnect()
            _watched.current = None
        return watched.session or {"tls": False}

    def _command_name(self) -> tuple[str, ...]:
        # Before redis-py 5.3 the pool wants the name of a command.
        return ("PING",) if tuple(int(part) for part in self.module.__version__.split(".")[:2]) < (5, 3) else ()

    def _options(self, request: Json, job: Job) -> Json:
        limit = max(job.left_s(), 0.001)
        options: Json = {
            "host": request["endpoint"]["host"],
            "port": split_address(request["endpoint"]["address"]["tcp"])[1],
            "password": request.get("password"),
            "socket_timeout": limit,
            "socket_connect_timeout": limit,
            # redis-py tries three times by default: each request here is one connection.
            "retry": self.retry,
            "retry_on_timeout": False,
        }
        if request["tls"] == "off":
            return options
        reqs, check_hostname = self.CERT_REQS[request["tls"]]
        files = request["files"]
        if request.get("max_tls") is not None:
            raise Unable("redis-py has an option for the lowest TLS version only")
        options.update(
            ssl=True,
            ssl_cert_reqs=reqs,
            ssl_check_hostname=check_hostname,
            ssl_ca_certs=files.get("root"),
            ssl_certfile=files.get("certificate"),
            ssl_keyfile=files.get("key"),
        )
        if request.get("min_tls") is not None:
            options["ssl_min_version"] = ssl.TLSVersion[request["min_tls"].replace(".", "_")]
        return options


class Watched:
    """What is seen of the connection that a thread makes."""

    def __init__(self, job: Job, ip: str, port: int) -> None:
        self.job = job
        self.ip = ip
        self.port = port
        self.session: Json | None = None


_watched = threading.local()


def watch_tls() -> None:
    """Makes Python's socket and ssl modules tell the thread's Watched how far they have come.

    The host name is the one that is verified, and the address is a given one, as an entry in /etc/hosts would have it.
    """
    getaddrinfo = socket.getaddrinfo

    def mapped(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        watched: Watched | None = getattr(_watched, "current", None)
        if watched is not None:
            watched.job.stage = "connect"
            host = watched.ip
        return getaddrinfo(host, port, *args, **kwargs)

    socket.getaddrinfo = mapped

    class WatchedSocket(ssl.SSLSocket):
        def do_handshake(self, block: bool = False) -> None:
            watched: Watched | None = getattr(_watched, "current", None)
            if watched is None:
                super().do_handshake(block)
                return
            watched.job.stage = "handshake"
            before = time.monotonic_ns()
            super().do_handshake(block)
            watched.job.phases["tls_ns"] = time.monotonic_ns() - before
            watched.job.stage = "post-handshake"
            cipher = self.cipher()
            certificate = self.getpeercert(binary_form=True)
            watched.session = session(
                tls=True,
                version=tls_version(self.version()),
                cipher=cipher[0] if cipher else None,
                alpn=self.selected_alpn_protocol(),
                server_certificate={"sha256": hashlib.sha256(certificate).hexdigest()} if certificate else None,
            )

    ssl.SSLContext.sslsocket_class = WatchedSocket
    watch_files()


def watch_files() -> None:
    """Makes Python's ssl module tell which file it can't use: its errors don't."""
    load_cert_chain = ssl.SSLContext.load_cert_chain
    load_verify_locations = ssl.SSLContext.load_verify_locations

    def note(file: str) -> None:
        watched: Watched | None = getattr(_watched, "current", None)
        if watched is not None:
            watched.job.stage = "options"
            watched.job.file = file

    def cert_chain(self: ssl.SSLContext, certfile: Any, keyfile: Any = None, password: Any = None) -> None:
        try:
            load_cert_chain(self, certfile, keyfile, password)
        except (OSError, ssl.SSLError):
            note("key" if loads(certfile) else "certificate")
            raise

    def verify_locations(self: ssl.SSLContext, cafile: Any = None, capath: Any = None, cadata: Any = None) -> None:
        try:
            load_verify_locations(self, cafile, capath, cadata)
        except (OSError, ssl.SSLError):
            note("root")
            raise

    def loads(certfile: Any) -> bool:
        try:
            load_verify_locations(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), certfile)
        except (OSError, ssl.SSLError):
            return False
        return True

    patched: Any = ssl.SSLContext
    patched.load_cert_chain = cert_chain
    patched.load_verify_locations = verify_locations


# --- both -----------------------------------------------------------------------------------------------------------------------------


def split_address(text: str) -> tuple[str, int]:
    """`127.0.0.1:5432` or `[::1]:5432`."""
    ip, _, port = text.rpartition(":")
    return ip.strip("[]"), int(port)


def text_of(error: BaseException) -> str:
    """The client's whole message."""
    return str(error) or repr(error)


def run(client: Client, job: Job) -> None:
    """Serves one request."""
    timer = threading.Timer(job.left_s(), job.expire)
    timer.daemon = True
    timer.start()
    try:
        seen = client.connect(job)
        job.answer({"observation": {"outcome": {"session": seen}, "phases": job.phases}})
    except Refused as refused:
        job.answer({"refused": job.failure(refused.text, refused.sqlstate)})
    except TimedOut:
        job.expire()
    except Unable as unable:
        job.answer({"unable": str(unable)})
    except Exception as error:  # noqa: BLE001: the harness must get an answer, and told what went wrong here
        job.answer({"error": f"{type(error).__name__}: {error}"})
        raise
    finally:
        timer.cancel()


def main() -> int:
    """Greets, and serves until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--driver", required=True, choices=["psycopg2", "redis-py"])
    parser.add_argument("--name", required=True, help="the driver's name, as scenarios know it")
    arguments = parser.parse_args()
    client: Client = Psycopg2() if arguments.driver == "psycopg2" else RedisPy()
    driver = {"name": arguments.name, **client.hello()}
    write({"hello": {"protocol": PROTOCOL, "driver": driver, "concurrency": CONCURRENCY}})
    for line in sys.stdin.buffer:
        job = Job(json.loads(line))
        threading.Thread(target=run, args=(client, job), daemon=True).start()
    return 0


if __name__ == "__main__":
    sys.exit(main())
