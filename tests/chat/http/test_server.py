"""waitress and the application over real sockets: streams, readers who leave, and the end of the server."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPResponse

import pytest

from rlhf.chat.http.server import SPARE_THREADS, bind
from rlhf.chat.settings import ServeSection
from rlhf.errors import UserError
from tests.chat.web_world import AUTH, TOKEN, events, run_of, running, save_version

PATIENCE = 60
"""Seconds after which something that should happen soon is taken not to happen at all."""


def until(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def endless(tmp_path, tokenizer):
    """A server of two streams at a time, whose replies last for minutes and are decoded one at a time."""
    save_version(tmp_path / "sft", tokenizer, endless=True)
    serve, chat = {"port": 0, "streams": 2, "timeout_s": 600}, {"max_batch": 1}
    with running(run_of(tmp_path, serve=serve, chat=chat, guardrails={"words": False})) as made:
        yield made


LONG = {"max_tokens": 4000}


def test_open_streams_do_not_keep_others_out(tmp_path, tokenizer):
    save_version(tmp_path / "sft", tokenizer, endless=True)
    serve = {"port": 0, "streams": 6, "timeout_s": 600}
    with running(run_of(tmp_path, serve=serve, guardrails={"words": False})) as made:
        streams = [made.stream(**LONG) for _ in range(6)]  # waitress by itself has four threads
        assert made.streams == 6
        for _ in range(SPARE_THREADS):
            assert json.load(made.request("GET", "/health"))["version"] == "sft"
        assert made.streams == 6  # they were open all the time
        refused = made.stream(**LONG)
        assert refused.status == 503 and int(refused.headers["Retry-After"]) >= 1
        for stream in streams:
            stream.close()
        until(lambda: made.streams == 0)


def test_a_reader_who_leaves_in_the_middle_frees_the_place(endless):
    stream = endless.stream(**LONG)
    stream.read(400)
    stream.close()
    until(lambda: endless.streams == 0 and endless.service.engine.stats().active == 0)
    last = endless.service.store.replies()[0]
    assert last.finish_reason == "cancelled" and last.content  # what there was is kept


def test_a_reader_who_leaves_before_the_first_token_frees_the_place(endless):
    first, second = endless.stream(**LONG), endless.stream(**LONG)
    until(lambda: endless.service.engine.stats().waiting == 1)  # the batch is full: the second one has no token yet
    second.close()
    until(lambda: endless.service.engine.stats().waiting == 0)
    until(lambda: endless.streams == 1)
    assert first.read(10)
    first.close()


def test_one_reader_s_exit_leaves_the_other_one_s_reply(endless):
    talk = json.load(endless.request("POST", "/api/conversations", {}))["id"]
    said = {"parent": None, "content": "Hello", "settings": {"temperature": 0, **LONG}}

    def ask() -> tuple[HTTPResponse, str]:
        path = f"/api/conversations/{talk}/messages"
        response = endless.request("POST", path, said, **{"Idempotency-Key": "k"})
        assert response.readline() == b"event: start\n"
        return response, json.loads(response.readline().removeprefix(b"data: "))["reply_id"]

    (first, made), (second, same) = ask(), ask()
    assert made == same
    first.close()
    until(lambda: endless.streams == 1)
    assert second.read(2000) and endless.service.engine.stats().active == 1
    second.close()
    until(lambda: endless.streams == 0 and endless.service.engine.stats().active == 0)
    third, other = ask()  # the connection was lost: whoever asks again gets a whole reply
    assert other != made and third.read(2000)
    third.close()


def test_whoever_leaves_before_a_duel_begins_frees_its_places(endless):
    first, running = endless.stream(**LONG), endless.service.answering.running
    before = set(running)
    connection = HTTPConnection("127.0.0.1", endless.server.port, timeout=PATIENCE)
    connection.request("POST", "/api/duels", "{}", AUTH | {"Content-Type": "application/json"})
    until(lambda: endless.service.engine.stats().waiting == 2)  # the batch is full: no side has a token yet
    connection.close()
    until(lambda: endless.service.engine.stats().waiting == 0 and endless.streams == 1)
    assert set(running) == before  # the other reply goes on
    first.close()


def test_stop_stops_the_model(endless):
    stream = endless.stream(**LONG)
    turn = json.loads(stream.readline().removeprefix(b"data: "))["turn"]
    stream.read(100)
    assert json.load(endless.request("POST", f"/api/turns/{turn}/stop", {})) == {"stopped": True}
    name, data = events(stream.read().decode().partition("\n\n")[2])[-1]
    assert name == "done" and data["message"]["finish_reason"] == "cancelled"
    until(lambda: endless.streams == 0)


def test_what_waitress_refuses_itself_has_the_same_shape(endless):
    with socket.create_connection(("127.0.0.1", endless.server.port), timeout=PATIENCE) as raw:
        raw.sendall(b"nonsense\r\n\r\n")
        answer = b"".join(iter(lambda: raw.recv(1000), b"")).decode()
    head, _, body = answer.partition("\r\n\r\n")
    assert " 400 " in head and "application/json" in head and "Server:" not in head
    assert json.loads(body)["error"]["code"] == "bad_request"


def test_a_body_without_end_is_refused_before_it_is_read(endless):
    with socket.create_connection(("127.0.0.1", endless.server.port), timeout=PATIENCE) as raw:
        raw.sendall(
            b"POST /api/conversations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 1000000000\r\n\r\n"
        )
        assert b" 413 " in raw.recv(1000)


def test_a_request_without_a_host_is_refused(endless):
    with socket.create_connection(("127.0.0.1", endless.server.port), timeout=PATIENCE) as raw:
        raw.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        assert b" 400 " in raw.recv(1000)


def test_a_stream_is_told_that_the_server_stops(endless):
    stream = endless.stream(**LONG)
    endless.server.stop()
    name, data = events(stream.read().decode().partition("\n\n")[2])[-1]
    assert (name, data["error"]["code"]) == ("error", "stopping")


def test_a_port_in_use_and_an_address_of_nobody():
    with bind(ServeSection(port=0)) as taken:
        with pytest.raises(UserError, match="in use"):
            bind(ServeSection(port=taken.getsockname()[1]))
    with pytest.raises(UserError, match="Cannot listen"):
        bind(ServeSection(host="192.0.2.1", port=0))
    with pytest.raises(UserError, match="IPv6"):
        bind(ServeSection(host="::1", port=0))


def main(*words: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "main.py", "--phase", "serve", "--config", "configs/tiny.yaml", *words]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"} | environment,
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_phase_serves_until_it_is_told_to_stop(tmp_path, tokenizer, number):
    save_version(tmp_path / "sft", tokenizer)
    process = main("--output", str(tmp_path), "--set", "serve.port=0")
    try:
        lines = iter(process.stdout.readline, "")
        line = next(line for line in lines if line.startswith("open http://127.0.0.1:"))
        assert len(line.split("?token=")[1].split()[0]) == 43
        process.send_signal(number)
        assert process.wait(PATIENCE) == 0
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_a_token_that_was_given_is_not_printed(tmp_path, tokenizer):
    save_version(tmp_path / "sft", tokenizer)
    process = main("--output", str(tmp_path), "--set", "serve.port=0", RLHF_TOKEN=TOKEN)
    try:
        next(line for line in iter(process.stdout.readline, "") if line.startswith("open http"))
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=PATIENCE)
        assert TOKEN not in out + err
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["serve.port={port}"], "is in use"),
        (["serve.port=0"], "--phase all"),
        (["serve.port=0", "serve.host=0.0.0.0"], "no token was given"),
    ],
)
def test_what_the_phase_refuses(tmp_path, words, problem):
    with bind(ServeSection(port=0)) as taken:
        port = taken.getsockname()[1]
        process = main("--output", str(tmp_path / "empty"), "--set", *(word.format(port=port) for word in words))
        _, stderr = process.communicate(timeout=PATIENCE * 2)
    assert process.returncode == 2 and problem in stderr and "Traceback" not in stderr


def test_the_server_waits_for_whoever_wakes_it_to_stop(endless, monkeypatch):
    """`stop` says so first and then wakes the server, which may have seen it by itself meanwhile, and be gone."""
    server, woken = endless.server, []

    def late() -> None:
        time.sleep(1.5)  # longer than the server waits for anything to happen
        woken.append(pull())

    pull = server._server.pull_trigger
    monkeypatch.setattr(server._server, "pull_trigger", late)
    server.stop()
    server.stop()  # once is enough
    assert woken == [None]
