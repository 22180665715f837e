"""The messages of PROTOCOL.md, and what a client is here."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, Protocol

PROTOCOL = 1
TLS_VERSIONS = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
NO_CONFIGURATION = "it reads no nautobot_config.py, whose variables `env` gives"

Json = dict[str, Any]


class Session(Protocol):
    """An open session of a client."""

    def keep(self) -> None:
        """Makes it ready to be used again and again."""

    def ask(self) -> None:
        """Asks the server something small; Refused means that the session is over."""

    def close(self) -> None:
        """Closes it."""


class Client(Protocol):
    """A client library that makes connections."""

    def hello(self) -> Json:
        """The fields of DriverInfo, the name left out."""

    def open(self, job: Job) -> tuple[Json, Session]:
        """Makes one connection; gives what is known of the session, and the session."""


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


def split_address(text: str) -> tuple[str, int]:
    """`127.0.0.1:5432` or `[::1]:5432`."""
    ip, _, port = text.rpartition(":")
    return ip.strip("[]"), int(port)


def text_of(error: BaseException) -> str:
    """The client's whole message."""
    return str(error) or repr(error)
