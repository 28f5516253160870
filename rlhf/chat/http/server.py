"""waitress around the application: runs until it is told to stop, then ends the streams and leaves.

    server = Server(app, bind(config.serve), config.serve)
    server.run()                                # until Ctrl-C, SIGTERM or server.stop()

waitress by itself listens on every address, takes bodies of 1 GiB, and answers four requests at a time, so that four
open streams keep everybody else out. Here every stream has a thread, and eight more are left for the rest. Reading
ahead (`channel_request_lookahead`) is what lets it notice that a client has left before anything was written to it.
"""

import errno
import json
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from flask import Flask
from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import create_server
from waitress.task import ErrorTask

from rlhf.chat.http.refusals import CODES
from rlhf.chat.settings import ServeSection
from rlhf.errors import UserError

SPARE_THREADS = 8
"""For everything but streams."""
MOST_BYTES = 1 << 20
"""Of a body that is read at all. Flask refuses from 64 kB on, and says so better."""
HEADER_BYTES = 1 << 15
CONNECTIONS = 1000
GRACE_SECONDS = 5.0
"""For streams to end and answers to be sent, once the server is told to stop."""


def bind(settings: ServeSection) -> socket.socket:
    """The socket to listen on. Taken before anything is loaded, so that a port in use is told at once.

    Raises:
        UserError: the port is in use, or the address is none of this machine's.
    """
    host, port = settings.host, settings.port
    if ":" in host:
        raise UserError(f"serve.host={host} is an IPv6 address.", expected="an IPv4 address, or a name")
    try:
        return socket.create_server((host, port), backlog=0)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"Port {port} of {host} is in use.",
                remedy=f"--set serve.port={port + 1}, or serve.port=0 for a free one; or stop what listens there",
            ) from None
        raise UserError(
            f"Cannot listen on {host}, port {port}.",
            expected="an address of this machine, and a port that you may use (from 1024 on, for most people)",
            found=error.strerror or str(error),
        ) from None


class _JsonErrorTask(ErrorTask):
    """What waitress refuses by itself (no HTTP, a body beyond all bounds), in the shape of every other error."""

    def execute(self) -> None:
        request: Any = self.request
        error = request.error
        body = {"error": {"code": CODES.get(error.code, "bad_request"), "message": error.reason}}
        self.status = f"{error.code} {error.reason}"
        self.response_headers = [("Content-Type", "application/json"), ("X-Content-Type-Options", "nosniff")]
        self.set_close_on_finish()
        data = json.dumps(body).encode()
        self.content_length = len(data)
        self.write(data)


class _Channel(HTTPChannel):
    error_task_class = _JsonErrorTask


class Server:
    """One listening socket and its threads.

    Args:
        app: as `create_app` makes it; its slots are told when the server stops.
        listener: from `bind`.
        settings: `streams` sets the number of threads.
    """

    def __init__(self, app: Flask, listener: socket.socket, settings: ServeSection) -> None:
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # it warns of every request that waits a moment
        self._sockets: dict[int, Any] = {}
        server: Any = create_server(
            app,
            map=self._sockets,
            sockets=[listener],
            threads=settings.streams + SPARE_THREADS,
            channel_request_lookahead=1,
            max_request_body_size=MOST_BYTES,
            max_request_header_size=HEADER_BYTES,
            connection_limit=CONNECTIONS,
            asyncore_use_poll=True,  # select() knows no more than 1024 files
            log_socket_errors=False,
            ident=None,
        )
        server.channel_class = _Channel
        self._server = server
        self.slots = app.extensions["slots"]
        self._asked = threading.Lock()
        self._stopping, self._woken = threading.Event(), threading.Event()
        self.host, self.port = settings.host, int(listener.getsockname()[1])

    @property
    def url(self) -> str:
        """Where a browser on this machine finds it."""
        return f"http://{'127.0.0.1' if self.host in ('0.0.0.0', '') else self.host}:{self.port}/"

    def stop(self) -> None:
        """Ask `run` to return; from any thread, and from a signal's handler."""
        if self._asked.acquire(blocking=False):  # whoever asks first
            self._stopping.set()
            self._server.pull_trigger()
            self._woken.set()

    def run(self, ready: Callable[[], object] = lambda: None) -> None:
        """Serve until Ctrl-C, SIGTERM or `stop`. `ready` is called once they would be heeded."""
        with self._signals():
            ready()
            while not self._stopping.is_set():
                self._turn()
            self._woken.wait()  # the trigger must not be closed under whoever pulls it
        self._leave()

    def _turn(self, seconds: float = 1.0) -> None:
        """Read and write what is there to be read and written."""
        wasyncore.loop(timeout=seconds, use_poll=True, map=self._sockets, count=1)

    def _leave(self) -> None:
        """Take no new connections, end the streams, send what is left."""
        wasyncore.dispatcher.close(self._server)
        self.slots.stopping.set()
        until = time.monotonic() + GRACE_SECONDS
        while self._busy() and time.monotonic() < until:
            self._turn(0.05)
        self._server.task_dispatcher.shutdown(timeout=1)
        wasyncore.close_all(self._sockets)

    def _busy(self) -> bool:
        """Whether a stream is open, or what it made is not stored yet, or something is not sent yet."""
        tasks = self._server.task_dispatcher
        return bool(self.slots.taken or tasks.queue or tasks.active_count > 0 or any(
            channel.total_outbufs_len for channel in list(self._server.active_channels.values())
        ))  # fmt: skip

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM stop the server; once it is stopping, a second one ends it at once."""
        if threading.current_thread() is not threading.main_thread():  # only the main thread is handed signals
            yield
            return

        def handle(signum: int, frame: FrameType | None) -> None:
            for number in before:
                signal.signal(number, signal.SIG_DFL)
            self.stop()

        before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            if not self._stopping.is_set():
                for number, handler in before.items():
                    signal.signal(number, handler)


def serve(app: Flask, settings: ServeSection) -> None:
    """Serve an application until Ctrl-C or SIGTERM. Raises `UserError` where it cannot listen."""
    Server(app, bind(settings), settings).run()
