"""redis-py over Python's `ssl`."""

from __future__ import annotations

import contextlib
import ssl
import sys
from collections.abc import Callable, Iterator
from typing import Any

import redis
import redis.backoff
import redis.retry

import mtls_watched
from mtls_protocol import NO_CONFIGURATION, Job, Json, Refused, Session, Unable, split_address, text_of
from mtls_watched import Watched

# `ssl_cert_reqs` and `ssl_check_hostname`.
CERT_REQS = {"no-verify": ("none", False), "verify-ca": ("required", False), "verify-full": ("required", True)}
# Before redis-py 5.3 a pool wants the name of the command that a connection is for.
COMMAND_NAME = ("PING",) if redis.VERSION[:2] < (5, 3) else ()


class RedisPy:
    """redis-py."""

    def __init__(self) -> None:
        mtls_watched.install()

    def hello(self) -> Json:
        """Versions."""
        tls = ssl.OPENSSL_VERSION
        python = ".".join(str(part) for part in sys.version_info[:3])
        version = f"redis-py {redis.__version__}, Python {python}, {' '.join(tls.split()[:2])}"
        return {"service": "redis", "family": "redis-py", "version": version, "tls_library": tls}

    def open(self, job: Job) -> tuple[Json, Session]:
        """Connects, authenticates and sends PING."""
        if "redis" not in job.connect:
            raise Unable("redis-py connects to Redis only")
        request = job.connect["redis"]
        if request.get("env"):
            raise Unable(NO_CONFIGURATION)
        ip, port = split_address(request["endpoint"]["address"]["tcp"])
        watched = Watched(job, ip, request.get("tls") != "off")
        pool = redis.Redis(**redis_options(request, port, job.limit_s)).connection_pool
        return connected(watched, lambda: RedisPySession(pool, pool.disconnect))


class RedisPySession:
    """One connection of redis-py. Its pool would make a new one in place of one that was closed, without a word."""

    def __init__(self, pool: Any, close: Callable[[], None]) -> None:
        """Connects, and authenticates; `close` closes the connection and whatever it came from."""
        self._close = close
        try:
            self._connection = pool.get_connection(*COMMAND_NAME)
        except BaseException:
            close()
            raise

    def keep(self) -> None:
        """Nothing to do."""

    def ask(self) -> None:
        """`PING`."""
        with refusals():
            # Its health check would connect anew where its configuration lets it try again.
            self._connection.send_command("PING", check_health=False)
            self._connection.read_response()

    def close(self) -> None:
        """Closes it, and whatever its pool has."""
        self._close()


def connected(watched: Watched, connect: Callable[[], RedisPySession]) -> tuple[Json, Session]:
    """Connects, and sends PING; gives what was seen of the connection meanwhile."""
    job = watched.job
    with refusals(), watched:
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
    return watched.session or {"tls": False}, session


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """What redis-py and the sockets below it raise meanwhile is a refusal."""
    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise Refused(text_of(error)) from error


def redis_options(request: Json, port: int, limit_s: float) -> Json:
    """The arguments of `redis.Redis` that a request asks for."""
    options: Json = {
        "host": request["endpoint"]["host"],
        "port": port,
        "password": request.get("password"),
        # The answer comes when the request's limit is over; these only end the thread some time afterwards.
        "socket_timeout": limit_s,
        "socket_connect_timeout": limit_s,
        # redis-py tries several times by default: each request here is one connection.
        "retry": redis.retry.Retry(redis.backoff.NoBackoff(), 0),
    }
    if request.get("max_tls") is not None:
        raise Unable("redis-py has an option for the lowest TLS version only")
    tls = request.get("tls", "verify-full")
    if tls == "off":
        return options
    reqs, check_hostname = CERT_REQS[tls]
    files = request["files"]
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
