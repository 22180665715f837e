"""The user that a client runs as, where root runs the harness: root would read every key, whoever owns it and whatever its mode."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.machinery
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

# Of <sys/prctl.h> and <linux/capability.h>.
PR_SET_PDEATHSIG, PR_GET_PDEATHSIG, PR_SET_KEEPCAPS = 1, 2, 8
CAPABILITY_VERSION = 0x20080522
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2


class User:
    """A user by numbers: UID:GID or UID:GID:GROUP,..."""

    def __init__(self, text: str) -> None:
        uid, gid, *groups = text.split(":")
        self.uid, self.gid = int(uid), int(gid)
        self.groups = [int(group) for group in ",".join(groups).split(",") if group]

    def become(self) -> None:
        """Makes this process one of that user for good. It still ends with its parent: the kernel forgets that with the user.

        Python goes on to import modules while it works. Where it lies in a place that this user can't reach (below the home directory of
        root), the right to read files stays with the process, and is in effect while a module is looked for and read, at no other time.
        """
        prctl = ctypes.CDLL(None, use_errno=True).prctl
        signal = ctypes.c_int()
        prctl(PR_GET_PDEATHSIG, ctypes.byref(signal), 0, 0, 0)
        folders = [folder for folder in sys.path if os.path.isdir(folder)]
        prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
        os.setgroups(self.groups)
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)
        if all(os.access(folder, os.R_OK | os.X_OK) for folder in folders):
            set_capabilities(0, 0)
        else:
            read_modules_with(read_capability())
        prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0)


class Header(ctypes.Structure):
    """`struct __user_cap_header_struct`"""

    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class Set(ctypes.Structure):
    """`struct __user_cap_data_struct`"""

    _fields_ = [("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32)]


def read_capability() -> int:
    """The lesser of the two rights to read all files; in a container there may be only the greater."""
    sets = (Set * 2)()
    ctypes.CDLL(None).capget(ctypes.byref(Header(CAPABILITY_VERSION, 0)), sets)
    return 1 << (CAP_DAC_READ_SEARCH if sets[0].permitted & 1 << CAP_DAC_READ_SEARCH else CAP_DAC_OVERRIDE)


def set_capabilities(permitted: int, effective: int) -> None:
    """The capabilities of this thread, and of those that it starts."""
    sets = (Set * 2)(Set(effective, permitted, 0), Set(0, 0, 0))
    if ctypes.CDLL(None, use_errno=True).capset(ctypes.byref(Header(CAPABILITY_VERSION, 0)), sets) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def read_modules_with(capability: int) -> None:
    """Python's import system looks for modules and reads them with this capability. What a module does when it runs is done without."""
    set_capabilities(capability, 0)
    importing = importlib.machinery
    finder: Any = importing.PathFinder
    finder.find_spec = staticmethod(able(capability, finder.find_spec))
    for loader, names in [
        (importing.SourceFileLoader, ("get_data", "path_stats")),
        (importing.SourcelessFileLoader, ("get_data",)),
        (importing.ExtensionFileLoader, ("create_module",)),
    ]:
        for name in names:
            setattr(loader, name, able(capability, getattr(loader, name)))


def able(capability: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with the capability in effect."""

    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        with in_effect(capability):
            return function(*args, **kwargs)

    return inner


@contextlib.contextmanager
def in_effect(capability: int) -> Iterator[None]:
    """The capability is in effect meanwhile, in this thread."""
    set_capabilities(capability, capability)
    try:
        yield
    finally:
        set_capabilities(capability, 0)
