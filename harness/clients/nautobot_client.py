"""Connects as Nautobot does, with the settings that a nautobot_config.py gives; PROTOCOL.md beside this file describes the lines.

    nautobot-django   Django's own PostgreSQL backend with DATABASES
    nautobot-redis    django-redis with CACHES
    nautobot-kombu    kombu, as Celery opens its broker, with CELERY_BROKER_URL and CELERY_BROKER_USE_SSL

The file is run anew for every request, with the request's `env` and the variables of the deployment that say where the server is. What the
file finds at /etc/nautobot/mtls are the request's files: they stand for the volume that pods mount there. Settings are shown with the paths
that the file knows; only the connection is made with the real ones.

Connections are made one at a time: environment variables belong to the whole process. Sessions that are open need none.
"""

from __future__ import annotations

import argparse
import builtins
import contextlib
import copy
import enum
import io
import os
import pathlib
import sys
import threading
import traceback
import types
from collections.abc import Callable, Iterator
from typing import Any

import mtls_client
from mtls_client import Job, Json, Psycopg2, RedisPy, RedisPySession, Refused, Session, Unable, Watched, split_address, text_of

MOUNT = "/etc/nautobot/mtls"
# What a request's files are called there.
MOUNTED = {"certificate": "tls.crt", "key": "tls.key", "root": "ca.crt"}


class Rejected(mtls_client.Classified):
    """The configuration file raised an exception: Nautobot would not have started."""

    def __init__(self, error: BaseException, place: str | None) -> None:
        missing = isinstance(error, FileNotFoundError)
        text = f"{type(error).__name__}: {text_of(error)}" + (f"\n(raised at {place})" if place else "")
        super().__init__({"config": "file-missing" if missing else "other"}, "options", text)


class Mount:
    """The files below MOUNT, as the configuration file sees them."""

    def __init__(self, files: Json) -> None:
        self.files = {name: files[field] for field, name in MOUNTED.items() if files.get(field)}

    def real(self, path: Any) -> Any:
        """The path on this machine; that of nothing for a file that is not mounted."""
        try:
            text = os.fspath(path)
        except TypeError:
            return path
        if not isinstance(text, str):
            return path
        plain = os.path.normpath(text)
        if plain == MOUNT:
            return os.path.dirname(next(iter(self.files.values()))) if self.files else f"{MOUNT}/nothing is mounted"
        if not plain.startswith(MOUNT + "/"):
            return path
        return self.files.get(plain[len(MOUNT) + 1 :], f"{MOUNT}/nothing is mounted/{os.path.basename(plain)}")

    def in_settings(self, value: Any) -> Any:
        """A setting with every path of the mount replaced."""
        if isinstance(value, dict):
            return {key: self.in_settings(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self.in_settings(item) for item in value)
        return self.real(value) if isinstance(value, (str, pathlib.PurePath)) else value

    @contextlib.contextmanager
    def seen(self) -> Iterator[None]:
        """Python's ways to look at a file see the mount meanwhile: those that os.path and pathlib are built on."""
        patches = [(os, name) for name in ("stat", "lstat", "access", "open", "readlink")] + [(io, "open"), (builtins, "open")]
        originals = [(module, name, getattr(module, name)) for module, name in patches]
        try:
            for module, name, original in originals:
                setattr(module, name, self._mapped(original))
            yield
        finally:
            for module, name, original in originals:
                setattr(module, name, original)

    def _mapped(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def mapped(path: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return function(self.real(path), *args, **kwargs)
            except OSError as error:
                if error.filename is not None and not isinstance(path, int):
                    error.filename = os.fspath(path)
                raise

        return mapped


class Configuration:
    """A nautobot_config.py."""

    def __init__(self, path: str) -> None:
        self.path = path
        with open(path, encoding="utf-8") as file:
            self.code = compile(file.read(), path, "exec")

    def settings(self, mount: Mount) -> types.SimpleNamespace:
        """What the file sets, run anew."""
        # Nautobot's own settings read variables, too.
        sys.modules.pop("nautobot.core.settings", None)
        scope: Json = {"__name__": "nautobot_config", "__file__": self.path, "__builtins__": builtins}
        try:
            with mount.seen():
                exec(self.code, scope)  # noqa: S102
        except Exception as error:
            raise Rejected(error, self._place(error)) from error
        return types.SimpleNamespace(**{name: value for name, value in scope.items() if name.isupper()})

    def _place(self, error: BaseException) -> str | None:
        """The line of the file that the exception came through; a path of this machine says no more than the file's name."""
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == self.path]
        return f"{os.path.basename(self.path)}:{lines[-1]}" if lines else None


_turn = threading.Lock()


@contextlib.contextmanager
def environment(job: Job, variables: Json) -> Iterator[None]:
    """The process has these variables meanwhile, beside those that it was started with."""
    if not _turn.acquire(timeout=job.limit_s):
        raise RuntimeError("an earlier request, whose time is over, still waits for its server")
    before = dict(os.environ)
    try:
        os.environ.update(variables)
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        _turn.release()


def shown(settings: Json) -> dict[str, str]:
    """Settings as text; none that could hold a password."""
    return {name: as_text(value) for name, value in settings.items() if "pass" not in name.lower()}


def as_text(value: Any) -> str:
    """`CERT_NONE` and `none` are the same."""
    if isinstance(value, enum.Enum):
        return value.name.removeprefix("CERT_").lower()
    return str(value)


def no_options(request: Json, names: tuple[str, ...]) -> None:
    """Options that the configuration decides can't be asked for as well."""
    for name in names:
        if request.get(name):
            raise Unable(f"`{name}` is for the configuration file to decide: set its variables in `env`")


class NautobotDjango(Psycopg2):
    """PostgreSQL through Django."""

    def __init__(self, configuration: Configuration) -> None:
        super().__init__()
        import django
        import django.conf
        import django.db.utils

        self.version: str = django.__version__
        self.utils: Any = django.db.utils
        self.configuration = configuration
        if not django.conf.settings.configured:
            django.conf.settings.configure()

    def hello(self) -> Json:
        """Versions."""
        hello = super().hello()
        return {**hello, "version": f"Django {self.version}, {hello['version']}"}

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
        mount = Mount(request["files"])
        with environment(job, {**where, **request.get("env", {})}):
            databases = self.configuration.settings(mount).DATABASES
            options = databases["default"].get("OPTIONS", {})
            job.settings = shown(options)
            databases = copy.deepcopy(databases)
            # The host's name is not looked up, as an entry in /etc/hosts would have it; and no encryption but TLS is tried.
            databases["default"]["OPTIONS"] = {**mount.in_settings(options), "hostaddr": ip, "gssencmode": "disable"}
            session = DjangoSession(self.utils, self.module, databases)
            try:
                with job.phase("connect_ns"):
                    connection = session.connect()
                return self.look(job, connection), session
            except BaseException:
                session.close()
                raise


class DjangoSession:
    """A connection of Django, as its threads keep one between requests."""

    def __init__(self, utils: Any, module: Any, databases: Json) -> None:
        self._utils = utils
        self._module = module
        self._connection: Any = utils.ConnectionHandler(databases)["default"]
        # Django ties it to the thread that made it; here whichever is free asks.
        self._connection.inc_thread_sharing()

    def connect(self) -> Any:
        """Connects; gives the connection of psycopg2 beneath."""
        with self._refusals():
            self._connection.ensure_connection()
        return self._connection.connection

    def keep(self) -> None:
        """Every statement by itself: Django's default, which the configuration may have changed."""
        with self._refusals():
            self._connection.rollback()
            self._connection.set_autocommit(True)

    def ask(self) -> None:
        """`SELECT 1`. Django connects anew only when a request of its own begins or ends."""
        with self._refusals(), self._connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchone()

    def close(self) -> None:
        """Says goodbye."""
        self._connection.close()

    @contextlib.contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except (self._utils.Error, self._module.Error) as error:
            # Django repeats what psycopg2 says, the SQLSTATE left out. What it says by itself is no refusal, but about how it is used.
            cause = error.__cause__ or error
            if not isinstance(cause, self._module.Error):
                raise
            raise Refused(text_of(cause), getattr(cause, "pgcode", None)) from error


class RedisClient(RedisPy):
    """What the two Redis clients have in common."""

    def __init__(self, configuration: Configuration) -> None:
        super().__init__()
        self.configuration = configuration

    def open(self, job: Job) -> tuple[Json, Session]:
        """Connects, authenticates and sends PING."""
        request = job.connect.get("redis")
        if request is None:
            raise Unable("this client connects to Redis only")
        no_options(request, ("min_tls", "max_tls"))
        ip, port = split_address(request["endpoint"]["address"]["tcp"])
        where = {
            "NAUTOBOT_REDIS_HOST": request["endpoint"]["host"],
            "NAUTOBOT_REDIS_PORT": str(port),
            "NAUTOBOT_REDIS_PASSWORD": request.get("password") or "",
        }
        mount = Mount(request["files"])
        with environment(job, {**where, **request.get("env", {})}):
            settings = self.configuration.settings(mount)
            url, tls = self.url_and_tls(settings)
            job.settings = shown({"scheme": url.partition(":")[0], **tls})
            # A client that is told of TLS options may make a TLS connection whatever the URL says: which, the socket shows.
            watched = Watched(job, ip, url.startswith("rediss:"))
            try:
                return self.connected(job, watched, lambda: self.connect(url, mount.in_settings(tls), settings))
            except (TypeError, ValueError) as error:
                # The settings fit no connection: redis-py finds out when it makes one.
                job.stage = "options"
                raise Refused(f"{type(error).__name__}: {text_of(error)}") from error

    def url_and_tls(self, settings: Any) -> tuple[str, Json]:
        """The URL, and the settings about TLS."""
        raise NotImplementedError

    def connect(self, url: str, tls: Json, settings: Any) -> RedisPySession:
        """Makes the connection."""
        raise NotImplementedError


class NautobotRedis(RedisClient):
    """Redis through django-redis, as Nautobot's cache and locks use it."""

    def __init__(self, configuration: Configuration) -> None:
        super().__init__(configuration)
        import django.conf
        import django_redis
        import django_redis.pool

        self.django_redis: Any = django_redis
        if not django.conf.settings.configured:
            django.conf.settings.configure()

    def hello(self) -> Json:
        """Versions."""
        hello = super().hello()
        return {**hello, "version": f"django-redis {'.'.join(map(str, self.django_redis.VERSION))}, {hello['version']}"}

    def url_and_tls(self, settings: Any) -> tuple[str, Json]:
        """Of CACHES."""
        cache = settings.CACHES["default"]
        return cache["LOCATION"], cache.get("OPTIONS", {}).get("CONNECTION_POOL_KWARGS", {})

    def connect(self, url: str, tls: Json, settings: Any) -> RedisPySession:
        """As django_redis.client.DefaultClient does."""
        options = {**settings.CACHES["default"].get("OPTIONS", {}), "CONNECTION_POOL_KWARGS": tls}
        factory = self.django_redis.pool.get_connection_factory(options=options)
        # It keeps a pool for each URL as long as the process lives: this one is for one session.
        factory._pools = {}
        pool = factory.connect(url).connection_pool
        return self.session(pool, pool.disconnect)


class NautobotKombu(RedisClient):
    """Redis through kombu, as Celery's broker."""

    def __init__(self, configuration: Configuration) -> None:
        super().__init__(configuration)
        import kombu

        self.kombu: Any = kombu

    def hello(self) -> Json:
        """Versions."""
        hello = super().hello()
        return {**hello, "version": f"kombu {self.kombu.__version__}, {hello['version']}"}

    def url_and_tls(self, settings: Any) -> tuple[str, Json]:
        """Of the broker."""
        return settings.CELERY_BROKER_URL, getattr(settings, "CELERY_BROKER_USE_SSL", None) or {}

    def connect(self, url: str, tls: Json, settings: Any) -> RedisPySession:
        """As Celery's workers do, but once: they try again and again."""
        options = getattr(settings, "CELERY_BROKER_TRANSPORT_OPTIONS", None) or {}
        transport = self.kombu.Connection(url, ssl=tls or False, transport_options=options).transport
        # It sends a PING itself.
        connection = transport.establish_connection()
        # The channel's pool has the connection that was made just now.
        pool = transport.create_channel(connection).client.connection_pool
        return self.session(pool, lambda: transport.close_connection(connection))


CLIENTS: dict[str, Callable[[Configuration], mtls_client.Client]] = {
    "nautobot-django": NautobotDjango,
    "nautobot-redis": NautobotRedis,
    "nautobot-kombu": NautobotKombu,
}


def main() -> int:
    """Greets, and serves until standard input ends. With --check: only reads the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--driver", choices=list(CLIENTS))
    parser.add_argument("--config", required=True, help="the nautobot_config.py")
    parser.add_argument("--stand-in", required=True, help="the folder with the package that stands in for Nautobot where there is none")
    parser.add_argument("--check", action="store_true", help="only see whether the file is Python")
    arguments = parser.parse_args()
    try:
        configuration = Configuration(arguments.config)
    except SyntaxError as error:
        print(f"{error.filename}:{error.lineno}: {type(error).__name__}: {error.msg}", file=sys.stderr)
        return 2
    except (OSError, ValueError) as error:
        print(f"{arguments.config}: {error}", file=sys.stderr)
        return 2
    if arguments.check:
        return 0
    # Last, so that the real package comes first.
    sys.path.append(arguments.stand_in)
    return mtls_client.serve(CLIENTS[arguments.driver](configuration), arguments.driver, concurrency=1)


if __name__ == "__main__":
    sys.exit(main())
