"""A real server's parts on a random model that answers within milliseconds, or, for streams that last, never stops."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any, NamedTuple

import torch
from flask.testing import FlaskClient

from rlhf.chat.http.server import Server, bind
from rlhf.chat.service import ChatService
from rlhf.chat.web import create_app
from rlhf.config import Shape
from rlhf.models import from_scratch
from rlhf.phases.serve import service
from rlhf.run import Run
from tests.conftest import small_config
from tests.phases.helpers import ListData

TOKEN = "the-token"
AUTH = {"Authorization": f"Bearer {TOKEN}"}
CONTEXT = 4096


def save_version(folder: Path, tokenizer: Any, *, endless: bool = False) -> None:
    """A version that replies at random.

    Args:
        endless: it says letters, in which Markdown sees nothing, and never ends a reply by itself.
    """
    torch.manual_seed(0)
    shape = Shape(hidden_size=32, num_layers=2, num_heads=2, window_size=8, max_position_embeddings=CONTEXT)
    model = from_scratch(shape, tokenizer)
    with torch.no_grad():
        model.transformer.wte.weight.mul_(10)
        if endless:
            ends = tokenizer.all_special_ids
            letters = [tokenizer.decode([i]).isalpha() and i not in ends for i in range(len(tokenizer))]
            model.transformer.wte.weight[:, -1] = torch.where(torch.tensor(letters), 0.0, -5.0)
            model.transformer.ln_f.weight[-1], model.transformer.ln_f.bias[-1] = 0.0, 10.0  # -50 for all but letters
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def run_of(folder: Path, **sections: Any) -> Run:
    """A run whose version `sft` has been saved."""
    return Run(small_config(**sections), folder, ListData(), arguments=f"--output {folder}")


class Client(NamedTuple):
    """The application without a socket."""

    http: FlaskClient
    service: ChatService

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """As a program that knows the token."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.open(path, method=method, json=body, headers=AUTH | given)

    def open(self) -> str:
        """A new conversation."""
        return self.call("POST", "/api/conversations", {}).json["id"]

    def say(self, conversation: str, content: str, **body: Any) -> list[tuple[str, Any]]:
        """The events of a reply."""
        path = f"/api/conversations/{conversation}/messages"
        with self.call("POST", path, {"parent": None, "content": content, **body}) as response:
            assert response.status_code == 200, response.text
            return events(response.text)


@contextmanager
def client_of(run: Run) -> Iterator[Client]:
    with service(run) as chat:
        yield Client(create_app(chat, run.config, TOKEN).test_client(), chat)


class Running(NamedTuple):
    """A server on a free port."""

    server: Server
    service: ChatService

    @property
    def streams(self) -> int:
        return self.server.slots.taken

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> HTTPResponse:
        connection = HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        data = None if body is None else json.dumps(body)
        connection.request(method, path, data, AUTH | {"Content-Type": "application/json"} | headers)
        return connection.getresponse()

    def stream(self, **settings: Any) -> HTTPResponse:
        """A reply that has begun to be sent: its event `start` was read."""
        talk = json.load(self.request("POST", "/api/conversations", {}))["id"]
        said = {"parent": None, "content": "Hello", "settings": {"temperature": 0, **settings}}
        response = self.request("POST", f"/api/conversations/{talk}/messages", said)
        if response.status == 200:
            assert response.readline() == b"event: start\n"
        return response


@contextmanager
def running(run: Run) -> Iterator[Running]:
    with service(run) as chat, bind(run.config.serve) as listener:
        server = Server(create_app(chat, run.config, TOKEN), listener, run.config.serve)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield Running(server, chat)
        finally:
            server.stop()
            thread.join()


def events(text: str) -> list[tuple[str, Any]]:
    """Name and data of server-sent events."""
    found = []
    for block in filter(None, text.split("\n\n")):
        if not block.startswith(":"):
            name, data = block.split("\n")
            found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found
