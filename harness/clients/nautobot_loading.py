"""Loads a nautobot_config.py as Nautobot does."""

from __future__ import annotations

import builtins
import contextlib
import enum
import os
import sys
import threading
import traceback
import types
from collections.abc import Iterator
from typing import Any

from mtls_protocol import Classified, Job, Json, Unable, text_of


class Configuration:
    """A nautobot_config.py."""

    def __init__(self, path: str) -> None:
        self.path = path
        with open(path, encoding="utf-8") as file:
            self.code = compile(file.read(), path, "exec")

    def settings(self) -> types.SimpleNamespace:
        """What the file sets, run anew."""
        # Nautobot's own settings read variables, too.
        sys.modules.pop("nautobot.core.settings", None)
        scope: Json = {"__name__": "nautobot_config", "__file__": self.path, "__builtins__": builtins}
        try:
            exec(self.code, scope)
        except Exception as error:
            raise Rejected(error, self._place(error)) from error
        return types.SimpleNamespace(**{name: value for name, value in scope.items() if name.isupper()})

    def _place(self, error: BaseException) -> str | None:
        """The line of the file that the exception came through; a path of this machine says no more than the file's name."""
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == self.path]
        return f"{os.path.basename(self.path)}:{lines[-1]}" if lines else None


class Rejected(Classified):
    """The configuration file raised an exception: Nautobot would not have started."""

    def __init__(self, error: BaseException, place: str | None) -> None:
        missing = isinstance(error, FileNotFoundError)
        text = f"{type(error).__name__}: {text_of(error)}" + (f"\n(raised at {place})" if place else "")
        super().__init__({"config": "file-missing" if missing else "other"}, "options", text)


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
        # An empty list is an option, too: `alpn` that offers nothing.
        if request.get(name) not in (None, False):
            raise Unable(f"`{name}` is for the configuration file to decide: set its variables in `env`")
