"""psycopg2 and redis-py behind the harness's JSON lines; PROTOCOL.md beside this file describes them.

Reads requests from standard input until it ends, serves those that come at the same time on different threads, and answers in any order.
Needs Python 3.9, and psycopg2 or redis.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import heapq
import itertools
import json
import queue
import socket
import ssl
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
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
        self.limit_s: float = request["limit_ms"] / 1000
        self.kind: str = next(kind for kind in ("connect", "open", "query", "close") if kind in request)
        # What to connect to, or the number of a session.
        self.connect: Json = request[self.kind] if self.kind in ("connect", "open") else {}
        self.session: int | None = None if self.connect else request[self.kind]
        self.stage: str | None = None
        self.file: str | None = None
        self.detail: str | None = None
        self.phases: dict[str, int] = {}
        self.finished = threading.Event()
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

    def answer(self, result: Json | str) -> bool:
        """Writes the answer, unless the request has one already, and tells whether it did."""
        with self._lock:
            if self._answered:
                return False
            self._answered = True
        write({"id": self.id, "result": result})
        return True

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


class Session(Protocol):
    """An open session of a client."""

    def keep(self) -> None:
        """Makes it ready to be used again and again."""

    def ask(self) -> None:
        """Asks the server something small; Refused means that the session is over."""

    def close(self) -> None:
        """Closes it."""


class Client(Protocol):
    """What this program drives."""

    def hello(self) -> Json:
        """The fields of DriverInfo, the name left out."""

    def open(self, job: Job) -> tuple[Json, Session]:
        """Makes one connection; gives what is known of the session, and the session."""


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

    def open(self, job: Job) -> tuple[Json, Session]:
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
            return self.look(job, connection), Psycopg2Session(self.module, connection)
        except BaseException:
            connection.close()
            raise

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


class Psycopg2Session:
    """A connection of psycopg2, as Django uses them: every statement by itself."""

    def __init__(self, module: Any, connection: Any) -> None:
        self._module = module
        self._connection = connection

    def keep(self) -> None:
        """Ends the transaction that the first query began, and begins no others."""
        try:
            self._connection.rollback()
            self._connection.autocommit = True
        except self._module.Error as error:
            raise Refused(text_of(error), getattr(error, "pgcode", None)) from error

    def ask(self) -> None:
        """`SELECT 1`."""
        try:
            with self._connection.cursor() as cursor:
                cursor.execute("SELECT 1")
                cursor.fetchone()
        except self._module.Error as error:
            raise Refused(text_of(error), getattr(error, "pgcode", None)) from error

    def close(self) -> None:
        """Says goodbye."""
        self._connection.close()


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

    def open(self, job: Job) -> tuple[Json, Session]:
        """Connects, authenticates and sends PING."""
        if "redis" not in job.connect:
            raise Unable("redis-py connects to Redis only")
        request = job.connect["redis"]
        if request.get("env"):
            raise Unable(NO_CONFIGURATION)
        ip, port = split_address(request["endpoint"]["address"]["tcp"])
        watched = Watched(job, ip, request["tls"] != "off")
        pool = self.module.Redis(**self._options(request, port, job.limit_s)).connection_pool
        return self.connected(job, watched, lambda: self.session(pool, pool.disconnect))

    def session(self, pool: Any, close: Callable[[], None]) -> RedisPySession:
        """One connection of the pool, authenticated; `close` closes it and whatever it came from."""
        try:
            return RedisPySession(self.module, pool.get_connection(*self._command_name()), close)
        except BaseException:
            close()
            raise

    def connected(self, job: Job, watched: Watched, connect: Callable[[], RedisPySession]) -> tuple[Json, Session]:
        """Connects, and sends PING; gives what was seen of the connection meanwhile."""
        watch_thread(watched)
        try:
            with job.phase("connect_ns"):
                session = connect()
            # The server has answered by now: to AUTH, or to redis-py's CLIENT SETINFO.
            job.stage = "query"
            try:
                with job.phase("query_ns"):
                    session.ask()
            except BaseException:
                session.close()
                raise
        except (self.module.RedisError, OSError) as error:
            raise Refused(text_of(error)) from error
        finally:
            watch_thread(None)
        return watched.session or {"tls": False}, session

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


class RedisPySession:
    """One connection of redis-py. Its pool would make a new one in place of one that was closed, without a word."""

    def __init__(self, module: Any, connection: Any, close: Callable[[], None]) -> None:
        self._module = module
        self._connection = connection
        self._close = close

    def keep(self) -> None:
        """Nothing to do."""

    def ask(self) -> None:
        """`PING`."""
        try:
            # Its health check would connect anew where its configuration lets it try again.
            self._connection.send_command("PING", check_health=False)
            self._connection.read_response()
        except (self._module.RedisError, OSError) as error:
            raise Refused(text_of(error)) from error

    def close(self) -> None:
        """Closes it, and whatever its pool has."""
        self._close()


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


class Held:
    """A session that is kept; one thread at a time uses it."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.lock = threading.Lock()


class Server:
    """Serves requests, and keeps the sessions that they open, by the ids of those requests."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._held: dict[int, Held] = {}

    def serve(self, job: Job) -> None:
        """Serves one request."""
        try:
            if job.session is None:
                self._connect(job)
            elif job.kind == "query":
                self._query(job, job.session)
            else:
                self._close(job, job.session)
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
            job.finished.set()

    def _connect(self, job: Job) -> None:
        seen, session = self._client.open(job)
        if job.kind == "open":
            self._held[job.id] = Held(session)
            try:
                session.keep()
            except Refused:
                self._forget(job.id)
                raise
        else:
            session.close()
        if not job.answer(job.observation({"session": seen})):
            self._forget(job.id)

    def _query(self, job: Job, number: int) -> None:
        job.stage = "query"
        held = self._held.get(number)
        if held is None:
            raise LookupError(f"no session {number} is open here: it was never opened, is closed, or had ended")
        with held.lock:
            try:
                held.session.ask()
            except Refused:
                self._forget(number)
                raise
        if not job.answer("answered"):
            # `timed-out` was answered meanwhile: that is a session's end.
            self._forget(number)

    def _close(self, job: Job, number: int) -> None:
        held = self._held.get(number)
        if held is None:
            raise LookupError(f"no session {number} is open here: it was never opened, is closed, or had ended")
        with held.lock:
            self._forget(number)
        job.answer("closed")

    def _forget(self, number: int) -> None:
        held = self._held.pop(number, None)
        if held is not None:
            held.session.close()

    def close(self) -> None:
        """Closes every session that no thread uses."""
        for number, held in list(self._held.items()):
            if held.lock.acquire(blocking=False):
                self._forget(number)


class Threads:
    """Threads for tasks: as many as there were tasks at once, since starting one for each would show in the durations."""

    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._waiting = 0
        self._lock = threading.Lock()

    def start(self, task: Callable[[], None]) -> None:
        """Has a thread do it."""
        with self._lock:
            enough = self._waiting > 0
            self._waiting -= enough
        self._tasks.put(task)
        if not enough:
            threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while True:
            task = self._tasks.get()
            try:
                task()
            except Exception:
                traceback.print_exc()
            with self._lock:
                self._waiting += 1


class Limits:
    """Answers for requests whose time is over."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._jobs: list[tuple[float, int, Job]] = []
        self._numbers = itertools.count()
        threading.Thread(target=self._watch, daemon=True).start()

    def watch(self, job: Job) -> None:
        """From now on."""
        with self._changed:
            heapq.heappush(self._jobs, (time.monotonic() + job.limit_s, next(self._numbers), job))
            if self._jobs[0][2] is job:
                self._changed.notify()

    def _watch(self) -> None:
        while True:
            with self._changed:
                while not self._jobs or self._jobs[0][0] > time.monotonic():
                    self._changed.wait(self._jobs[0][0] - time.monotonic() if self._jobs else None)
                _, _, job = heapq.heappop(self._jobs)
            job.expire()


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
    server, threads, limits = Server(client), Threads(), Limits()
    write({"hello": {"protocol": PROTOCOL, "driver": driver, "concurrency": concurrency, "sessions": True}})
    running: list[Job] = []
    for line in sys.stdin.buffer:
        job = Job(json.loads(line))
        limits.watch(job)
        threads.start(functools.partial(server.serve, job))
        running = [job for job in running if not job.finished.is_set()] + [job]
    for job in running:
        # A thread that waits longer for its server than this has been answered for.
        job.finished.wait(job.limit_s)
    server.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
