"""What the server says when it cannot do what was asked: one JSON shape, true status codes, never a traceback.

    {"error": {"code": "not_found", "message": "…", "expected": "…", "todo": "…"}}

`raise Refusal(400, "bad_request", "…")` in a view; whatever the service raises is translated by `refusal_of`.
"""

import logging
import math
from typing import Any, NoReturn

from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from rlhf.errors import UserError

log = logging.getLogger(__name__)

JSON_PATHS = ("/api", "/v1", "/health", "/openapi.json")
"""Where programs call: every answer is JSON."""

STATUS = {
    "NotFound": 404,
    "UnknownVersion": 404,
    "KeyReused": 409,
    "NoDuel": 409,
    "QueueFull": 429,
    "EngineClosed": 503,
    "Left": 503,
    "StoreBusy": 503,
    "TimeoutError": 503,
    "StoreFull": 507,
}
"""Class of an error of the service, the engine or the store → status. Other `UserError`s are 400."""

CODES = {
    400: "bad_request",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    413: "too_large",
    429: "busy",
    503: "unavailable",
    507: "disk_full",
}

WORDS = {"PromptTooLong": "prompt_too_long", "KeyReused": "key_reused", "NoDuel": "no_duel", "Refused": "blocked",
         "TooFast": "too_fast"}  # fmt: skip
"""Class of an error → its code, where the status alone says too little."""
MESSAGES = {404: "Nothing is at this address.", 405: "This address does not take this method."}


class Refusal(HTTPException):
    """An answer that is an error.

    Args:
        status: the HTTP status.
        code: a word that programs can compare.
        message: one sentence for people.
        expected: what would have been right.
        todo: what to do.
        retry_after: seconds after which trying again makes sense.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        expected: str = "",
        todo: str = "",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = status
        self.word, self.expected, self.todo, self.retry_after = code, expected, todo, retry_after

    def as_json(self) -> dict[str, Any]:
        """The body of the answer; an `error` event of a stream has the same."""
        error = {"code": self.word, "message": self.description}
        error |= {name: text for name, text in (("expected", self.expected), ("todo", self.todo)) if text}
        return {"error": error}

    def get_headers(self, *args: Any, **kwargs: Any) -> list[tuple[str, str]]:
        headers = super().get_headers(*args, **kwargs)
        if self.retry_after is not None:
            headers.append(("Retry-After", str(self.seconds)))
        return headers

    @property
    def seconds(self) -> int:
        """`retry_after` as the header wants it: whole, at least 1."""
        return max(1, math.ceil(self.retry_after or 0))


def refusal_of(error: Exception) -> Refusal:
    """What to answer for what was raised; a fault of ours is logged, and its words stay here."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, HTTPException):
        status = error.code or 500
        return Refusal(status, CODES.get(status, "error"), MESSAGES.get(status) or error.description or error.name)
    names = [kind.__name__ for kind in type(error).__mro__]
    status = next((STATUS[name] for name in names if name in STATUS), 400 if isinstance(error, UserError) else 500)
    if "GenerationFailed" in names:  # the service has logged it
        return Refusal(500, "generation_failed", "The reply could not be finished.", todo="Ask again.")
    if status == 500:
        log.error("A request failed.", exc_info=error)
        return Refusal(500, "internal", "The server failed; its log says why.")
    problem, expected, todo = _parts(str(error) or type(error).__name__)
    wait = getattr(error, "retry_after", 1.0 if status in (429, 503) else None)
    code = next((WORDS[name] for name in names if name in WORDS), CODES[status])
    return Refusal(status, code, problem, expected=expected, todo=todo, retry_after=wait)


def _parts(text: str) -> tuple[str, str, str]:
    """Problem (with what was found), what was expected, and what to do, from the lines of a `UserError`."""
    problem, *lines = text.split("\n")
    parts = {label: rest for label, _, rest in (line.strip().partition(": ") for line in lines)}
    if found := parts.get("found"):
        problem = f"{problem} Found: {found}"
    return problem, parts.get("expected", ""), parts.get("to do", "")


def answer(error: Exception) -> Response:
    """The response to an error: JSON for programs, a line of text for a page."""
    refused = refusal_of(error)
    if request.path.startswith(JSON_PATHS):
        response = jsonify(refused.as_json())
    else:
        response = Response(f"{refused.description} {refused.todo}".strip() + "\n", mimetype="text/plain")
    response.status_code = refused.code or 500
    if refused.retry_after is not None:
        response.headers["Retry-After"] = str(refused.seconds)
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        response.headers["Allow"] = ", ".join(error.valid_methods)
    return response


def install(app: Flask) -> None:
    """Answer every error in this shape."""
    app.register_error_handler(Exception, answer)


def refuse_json(message: str, expected: str) -> NoReturn:
    """The body cannot be used."""
    raise Refusal(400, "bad_request", message, expected=expected)
