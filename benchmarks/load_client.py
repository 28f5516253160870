"""A client of the chat's server for benchmarks: plain sockets, so that it costs little and can leave in the middle.

with Server(run, ["serve.streams=32"]) as server:            # the real one, in a process of its own
    client = Client(server.address)
    said = client.say("What is 2 + 2?")                      # through /api, as a browser does
    said = client.complete("What is 2 + 2?")                 # through /v1
"""

import http.client
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

START_SECONDS = 180.0
LONGEST_WAIT = 2.0
"""Seconds that a client waits before it tries again, whatever the server asks for."""


class Address(NamedTuple):
    """Where a server listens, and its token."""

    host: str
    port: int
    token: str


@dataclass(frozen=True)
class Said:
    """A reply as a client saw it."""

    text: str
    finished: bool
    """False where the stream ended without saying so, or with an error."""
    refusals: int
    """How often the server had no room, and the client tried again."""
    first_token_seconds: float | None
    """From the request that was taken to the first text."""
    seconds: float
    finish_reason: str | None = None
    completion_tokens: int | None = None


class Refused(Exception):
    """The server has no room; `wait`: seconds."""

    def __init__(self, wait: float) -> None:
        super().__init__(wait)
        self.wait = wait


class Client:
    """One person; not for several threads.

    Args:
        address: of the server.
        name: who this is.
        timeout: seconds without a byte after which a reply counts as lost.
    """

    def __init__(self, address: Address, name: str = "load", timeout: float = 60.0) -> None:
        self.address, self.timeout = address, timeout
        self._headers = {"Authorization": f"Bearer {address.token}", "X-User": name}
        self._headers["Content-Type"] = "application/json"
        self._connection = self._connect()

    def close(self) -> None:
        """Leave, whatever is going on."""
        self._connection.close()

    def get(self, path: str) -> Any:
        """What is there, as JSON; HTTPException where it is no success."""
        status, body = self._json("GET", path)
        if status != 200:
            raise http.client.HTTPException(f"{path}: {status} {body}")
        return body

    def say(self, prompt: str, **settings: Any) -> Said:
        """A new conversation of one turn, through /api."""
        status, made = self._json("POST", "/api/conversations", {})
        if status != 201:
            raise http.client.HTTPException(f"/api/conversations: {status} {made}")
        body = {"parent": None, "content": prompt, "settings": settings}
        return self._patiently(f"/api/conversations/{made['id']}/messages", body, _read_events)

    def complete(self, prompt: str, model: str = "live", **settings: Any) -> Said:
        """A reply, through /v1."""
        body = {"model": model, "messages": [{"role": "user", "content": prompt}], "stream": True}
        body |= {"stream_options": {"include_usage": True}} | settings
        return self._patiently("/v1/chat/completions", body, _read_chunks)

    def abort(self, prompt: str, after_first_token: bool) -> None:
        """Ask for a reply and leave: at once, or when it has begun."""
        body = {"model": "live", "messages": [{"role": "user", "content": prompt}], "stream": True}
        self._connection.request("POST", "/v1/chat/completions", json.dumps(body), self._headers)
        if after_first_token:
            self._connection.getresponse().read(1)
        self._connection.close()
        self._connection = self._connect()

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.address.host, self.address.port, timeout=self.timeout)

    def _json(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body)
        self._connection.request(method, path, data, self._headers)
        response = self._connection.getresponse()
        return response.status, json.loads(response.read())

    def _patiently(self, path: str, body: Mapping[str, Any], read: Any) -> Said:
        """Try until there is room."""
        refusals = 0
        while True:
            try:
                return self._stream(path, body, read, refusals)
            except Refused as refused:
                refusals += 1
                time.sleep(min(refused.wait, LONGEST_WAIT))

    def _stream(self, path: str, body: Mapping[str, Any], read: Any, refusals: int) -> Said:
        began = time.perf_counter()
        self._connection.request("POST", path, json.dumps(body), self._headers)
        response = self._connection.getresponse()
        if response.status in (429, 503):
            response.read()
            raise Refused(float(response.headers.get("Retry-After", "1")))
        if response.status != 200:
            raise http.client.HTTPException(f"{path}: {response.status} {response.read().decode()}")
        first, found = None, _Reading()
        for found in read(_data(response)):
            if found.text and first is None:
                first = time.perf_counter() - began
        if not response.isclosed():  # broken off
            self._connection.close()
        return Said(
            found.text, found.finished, refusals, first, time.perf_counter() - began, found.reason, found.tokens
        )


class _Reading(NamedTuple):
    """What was read so far."""

    text: str = ""
    finished: bool = False
    reason: str | None = None
    tokens: int | None = None


def _data(response: http.client.HTTPResponse) -> Iterator[tuple[str, str]]:
    """The events of a stream: name and data. A connection that breaks ends them."""
    name = ""
    try:
        while line := response.readline():
            field, _, value = line.decode().rstrip("\n").partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                yield name, value
                name = ""
    except (OSError, http.client.HTTPException):
        return


def _read_events(events: Iterator[tuple[str, str]]) -> Iterator[_Reading]:
    """Of /api: the text so far after each event."""
    found = _Reading()
    for name, data in events:
        body = json.loads(data)
        if name == "delta":
            found = found._replace(text=found.text + body["text"])
        elif name == "replace":
            found = found._replace(text=body["text"])
        elif name == "done":
            message = body["message"]
            found = _Reading(message["content"], True, message["finish_reason"], message["completion_tokens"])
        yield found


def _read_chunks(events: Iterator[tuple[str, str]]) -> Iterator[_Reading]:
    """Of /v1."""
    found = _Reading()
    for _, data in events:
        if data == "[DONE]":
            found = found._replace(finished=True)
            yield found
            continue
        body = json.loads(data)
        for choice in body.get("choices", []):
            found = found._replace(
                text=found.text + choice["delta"].get("content", ""), reason=choice["finish_reason"] or found.reason
            )
        if body.get("usage"):
            found = found._replace(tokens=body["usage"]["completion_tokens"])
        yield found


class Server:
    """The real server on a copy of a run folder, so that what the benchmark says and judges stays out of the run.

    Args:
        run: DIR, with what serving needs.
        config: the run's YAML file.
        settings: section.key=value, as `--set` takes them.
    """

    def __init__(self, run: Path, config: Path, settings: Sequence[str] = ()) -> None:
        self.run, self.config, self.settings = run, config, settings

    def __enter__(self) -> "Server":
        self._folder = Path(tempfile.mkdtemp(prefix="load-"))
        copy = shutil.copytree(self.run, self._folder / "run", ignore=shutil.ignore_patterns("feedback.sqlite*"))
        self.address = Address("127.0.0.1", _free_port(), secrets.token_urlsafe(16))
        command = [sys.executable, "main.py", "--phase", "serve", "--config", str(self.config), "--output", str(copy)]
        command += ["--set", f"serve.port={self.address.port}", *self.settings]
        self.log = self._folder / "log"
        with self.log.open("w") as log:
            environment = os.environ | {"RLHF_TOKEN": self.address.token}
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        self.pid = self._process.pid
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _wait(self) -> None:
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            try:
                Client(self.address).get("/health")
                return
            except (OSError, http.client.HTTPException):
                time.sleep(0.2)
        raise RuntimeError(f"the server did not start:\n{self.log.read_text()[-4000:]}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
