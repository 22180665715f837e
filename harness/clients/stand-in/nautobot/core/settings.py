"""A stand-in for `nautobot.core.settings`, for machines without Nautobot: the stock settings about the database and Redis, no others.

The names, variables and defaults are those of Nautobot 3.1. Where the real package can be imported, it is.
"""

import os


def _redis_url(database):
    """The URL of a Redis database, from the variables that Nautobot reads."""
    secure = os.getenv("NAUTOBOT_REDIS_SSL", "false").lower() in ("true", "1", "t", "y", "yes", "on")
    scheme = os.getenv("NAUTOBOT_REDIS_SCHEME") or ("rediss" if secure else "redis")
    user, password = os.getenv("NAUTOBOT_REDIS_USERNAME", ""), os.getenv("NAUTOBOT_REDIS_PASSWORD", "")
    login = f"{user}:{password}@" if user or password else ""
    host, port = os.getenv("NAUTOBOT_REDIS_HOST", "localhost"), int(os.getenv("NAUTOBOT_REDIS_PORT", "6379"))
    return f"{scheme}://{login}{host}:{port}/{database}"


SECRET_KEY = os.getenv("NAUTOBOT_SECRET_KEY", "")

DATABASES = {
    "default": {
        "ENGINE": os.getenv("NAUTOBOT_DB_ENGINE", "django.db.backends.postgresql"),
        "NAME": os.getenv("NAUTOBOT_DB_NAME", "nautobot"),
        "USER": os.getenv("NAUTOBOT_DB_USER", ""),
        "PASSWORD": os.getenv("NAUTOBOT_DB_PASSWORD", ""),
        "HOST": os.getenv("NAUTOBOT_DB_HOST", "localhost"),
        "PORT": os.getenv("NAUTOBOT_DB_PORT", ""),
        "CONN_MAX_AGE": int(os.getenv("NAUTOBOT_DB_TIMEOUT", "300")),
    }
}

CACHES = {
    "default": {
        "BACKEND": os.getenv("NAUTOBOT_CACHES_BACKEND", "django_redis.cache.RedisCache"),
        "LOCATION": _redis_url(1),
        "TIMEOUT": int(os.getenv("NAUTOBOT_CACHES_TIMEOUT", "300")),
        "OPTIONS": {"CLIENT_CLASS": "django_redis.client.DefaultClient", "PASSWORD": ""},
    }
}

CELERY_BROKER_URL = os.getenv("NAUTOBOT_CELERY_BROKER_URL", _redis_url(0))
CELERY_BROKER_TRANSPORT_OPTIONS = {}
