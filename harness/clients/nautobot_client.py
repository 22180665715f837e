"""Connects as Nautobot does, with the settings that a nautobot_config.py gives; PROTOCOL.md beside this file describes the lines.

    nautobot-django   Django's own PostgreSQL backend with DATABASES
    nautobot-redis    django-redis with CACHES
    nautobot-kombu    kombu, as Celery opens its broker, with CELERY_BROKER_URL and CELERY_BROKER_USE_SSL

The file is run anew for every request, with the request's `env` and the variables of the deployment that say where the server is. What the
file finds at the mount directory are the request's files: they stand for the volume that pods mount there.

Connections are made one at a time: environment variables belong to the whole process. Sessions that are open need none.
"""

from __future__ import annotations

import argparse
import os
import sys

from mtls_protocol import Client
from mtls_serving import serve
from mtls_user import User
from nautobot_loading import Configuration
from nautobot_mount import Mount

BESIDE = os.path.dirname(os.path.abspath(__file__))


def main() -> int:
    """Greets, and serves until standard input ends. With --check: only reads the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--driver", choices=["nautobot-django", "nautobot-redis", "nautobot-kombu"])
    what.add_argument("--check", action="store_true", help="only see whether the file is Python")
    parser.add_argument("--config", default=os.path.join(BESIDE, "nautobot_config.py"), help="a nautobot_config.py in place of ours")
    parser.add_argument("--mount", default="/etc/nautobot/mtls", metavar="DIR", help="where the file finds tls.crt, tls.key and ca.crt")
    parser.add_argument("--run-as", type=User, metavar="UID:GID:GROUP,...", help="the user to become once all is loaded")
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
    # Where there is no Nautobot, this is. Last, so that the real package comes first.
    sys.path.append(os.path.join(BESIDE, "stand-in"))
    mount = Mount(arguments.mount)
    served = client(arguments.driver, configuration, mount)
    if arguments.run_as is not None:
        mount.give_to(arguments.run_as)
        arguments.run_as.become()
    mount.look()
    return serve(served, arguments.driver, concurrency=1)


def client(driver: str, configuration: Configuration, mount: Mount) -> Client:
    """The client of this name. What the others need is not imported: it takes a while."""
    if driver == "nautobot-django":
        from nautobot_django import NautobotDjango

        return NautobotDjango(configuration, mount)
    from nautobot_redis import NautobotKombu, NautobotRedis

    return NautobotRedis(configuration, mount) if driver == "nautobot-redis" else NautobotKombu(configuration, mount)


if __name__ == "__main__":
    sys.exit(main())
