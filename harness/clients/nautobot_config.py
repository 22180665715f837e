"""The TLS settings of Nautobot, as the operator guide and the deploy guides describe them.

It stands for the deployment's own file, which the guides describe and don't print: `--nautobot-config FILE` puts that one in its place.
Where the guides are silent, so is this file: a mode that they don't name sets nothing.
"""

import os

from nautobot.core.settings import *  # noqa: F403

# Where the Secret with tls.crt, tls.key and ca.crt is mounted.
MTLS = "/etc/nautobot/mtls"


def mtls_file(variable, name):
    """The path in a variable, or else that of the mounted file; it must be there when Nautobot starts."""
    path = os.getenv(variable) or f"{MTLS}/{name}"
    if not os.path.isfile(path):
        raise FileNotFoundError(f"SSL certificate file required by {variable} not found: {path}")
    return path


# PostgreSQL. Nothing is set unless NAUTOBOT_DB_SSLMODE is: libpq's own defaults hold then.
DB_SSLMODE = os.getenv("NAUTOBOT_DB_SSLMODE", "")
if DB_SSLMODE in ("require", "verify-ca", "verify-full"):
    DB_OPTIONS = DATABASES["default"].setdefault("OPTIONS", {})  # noqa: F405
    DB_OPTIONS["sslmode"] = DB_SSLMODE
    if DB_SSLMODE != "require":
        DB_OPTIONS["sslcert"] = mtls_file("NAUTOBOT_DB_SSLCERT", "tls.crt")
        DB_OPTIONS["sslkey"] = mtls_file("NAUTOBOT_DB_SSLKEY", "tls.key")
        DB_OPTIONS["sslrootcert"] = mtls_file("NAUTOBOT_DB_SSLROOTCERT", "ca.crt")
    if os.getenv("NAUTOBOT_DB_SSLNEGOTIATION"):
        DB_OPTIONS["sslnegotiation"] = os.getenv("NAUTOBOT_DB_SSLNEGOTIATION")

# Redis: wherever the CA is mounted.
REDIS_CA = os.getenv("NAUTOBOT_REDIS_SSL_CA_CERTS") or f"{MTLS}/ca.crt"
if os.path.isfile(REDIS_CA):
    REDIS_TLS = {
        "ssl_cert_reqs": os.getenv("NAUTOBOT_REDIS_SSL_CERT_REQS") or "required",
        "ssl_ca_certs": REDIS_CA,
        "ssl_certfile": os.getenv("NAUTOBOT_REDIS_SSL_CERTFILE") or f"{MTLS}/tls.crt",
        "ssl_keyfile": os.getenv("NAUTOBOT_REDIS_SSL_KEYFILE") or f"{MTLS}/tls.key",
    }
    CACHES["default"]["OPTIONS"]["CONNECTION_POOL_KWARGS"] = dict(REDIS_TLS)  # noqa: F405
    CELERY_BROKER_USE_SSL = dict(REDIS_TLS)
    CELERY_REDIS_BACKEND_USE_SSL = dict(REDIS_TLS)
