"""A route of the JSON API as a declaration: what it takes, what it answers; `rlhf.chat.http.spec` describes the same.

Route("PATCH", "/api/conversations/<conversation>", rename, "Rename a conversation.", Renamed, body=Rename)
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flask import Flask, Response, g, jsonify, request
from pydantic import BaseModel, ValidationError

from rlhf.chat.http.refusals import Refusal, refusal_of, refuse_json
from rlhf.chat.http.schemas import Error
from rlhf.chat.http.sse import Slots

KEY = re.compile(r"[!-~]{1,200}")
"""An idempotency key."""


@dataclass(frozen=True)
class Call:
    """One request, checked."""

    service: Any
    """`rlhf.chat.service.ChatService`."""
    slots: Slots
    user: str
    body: Any = None
    """An instance of the route's body."""
    key: str | None = None
    """Idempotency-Key: a request that is sent again does nothing new."""


@dataclass(frozen=True)
class Route:
    """One method of one path.

    Args:
        view: takes the `Call` and the names in the path; gives an `answer`, or a response of its own. A name, where
            somebody else answers and the route is only described.
        status: of success.
        errors: further statuses, besides those that every route has.
        events: name → what it holds, where the answer may be a stream of server-sent events.
        free: needs no token.
        error: shape of its errors.
        refused: status of a missing token.
    """

    method: str
    path: str
    view: Callable[..., Any] | str
    summary: str
    answer: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    status: int = 200
    errors: tuple[int, ...] = ()
    events: Mapping[str, str] = field(default_factory=dict)
    free: bool = False
    error: type[BaseModel] = Error
    refused: int = 403

    @property
    def name(self) -> str:
        """Of the operation."""
        return self.view if isinstance(self.view, str) else self.view.__name__

    @property
    def takes_key(self) -> bool:
        """Whether sending it twice with one Idempotency-Key does it once."""
        return self.path.startswith("/api/") and (self.method == "POST" or self.path.endswith(("/rating", "/vote")))


def register(app: Flask, routes: tuple[Route, ...], service: Any, slots: Slots) -> None:
    """Let the app answer these routes."""
    for route in routes:
        app.add_url_rule(route.path, f"api.{route.name}", _endpoint(route, service, slots), methods=[route.method])


def _endpoint(route: Route, service: Any, slots: Slots) -> Callable[..., Response]:
    view = route.view
    assert not isinstance(view, str)

    def endpoint(**names: str) -> Response:
        body = read(route.body) if route.body else None
        key = idempotency_key() if route.takes_key else None
        try:
            answer = view(Call(service, slots, g.user, body, key), **names)
        except Exception as error:
            raise refusal_of(error) from error
        if isinstance(answer, Response):
            return answer
        response = jsonify(answer.model_dump(mode="json"))
        response.status_code = route.status
        return response

    return endpoint


def read(kind: type[BaseModel]) -> BaseModel:
    """The request's body. No body at all is an empty object.

    Raises:
        Refusal: 400, it is no JSON, or not of this shape; names the field. 413, it is too long.
    """
    data = request.get_data(cache=False)
    try:
        return kind.model_validate_json(data or b"{}")
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        if first["type"] == "json_invalid":
            refuse_json("The body is no JSON.", expected="a JSON object in UTF-8")
        refuse_json(f"{place or 'The body'}: {first['msg']}.", expected=", ".join(kind.model_fields) or "{}")


def idempotency_key() -> str | None:
    """The header Idempotency-Key. Raises `Refusal`, 400, where it is no short word."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not KEY.fullmatch(key):
        raise Refusal(400, "bad_request", "Idempotency-Key cannot be used.", expected="1 to 200 visible characters")
    return key
