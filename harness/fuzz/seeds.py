#!/usr/bin/env python3
"""Writes seeds for each fuzz target: the captures of harness/wire, and lines and texts of real programs. seeds.py CORPUS"""

import pathlib
import re
import sys

HARNESS = pathlib.Path(__file__).resolve().parent.parent
CAPTURES = HARNESS / "wire/src/captures"

# The target, and the file whose tests have its inputs in raw strings (or in plain ones: those of Redis's log).
TESTS = {
    "log_postgres": "serverlog/src/jsonlog.rs",
    "log_haproxy": "serverlog/src/haproxylog.rs",
    "driver_lines": "driver/src/protocol.rs",
}


def segments(text):
    """The sides (0 client, 1 server) and bytes of a capture."""
    parts = []
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        if line[:2] != "  ":
            parts.append(("CS".index(line[0]), bytearray()))
        parts[-1][1].extend(bytes.fromhex(line[2:]))
    return parts


def captured(name, parts):
    """The target and input of each seed, in the forms that wire::properties and the targets read."""
    redis = name.startswith("redis")
    conversation = bytes([redis])
    for side, data in parts:
        conversation += bytes([side]) + len(data).to_bytes(2, "big") + data
    yield "wire_redis" if redis else "wire_postgres", conversation
    for side in (0, 1):
        sent = b"".join(data for of, data in parts if of == side)
        # Behind what asks for TLS or grants it.
        start = max(sent.find(b"\x16\x03"), 0)
        yield "tls_records", bytes([side]) + sent[start:]
        # Behind the heads of record and message.
        yield "tls_hello", bytes([side, 200]) + sent[start + 9 : start + 600]
        if side == 1:
            yield "postgres_answer", sent


def frame(kind, data):
    """A frame of the agent's connection."""
    return bytes([kind]) + len(data).to_bytes(4, "big") + data


PEM = "-----BEGIN {0}-----\nYXBw\n-----END {0}-----\n"

WRITTEN = {
    "log_redis": [
        b"27121:M 24 Nov 2026 07:55:10.184 - Accepted 127.0.0.1:49068\n"
        b"27121:M 24 Nov 2026 07:55:10.188 # Error accepting a client connection: error:0A0000C7 (addr=127.0.0.1:49068 laddr=::1:6379)\n"
        b"27121:M 24 Nov 2026 07:55:10.353 - Accepted ::1:49128\n1:M 24 Nov 2026 07:55:09.669 * Ready to accept connections\n",
    ],
    "agent_frames": [frame(1, b"input") + frame(2, b""), frame(3, bytes([0, 0, 0, 15])) + frame(5, b"output") + frame(7, bytes(4))],
    "agent_requests": [
        b'{"token":"t","request":"survey"}',
        b'{"token":"t","request":{"follow":{"path":"/log","from":7}}}',
        b'{"token":"t","request":{"write":[{"path":"/f","contents":"YQ==","mode":384,"owner":{"uid":1,"gid":2}}]}}',
        b'{"token":"t","request":{"dial":{"server":"127.0.0.1:5432","source":null}}}',
        b'{"finish":{"limit_ms":50}}',
        b'"upstreams"',
    ],
    "driver_lines": [
        b'{"id":9,"result":{"refused":{"text":"SSL error: tlsv1 alert unknown ca","stage":"post-handshake","phases":{}}}}',
        b'{"id":9,"result":"answered"}',
    ],
    "pem_filter": [
        ("\0" + PEM.format("CERTIFICATE") + PEM.format("EC PRIVATE KEY")).encode(),
        ("\1" + PEM.format("EC PRIVATE KEY").replace("\nY", "\nProc-Type: 4,ENCRYPTED\n\nY").replace("\n", "\r\n")).encode(),
    ],
}

# The first byte of each says which client; see targets/refusals.rs.
REFUSALS = {0: "driver/src/classify/libpq.rs", 1: "driver/src/classify/redis_py.rs"}


def texts(file):
    """The raw strings of a Rust file."""
    return re.findall(r'r#"(.*?)"#', (HARNESS / file).read_text(encoding="utf-8"))


def seeds():
    """The target, a name and the input of each seed."""
    for capture in sorted(CAPTURES.glob("*.txt")):
        parts = segments(capture.read_text(encoding="utf-8"))
        for number, (target, data) in enumerate(captured(capture.stem, parts)):
            yield target, f"{capture.stem}-{number}", data
    for target, file in TESTS.items():
        for number, text in enumerate(texts(file)):
            yield target, f"test-{number}", text.encode()
    for target, inputs in WRITTEN.items():
        for number, data in enumerate(inputs):
            yield target, f"written-{number}", data
    for first, file in REFUSALS.items():
        found = re.findall(r'"((?:[^"\\\n]|\\.){20,})"', (HARNESS / file).read_text(encoding="utf-8"))
        for number, text in enumerate(found):
            message = text.replace('\\"', '"').replace("\\n", "\n")
            yield "refusals", f"text-{first}-{number}", bytes([first + 3 * (number % 5)]) + message.encode()


def main():
    corpus = pathlib.Path(sys.argv[1])
    for target, name, data in seeds():
        folder = corpus / target
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
