"""Redis through the clients that Nautobot uses: django-redis, with CACHES, and kombu, as Celery opens its broker."""

from __future__ import annotations

from typing import Any

from mtls_protocol import Job, Json, Refused, Session, Unable, split_address, text_of
from mtls_redis_py import RedisPy, RedisPySession, connected
from mtls_watched import Watched
from nautobot_loading import Configuration, environment, no_options, shown
from nautobot_mount import Mount


class RedisClient(RedisPy):
    """What the two Redis clients have in common."""

    def __init__(self, configuration: Configuration, mount: Mount) -> None:
        super().__init__()
        self.configuration = configuration
        self.mount = mount

    def open(self, job: Job) -> tuple[Json, Session]:
        """Connects, authenticates and sends PING."""
        request = job.connect.get("redis")
        if request is None:
            raise Unable("this client connects to Redis only")
        no_options(request, ("tls", "min_tls", "max_tls"))
        ip, port = split_address(request["endpoint"]["address"]["tcp"])
        where = {
            "NAUTOBOT_REDIS_HOST": request["endpoint"]["host"],
            "NAUTOBOT_REDIS_PORT": str(port),
            "NAUTOBOT_REDIS_PASSWORD": request.get("password") or "",
        }
        with environment(job, {**where, **request.get("env", {})}), self.mount.holding(request["files"]):
            settings = self.configuration.settings()
            url, tls = self.url_and_tls(settings)
            job.settings = shown({"scheme": url.partition(":")[0], **tls})
            # A client that is told of TLS options may make a TLS connection whatever the URL says: which, the socket shows.
            watched = Watched(job, ip, url.startswith("rediss:"))
            try:
                return connected(watched, lambda: self.connect(url, tls, settings))
            except (TypeError, ValueError) as error:
                # The settings fit no connection: redis-py finds out when it makes one.
                job.stage = "options"
                raise Refused(f"{type(error).__name__}: {text_of(error)}") from error

    def url_and_tls(self, settings: Any) -> tuple[str, Json]:
        """The URL, and the settings about TLS."""
        raise NotImplementedError

    def connect(self, url: str, tls: Json, settings: Any) -> RedisPySession:
        """Makes the connection with what `url_and_tls` gave."""
        raise NotImplementedError


class NautobotRedis(RedisClient):
    """Redis through django-redis, as Nautobot's cache and locks use it."""

    def __init__(self, configuration: Configuration, mount: Mount) -> None:
        super().__init__(configuration, mount)
        # Here, and not above: the other client has no use for it, and it takes a while.
        import django.conf
        import django_redis.pool

        self.django_redis: Any = django_redis
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
        return RedisPySession(pool, pool.disconnect)


class NautobotKombu(RedisClient):
    """Redis through kombu, as Celery's broker."""

    def __init__(self, configuration: Configuration, mount: Mount) -> None:
        super().__init__(configuration, mount)
        # As above.
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
        return RedisPySession(pool, lambda: transport.close_connection(connection))
