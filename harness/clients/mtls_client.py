"""psycopg2 and redis-py behind the harness's JSON lines; PROTOCOL.md beside this file describes them.

Reads requests from standard input until it ends, serves each on a thread of its own, and answers in any order.
Needs Python 3.9, and psycopg2 or redis.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, Protocol

PROTOCOL = 1
# Python's interpreter lock makes more threads than this wait for each other, which would show in the durations.
CONCURRENCY = 2
SERVER_VIEW = (
    "SELECT ssl, version, cipher, client_dn, client_serial::text, issuer_dn, current_user FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
)
SERVER_VIEW_FIELDS = ("ssl", "version", "cipher", "client_dn", "client_serial", "issuer_dn", "user")
# `ssl_cert_reqs` and `ssl_check_hostname`.
CERT_REQS = {"no-verify": ("none", False), "verify-ca": ("required", False), "verify-full": ("required", True)}
TLS_VERSIONS = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")

NO_CONFIGURATION = "it reads no nautobot_config.py, whose variables `env` gives"

Json = dict[str, Any]


class Unable(Exception):
    """The client has no way to do what is asked for."""


class Classified(Exception):
    """A refusal that the client itself names, such as `{"config": "file-missing"}`."""

    def __init__(self, refusal: Json, stage: str, text: str) -> None:
        super().__init__(text)
        self.refusal = refusal
        self.stage = stage
        self.text = text


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
        self.limit_s: float = request["limit_ms"] / 1000
        self.stage: str | None = None
        self.file: str | None = None
        self.detail: str | None = None
        self.phases: dict[str, int] = {}
        # What a configuration file has set.
        self.settings: dict[str, str] = {}
        self._answered = False
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measures a phase, and notes it once it is complete."""
        before = time.monotonic_ns()
        yield
        self.phases[name] = time.monotonic_ns() - before

    def answer(self, result: Json) -> None:
        """Writes the answer, unless the request has one already."""
        with self._lock:
            if self._answered:
                return
            self._answered = True
        write({"id": self.id, "result": result})

    def failure(self, text: str, sqlstate: str | None = None) -> Json:
        """What is known of a failure."""
        more = known(stage=self.stage, sqlstate=sqlstate, file=self.file, detail=self.detail)
        return {"text": text, **more, **self.configured(), "phases": dict(self.phases)}

    def configured(self) -> Json:
        """The settings, if there are any."""
        return {"settings": self.settings} if self.settings else {}

    def observation(self, outcome: Json) -> Json:
        """A result that needs no classifying."""
        return {"observation": {"outcome": outcome, "phases": self.phases, **self.configured()}}

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


def known(**fields: Any) -> Json:
    """The fields without what is unknown; libpq's empty strings mean that too."""
    return {name: value for name, value in fields.items() if value not in (None, "")}


def tls_version(name: str | None) -> str | None:
    """The version, if the protocol knows it."""
    return name if name in TLS_VERSIONS else None


# --- psycopg2 -------------------------------------------------------------------------------------------------------------------------


class Psycopg2:
    """psycopg2 over its libpq, connecting as applications do: blocking.

    psycopg2's other modes make the connection non-blocking, at which libpq forgets the beginning of its message
    (`connection to server at ... failed:`). The price: how far a connection had come can't be seen, so that no stage is told.
    """

    def __init__(self) -> None:
        import psycopg2
        import psycopg2.extensions

        self.module: Any = psycopg2
        self.extensions: Any = psycopg2.extensions

    def hello(self) -> Json:
        """Versions; libpq's OpenSSL is the one that psycopg2 has mapped into this process."""
        number = self.extensions.libpq_version()
        version = f"psycopg2 {self.module.__version__.split()[0]}, libpq {number // 10000}.{number % 10000}"
        tls = mapped_openssl()
        if tls:
            version += ", " + " ".join(tls.split()[:2])
        return known(service="postgres", family="libpq", libpq=number, version=version, tls_library=tls)

    def connect(self, job: Job) -> Json:
        """Connects with the options exactly as asked for, and asks for the server's view."""
        if "postgres" not in job.connect:
            raise Unable("psycopg2 connects to PostgreSQL only")
        options = self._options(job.connect["postgres"])
        try:
            with job.phase("connect_ns"):
                connection = self.module.connect(**options)
        except self.module.Error as error:
            raise Refused(text_of(error), getattr(error, "pgcode", None)) from error
        try:
            return self.look(job, connection)
        finally:
            connection.close()

    def look(self, job: Job, connection: Any) -> Json:
        """Asks for the server's view, and tells what the connection is."""
        job.stage = "query"
        try:
            with job.phase("query_ns"), connection.cursor() as cursor:
                cursor.execute(SERVER_VIEW)
                row = cursor.fetchone()
        except self.module.Error as error:
            raise Refused(text_of(error), getattr(error, "pgcode", None)) from error
        info = connection.info
        view = known(**dict(zip(SERVER_VIEW_FIELDS, row)))
        if not info.ssl_in_use:
            return {"tls": False, "server_view": view}
        return known(
            tls=True,
            version=tls_version(info.ssl_attribute("protocol")),
            cipher=info.ssl_attribute("cipher"),
            alpn=info.ssl_attribute("alpn"),
            server_view=view,
        )

    @staticmethod
    def _options(request: Json) -> Json:
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

    def __init__(self) -> None:
        import redis
        import redis.backoff
        import redis.retry

        self.module: Any = redis
        self.retry: Any = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
        watch_connect()
        watch_files()
        patched: Any = ssl.SSLContext
        patched.sslsocket_class = WatchedSocket

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
        if request.get("env"):
            raise Unable(NO_CONFIGURATION)
        ip, port = split_address(request["endpoint"]["address"]["tcp"])
        watched = Watched(job, ip, request["tls"] != "off")
        watch_thread(watched)
        client = self.module.Redis(**self._options(request, port, job.limit_s))
        try:
            with job.phase("connect_ns"):
                # Connects, and authenticates.
                connection = client.connection_pool.get_connection(*self._command_name())
            client.connection_pool.release(connection)
            with job.phase("query_ns"):
                client.ping()
        except (self.module.RedisError, OSError) as error:
            raise Refused(text_of(error)) from error
        finally:
            client.connection_pool.disconnect()
            watch_thread(None)
        return watched.session or {"tls": False}

    def _command_name(self) -> tuple[str, ...]:
        # Before redis-py 5.3 the pool wants the name of a command.
        return ("PING",) if tuple(int(part) for part in self.module.__version__.split(".")[:2]) < (5, 3) else ()

    def _options(self, request: Json, port: int, limit_s: float) -> Json:
        # The timer of `run` keeps the limit; these only end the thread some time afterwards.
        options: Json = {
            "host": request["endpoint"]["host"],
            "port": port,
            "password": request.get("password"),
            "socket_timeout": limit_s,
            "socket_connect_timeout": limit_s,
            # redis-py tries several times by default: each request here is one connection.
            "retry": self.retry,
        }
        if request["tls"] == "off":
            return options
        reqs, check_hostname = CERT_REQS[request["tls"]]
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

    def __init__(self, job: Job, ip: str, tls: bool) -> None:
        self.job = job
        self.ip = ip
        self.tls = tls
        self.session: Json | None = None

    @staticmethod
    def current() -> Watched | None:
        """The thread's own."""
        return getattr(_watched, "current", None)


_watched = threading.local()


def watch_thread(watched: Watched | None) -> None:
    """What this thread's next connection tells, or that it has none."""
    _watched.current = watched


def watch_connect() -> None:
    """Makes Python's socket module connect to the given address whatever the host name, as an entry in /etc/hosts would have it."""
    getaddrinfo = socket.getaddrinfo
    connect = socket.socket.connect

    def mapped(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        watched = Watched.current()
        return getaddrinfo(watched.ip if watched else host, port, *args, **kwargs)

    def watched_connect(self: socket.socket, address: Any) -> None:
        watched = Watched.current()
        if watched is None:
            connect(self, address)
            return
        watched.job.stage = "connect"
        with watched.job.phase("tcp_ns"):
            connect(self, address)
        # What follows is the TLS library's, or the client's first command.
        watched.job.stage = "handshake" if watched.tls else "authentication"

    patched: Any = socket
    patched.getaddrinfo = mapped
    patched.socket.connect = watched_connect


class WatchedSocket(ssl.SSLSocket):
    """A TLS socket that tells its thread's Watched what it has agreed on."""

    def do_handshake(self, block: bool = False) -> None:
        """The handshake."""
        watched = Watched.current()
        if watched is None:
            super().do_handshake(block)
            return
        with watched.job.phase("tls_ns"):
            super().do_handshake(block)
        watched.job.stage = "post-handshake"
        cipher = self.cipher()
        certificate = self.getpeercert(binary_form=True)
        watched.session = known(
            tls=True,
            version=tls_version(self.version()),
            cipher=cipher[0] if cipher else None,
            alpn=self.selected_alpn_protocol(),
            server_certificate={"sha256": hashlib.sha256(certificate).hexdigest()} if certificate else None,
        )

    def send(self, data: Any, flags: int = 0) -> int:
        """Sends; when that fails, looks for the server's alert.

        A server that refuses the certificate under TLS 1.3 may have closed the connection already: redis-py then tells only that it
        can't write, though the alert is there to be read. Which one it tells is a matter of timing.
        """
        try:
            return super().send(data, flags)
        except OSError:
            watched = Watched.current()
            if watched is not None:
                watched.job.detail = self._pending_error()
            raise

    def _pending_error(self) -> str | None:
        try:
            super().recv(1)
        except OSError as error:
            return text_of(error)
        return None


def watch_files() -> None:
    """Makes Python's ssl module tell which file it can't use: its errors don't."""
    load_cert_chain = ssl.SSLContext.load_cert_chain
    load_verify_locations = ssl.SSLContext.load_verify_locations

    def note(file: str) -> None:
        watched = Watched.current()
        if watched is not None:
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
    timer = threading.Timer(job.limit_s, job.expire)
    timer.daemon = True
    timer.start()
    try:
        seen = client.connect(job)
        job.answer(job.observation({"session": seen}))
    except Classified as refusal:
        job.answer(job.observation({"refused": {"refusal": refusal.refusal, "stage": refusal.stage, "text": refusal.text}}))
    except Refused as refused:
        job.answer({"refused": job.failure(refused.text, refused.sqlstate)})
    except Unable as unable:
        job.answer({"unable": str(unable)})
    except Exception as error:  # The harness must get an answer, and the log the traceback.
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
    return serve(client, arguments.name, CONCURRENCY)


def serve(client: Client, name: str, concurrency: int) -> int:
    """Greets under this name, and serves until standard input ends."""
    driver = {"name": name, **client.hello()}
    write({"hello": {"protocol": PROTOCOL, "driver": driver, "concurrency": concurrency}})
    running: list[tuple[threading.Thread, Job]] = []
    for line in sys.stdin.buffer:
        job = Job(json.loads(line))
        thread = threading.Thread(target=run, args=(client, job), daemon=True)
        thread.start()
        running = [pair for pair in running if pair[0].is_alive()] + [(thread, job)]
    for thread, job in running:
        # A thread that waits longer for its server than this has been answered for.
        thread.join(job.limit_s)
    return 0


if __name__ == "__main__":
    sys.exit(main())
