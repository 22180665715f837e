"""Tells which locked crates were yanked, from the copy of the registry index that cargo keeps.

Usage: yanked.py CARGO_LOCK

The copy is as old as cargo's last look at a crate: that is when it was locked or first downloaded here. Nothing is fetched.
Exit codes: 0 none is yanked; 1 some are, named on standard error; 2 nothing could be told; 3 an unreadable lock file.
"""

import json
import os
import pathlib
import re
import sys

PACKAGE = re.compile(r'\[\[package\]\]\nname = "([^"]+)"\nversion = "([^"]+)"\nsource = "registry\+')


def index_path(name):
    """Where the index keeps a crate: `1/a`, `2/ab`, `3/a/abc`, `ab/cd/abcd`."""
    if len(name) <= 2:
        return f"{len(name)}/{name}"
    if len(name) == 3:
        return f"3/{name[0]}/{name}"
    return f"{name[:2]}/{name[2:4]}/{name}"


def yanked_versions(entry):
    """The yanked versions in one file of cargo's copy: JSON objects with binary marks between them."""
    versions = set()
    for line in entry.split(b"\0"):
        if line.startswith(b"{"):
            release = json.loads(line)
            if release.get("yanked"):
                versions.add(release["vers"])
    return versions


def main():
    try:
        lock = pathlib.Path(sys.argv[1]).read_text(encoding="utf-8")
    except (IndexError, OSError) as error:
        print(f"lint: can't read the lock file: {error}", file=sys.stderr)
        return 3
    home = pathlib.Path(os.environ.get("CARGO_HOME", pathlib.Path.home() / ".cargo"))
    caches = list(home.glob("registry/index/*/.cache"))
    known, bad = 0, []
    locked = PACKAGE.findall(lock)
    for name, version in locked:
        for cache in caches:
            path = cache / index_path(name.lower())
            if path.is_file():
                known += 1
                if version in yanked_versions(path.read_bytes()):
                    bad.append(f"{name} {version}")
                break
    if bad:
        print(f"lint: yanked: {', '.join(bad)}; `cargo update` moves to versions that are not", file=sys.stderr)
        return 1
    if known == 0:
        print(f"lint: cargo keeps no copy of the index below {home}", file=sys.stderr)
        return 2
    if known < len(locked):
        print(f"lint: {len(locked) - known} of {len(locked)} locked crates are not in cargo's copy of the index", file=sys.stderr)
    return 0


sys.exit(main())
