"""psycopg2 and redis-py behind the harness's JSON lines; PROTOCOL.md beside this file describes them.

Needs Python 3.9, psycopg2 or redis, and the modules beside this file.
"""

from __future__ import annotations

import argparse
import sys

from mtls_protocol import Client
from mtls_serving import serve
from mtls_user import User

# Python's interpreter lock makes more threads than this wait for each other, which would show in the durations.
CONCURRENCY = 2


def main() -> int:
    """Greets, and serves until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--driver", required=True, choices=["psycopg2", "redis-py"])
    parser.add_argument("--name", required=True, help="the driver's name, as scenarios know it")
    parser.add_argument("--run-as", type=User, metavar="UID:GID:GROUP,...", help="the user to become once the libraries are loaded")
    arguments = parser.parse_args()
    served = client(arguments.driver)
    if arguments.run_as is not None:
        arguments.run_as.become()
    return serve(served, arguments.name, CONCURRENCY)


def client(driver: str) -> Client:
    """The client of this name; the other need not be installed."""
    if driver == "psycopg2":
        from mtls_psycopg2 import Psycopg2

        return Psycopg2()
    from mtls_redis_py import RedisPy

    return RedisPy()


if __name__ == "__main__":
    sys.exit(main())
