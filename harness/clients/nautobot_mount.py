"""The directory where pods mount the Secret with tls.crt, tls.key and ca.crt: a real one, in a mount namespace of this process."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
from collections.abc import Iterator

from mtls_protocol import Json, Unable
from mtls_user import User

# What a request's files are called there.
MOUNTED = {"certificate": "tls.crt", "key": "tls.key", "root": "ca.crt"}

# Of <sched.h> and <sys/mount.h>.
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_BIND, MS_REC, MS_PRIVATE = 1 << 12, 1 << 14, 1 << 18


class Mount:
    """A directory that holds the files of the request that is served.

    Nobody else sees it: the process leaves the mount namespace that it shares with others, and mounts a file system of its own over the
    directory, or over the deepest folder on the way that is there. Where the kernel doesn't allow that, an empty directory that this user
    may write serves, too; a path that is no such directory makes every request one that this client is unable to serve.
    """

    def __init__(self, directory: str) -> None:
        if not os.path.isabs(directory):
            # The working directory would be the one that is given away: what is mounted over it is not what `.` leads to.
            raise ValueError(f"--mount takes an absolute path, not {directory!r}")
        self.directory = os.path.normpath(directory)
        self._unable: str | None = None
        self._error: OSError | None = None
        try:
            self._mount()
        except OSError as error:
            self._error = error

    def give_to(self, user: User) -> None:
        """The directory is this user's to fill, where it is one of its own."""
        if self._error is None:
            os.chown(self.directory, user.uid, user.gid)

    def look(self) -> None:
        """Finds out whether the directory can be filled by the user that this process is now."""
        if self._error is not None and not self._is_empty():
            self._unable = (
                f"a directory of its own can't be mounted at {self.directory} ({self._error.strerror or self._error}), and it is no empty"
                f" directory that user {os.geteuid()} may write: run as root or where user namespaces are allowed, or name such a directory"
                " that the configuration file reads (--nautobot-mount DIR)"
            )

    def _is_empty(self) -> bool:
        try:
            return not os.listdir(self.directory) and os.access(self.directory, os.W_OK)
        except OSError:
            return False

    def _mount(self) -> None:
        own_namespace()
        base = self.directory
        while not os.path.isdir(base):
            base = os.path.dirname(base)
        if base == "/":
            raise OSError(0, f"/{self.directory.split('/')[1]} is not there, and the root directory is not replaced")
        below = os.open(base, os.O_PATH | os.O_DIRECTORY)
        try:
            mount("tmpfs", base, "tmpfs", 0, "mode=0755")
            if base != self.directory:
                # Everything else in that folder stays what it was.
                for entry in os.scandir(f"/proc/self/fd/{below}"):
                    bind(entry, f"{base}/{entry.name}")
                os.makedirs(self.directory)
        finally:
            os.close(below)

    @contextlib.contextmanager
    def holding(self, files: Json) -> Iterator[None]:
        """The directory holds these files meanwhile, and nothing else. For one request at a time: a directory that is not of this process
        alone is locked, since other clients may be told of the same one."""
        if self._unable is not None:
            raise Unable(self._unable)
        directory = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY)
        links = [(files[field], f"{self.directory}/{name}") for field, name in MOUNTED.items() if files.get(field)]
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            # As a volume of Kubernetes: the names are links.
            for file, link in links:
                os.symlink(file, link)
            yield
        finally:
            for _, link in links:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(link)
            os.close(directory)


def own_namespace() -> None:
    """Leaves the mount namespace that is shared with others; by a user namespace, in which this user stays who it is, if need be."""
    try:
        unshare(CLONE_NEWNS)
    except PermissionError:
        user, group = os.geteuid(), os.getegid()
        unshare(CLONE_NEWUSER | CLONE_NEWNS)
        for name, text in [("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")]:
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
    # What is mounted from here on reaches nobody else.
    mount("none", "/", None, MS_REC | MS_PRIVATE, None)


def bind(entry: os.DirEntry[str], target: str) -> None:
    """An entry of a folder, in the folder that took its place."""
    if entry.is_symlink():
        os.symlink(os.readlink(entry.path), target)
        return
    if entry.is_dir():
        os.mkdir(target)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    mount(entry.path, target, None, MS_BIND | MS_REC, None)


def unshare(flags: int) -> None:
    """unshare(2)."""
    checked(ctypes.CDLL(None, use_errno=True).unshare(flags))


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None) -> None:
    """mount(2)."""
    texts = [None if text is None else os.fsencode(text) for text in (source, target, kind, data)]
    checked(ctypes.CDLL(None, use_errno=True).mount(texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3]))


def checked(result: int) -> None:
    """Raises what a system call left in errno."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
