"""What Python's own sockets tell of a connection, where the client that uses them tells too little."""

from __future__ import annotations

import hashlib
import socket
import ssl
import threading
from typing import Any

from mtls_protocol import Job, Json, known, text_of, tls_version


def install() -> None:
    """Makes the modules `socket` and `ssl` tell of every connection that a thread makes inside `with Watched(...)`."""
    watch_connect()
    watch_files()
    patched: Any = ssl.SSLContext
    patched.sslsocket_class = WatchedSocket


class Watched:
    """What is seen of the connection that this thread makes meanwhile. Whatever its host name, it goes to the given address."""

    def __init__(self, job: Job, ip: str, tls: bool) -> None:
        self.job = job
        self.ip = ip
        self.tls = tls
        # What the handshake agreed on.
        self.session: Json | None = None

    def __enter__(self) -> None:
        _thread.watched = self

    def __exit__(self, *_error: object) -> None:
        _thread.watched = None


_thread = threading.local()


def current() -> Watched | None:
    """The thread's own."""
    return getattr(_thread, "watched", None)


def watch_connect() -> None:
    """Makes Python's socket module connect to the given address whatever the host name, as an entry in /etc/hosts would have it."""
    getaddrinfo = socket.getaddrinfo
    connect = socket.socket.connect

    def mapped(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        watched = current()
        return getaddrinfo(watched.ip if watched else host, port, *args, **kwargs)

    def watched_connect(self: socket.socket, address: Any) -> None:
        watched = current()
        if watched is None:
            connect(self, address)
            return
        watched.job.stage = "connect"
        with watched.job.phase("tcp_ns"):
            connect(self, address)
        # What follows is the TLS library's, or the client's first command.
        watched.job.stage = "handshake" if watched.tls else "authentication"

    patched: Any = socket
    patched.getaddrinfo = mapped
    patched.socket.connect = watched_connect


class WatchedSocket(ssl.SSLSocket):
    """A TLS socket that tells its thread's Watched what it has agreed on."""

    def do_handshake(self, block: bool = False) -> None:
        """The handshake."""
        watched = current()
        if watched is None:
            super().do_handshake(block)
            return
        with watched.job.phase("tls_ns"):
            super().do_handshake(block)
        watched.job.stage = "post-handshake"
        cipher = self.cipher()
        certificate = self.getpeercert(binary_form=True)
        watched.session = known(
            tls=True,
            version=tls_version(self.version()),
            cipher=cipher[0] if cipher else None,
            alpn=self.selected_alpn_protocol(),
            server_certificate={"sha256": hashlib.sha256(certificate).hexdigest()} if certificate else None,
        )

    def send(self, data: Any, flags: int = 0) -> int:
        """Sends; when that fails, looks for the server's alert.

        A server that refuses the certificate under TLS 1.3 may have closed the connection already: redis-py then tells only that it
        can't write, though the alert is there to be read. Which one it tells is a matter of timing.
        """
        try:
            return super().send(data, flags)
        except OSError:
            watched = current()
            if watched is not None:
                watched.job.detail = self._pending_error()
            raise

    def _pending_error(self) -> str | None:
        try:
            super().recv(1)
        except OSError as error:
            return text_of(error)
        return None


def watch_files() -> None:
    """Makes Python's ssl module tell which file it can't use: its errors don't."""
    load_cert_chain = ssl.SSLContext.load_cert_chain
    load_verify_locations = ssl.SSLContext.load_verify_locations

    # An SSLError is an OSError.
    def cert_chain(self: ssl.SSLContext, certfile: Any, keyfile: Any = None, password: Any = None) -> None:
        try:
            load_cert_chain(self, certfile, keyfile, password)
        except OSError:
            note("key" if loads(certfile) else "certificate")
            raise

    def verify_locations(self: ssl.SSLContext, cafile: Any = None, capath: Any = None, cadata: Any = None) -> None:
        try:
            load_verify_locations(self, cafile, capath, cadata)
        except OSError:
            note("root")
            raise

    def loads(certfile: Any) -> bool:
        try:
            load_verify_locations(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), certfile)
        except OSError:
            return False
        return True

    def note(file: str) -> None:
        watched = current()
        if watched is not None:
            watched.job.file = file

    patched: Any = ssl.SSLContext
    patched.load_cert_chain = cert_chain
    patched.load_verify_locations = verify_locations
