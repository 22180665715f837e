"""Serves requests from standard input until it ends: those that come at the same time on different threads, with answers in any order."""

from __future__ import annotations

import functools
import heapq
import json
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable

from mtls_protocol import PROTOCOL, Classified, Client, Job, Refused, Session, Unable, write


def serve(client: Client, name: str, concurrency: int) -> int:
    """Greets under this name, and serves until standard input ends."""
    driver = {"name": name, **client.hello()}
    server, threads, limits = Server(client), Threads(), Limits()
    write({"hello": {"protocol": PROTOCOL, "driver": driver, "concurrency": concurrency, "sessions": True}})
    running: list[Job] = []
    for line in sys.stdin.buffer:
        job = Job(json.loads(line))
        limits.watch(job)
        threads.start(functools.partial(server.serve, job))
        running = [job for job in running if not job.finished.is_set()] + [job]
    for job in running:
        # A thread that waits longer for its server than this has been answered for.
        job.finished.wait(job.limit_s)
    server.close()
    return 0


class Server:
    """Serves requests, and keeps the sessions that they open, by the ids of those requests."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._held: dict[int, Held] = {}

    def serve(self, job: Job) -> None:
        """Serves one request."""
        try:
            if job.session is None:
                self._connect(job)
            elif job.kind == "query":
                self._query(job, job.session)
            else:
                self._close(job, job.session)
        except Classified as refusal:
            job.answer(job.observation({"refused": {"refusal": refusal.refusal, "stage": refusal.stage, "text": refusal.text}}))
        except Refused as refused:
            job.answer({"refused": job.failure(refused.text, refused.sqlstate)})
        except Unable as unable:
            job.answer({"unable": str(unable)})
        except Exception as error:  # The harness must get an answer, and the log the traceback.
            job.answer({"error": f"{type(error).__name__}: {error}"})
            raise
        finally:
            job.finished.set()

    def _connect(self, job: Job) -> None:
        seen, session = self._client.open(job)
        if job.kind == "open":
            self._held[job.id] = Held(session)
            try:
                session.keep()
            except Refused:
                self._forget(job.id)
                raise
        else:
            session.close()
        if not job.answer(job.observation({"session": seen})):
            self._forget(job.id)

    def _query(self, job: Job, number: int) -> None:
        job.stage = "query"
        held = self._find(number)
        with held.lock:
            try:
                held.session.ask()
            except Refused:
                self._forget(number)
                raise
        if not job.answer("answered"):
            # `timed-out` was answered meanwhile: that is a session's end.
            self._forget(number)

    def _close(self, job: Job, number: int) -> None:
        held = self._find(number)
        with held.lock:
            self._forget(number)
        job.answer("closed")

    def _find(self, number: int) -> Held:
        held = self._held.get(number)
        if held is None:
            raise LookupError(f"no session {number} is open here: it was never opened, is closed, or had ended")
        return held

    def _forget(self, number: int) -> None:
        held = self._held.pop(number, None)
        if held is not None:
            held.session.close()

    def close(self) -> None:
        """Closes every session that no thread uses."""
        for number, held in list(self._held.items()):
            if held.lock.acquire(blocking=False):
                self._forget(number)


class Held:
    """A session that is kept; one thread at a time uses it."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.lock = threading.Lock()


class Threads:
    """Threads for tasks: as many as there were tasks at once, since starting one for each would show in the durations.

    Unlike those of concurrent.futures, they don't keep the program from ending while one still waits for its server.
    """

    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._waiting = 0
        self._lock = threading.Lock()

    def start(self, task: Callable[[], None]) -> None:
        """Has a thread do it."""
        with self._lock:
            enough = self._waiting > 0
            self._waiting -= enough
        self._tasks.put(task)
        if not enough:
            threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while True:
            task = self._tasks.get()
            try:
                task()
            except Exception:
                traceback.print_exc()
            with self._lock:
                self._waiting += 1


class Limits:
    """Answers for requests whose time is over."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        # A heap: each with the time when its limit is over, and its id, so that two of the same time can be ordered.
        self._jobs: list[tuple[float, int, Job]] = []
        threading.Thread(target=self._watch, daemon=True).start()

    def watch(self, job: Job) -> None:
        """From now on."""
        with self._changed:
            heapq.heappush(self._jobs, (time.monotonic() + job.limit_s, job.id, job))
            if self._jobs[0][2] is job:
                self._changed.notify()

    def _watch(self) -> None:
        while True:
            with self._changed:
                while not self._jobs or self._jobs[0][0] > time.monotonic():
                    self._changed.wait(self._jobs[0][0] - time.monotonic() if self._jobs else None)
                _, _, job = heapq.heappop(self._jobs)
            job.expire()
