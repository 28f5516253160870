"""The HTTP API under requests made from the description that it serves itself: no 500, nothing that was not declared.

SOAK=1 python -m pytest tests/chat/test_fuzz.py        # many more requests
"""

import os
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import requests
import schemathesis
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from rlhf.chat.http.api import ROUTES
from rlhf.chat.http.spec import OPENAI, openapi
from tests.chat.serving_world import TOKEN, World, served, talkative, wait_until

SOAK = bool(os.environ.get("SOAK"))
EXAMPLES = 100 if SOAK else 10
"""Requests to each operation of each kind."""
AUTHORIZATION = {"Authorization": f"Bearer {TOKEN}"}
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
OPERATIONS = [
    (method.upper(), path) for path, methods in openapi((*ROUTES, *OPENAI))["paths"].items() for method in methods
]

pytestmark = pytest.mark.slow


class Fuzzed:
    """A real server, and ids of what is there, so that requests reach beyond "not found"."""

    def __init__(self, world: World) -> None:
        self.world, self.session = world, requests.Session()
        self.schema = schemathesis.openapi.from_url(f"{world.url}openapi.json")
        talk = self._made("/api/conversations", {}).json()["id"]
        self._made(f"/api/conversations/{talk}/messages", {"parent": None, "content": "Hello"})
        [_, message] = world.service.conversation("api", talk).messages
        duel = self._made("/api/duels", {"prompt": "What is a cat?"}).json()["duel"]
        self.ids = {"conversation": talk, "message": message.id, "turn": message.id, "duel": duel, "model": "live"}

    def _made(self, path: str, body: Any) -> requests.Response:
        response = self.world.post(path, body)
        assert response.ok and response.content  # a stream is read to its end
        return response

    def send(self, case: Any, checks: list[Any]) -> None:
        """Send a request, and hold the answer against the description."""
        response = case.call(base_url=self.world.url.rstrip("/"), session=self.session, headers=AUTHORIZATION)
        case.validate_response(response, checks=checks)

    def strategy(self, method: str, path: str, mode: GenerationMode) -> st.SearchStrategy[Any]:
        return self.schema[path][method].as_strategy(generation_mode=mode)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory, tokenizer) -> Iterator[Fuzzed]:
    with served(tmp_path_factory.mktemp("run"), talkative(tokenizer), tokenizer) as world:
        yield Fuzzed(world)


def bombard(cases: st.SearchStrategy[Any], check: Any) -> None:
    """Send requests of a kind; the same ones in each run, but for SOAK=1."""

    @hypothesis.given(cases, st.booleans())
    @hypothesis.settings(
        max_examples=EXAMPLES,
        derandomize=not SOAK,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate] + ([hypothesis.Phase.shrink] if SOAK else []),
    )
    def send(case: Any, real: bool) -> None:
        check(case, real)

    send()


@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=lambda part: part)
def test_requests_as_declared(fuzzed, method, path):
    def check(case: Any, real: bool) -> None:
        if real:  # what there is, and asked for by its owner
            case.path_parameters = {name: fuzzed.ids[name] for name in case.path_parameters or {}}
            case.headers.pop("X-User", None)
        fuzzed.send(case, CHECKS)

    bombard(fuzzed.strategy(method, path, GenerationMode.POSITIVE), check)


@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=lambda part: part)
def test_requests_that_are_not_as_declared(fuzzed, method, path):
    def check(case: Any, real: bool) -> None:
        if real and "path_parameters" not in {part.value for part in case.meta.components}:
            case.path_parameters = {name: fuzzed.ids[name] for name in case.path_parameters or {}}
        fuzzed.send(case, [*CHECKS, negative_data_rejection])

    try:
        bombard(fuzzed.strategy(method, path, GenerationMode.NEGATIVE), check)
    except hypothesis.errors.Unsatisfiable:
        pytest.skip("nothing can be wrong with such a request")


@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=lambda part: part)
def test_nobody_is_let_in_without_the_token(fuzzed, method, path):
    known = fuzzed.world.url.rstrip("/") + path.format(**fuzzed.ids)
    response = requests.request(method, known, json={} if method not in ("GET", "DELETE") else None, timeout=60)
    assert response.status_code == (200 if path == "/health" else 401 if path.startswith("/v1") else 403)


def test_afterwards_all_is_well(fuzzed):
    assert wait_until(lambda: not fuzzed.world.app.extensions["slots"].taken)
    assert requests.get(f"{fuzzed.world.url}health", timeout=60).json()["status"] == "ok"
