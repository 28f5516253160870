"""Errors in OpenAI's shape, with its status codes.

    {"error": {"message": "…", "type": "invalid_request_error", "param": "n", "code": "unsupported_parameter"}}

Where a reply was begun and then failed, `x-should-retry: false` keeps OpenAI's clients from having it generated again;
where nothing was begun they may try again, after `Retry-After`. By themselves they would try after 409 and any 5xx.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from flask import Response, jsonify
from pydantic import BaseModel, ValidationError

from rlhf.chat.http.openai_types import (
    ChatCompletionRequest,
    ErrorBody,
    ErrorObject,
    RequestMessage,
    StreamOptions,
    TextFormat,
    TextPart,
    Unsupported,
)
from rlhf.chat.http.refusals import refusal_of
from rlhf.chat.http.sse import Gone
from rlhf.chat.inference.context import PromptTooLong
from rlhf.errors import nearest

TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
"""OpenAI's word for the kind of error, by status; else below 500 it is the request's fault, from there on ours."""
CODES = {401: "invalid_api_key", 404: "not_found", 429: "rate_limit_exceeded"}
FIELDS = {
    name
    for model in (ChatCompletionRequest, RequestMessage, TextPart, StreamOptions, TextFormat)
    for name in model.model_fields
}
AnyBody = TypeVar("AnyBody", bound=BaseModel)


class APIError(Exception):
    """An answer that is an error.

    Args:
        status: the HTTP status.
        message: one sentence for people.
        param: the parameter that is to blame.
        code: a word that programs can compare.
        headers: of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = headers or {}


class Begun(Exception):
    """What went wrong (`__cause__`) after the model had begun to reply."""


@contextmanager
def begun() -> Iterator[None]:
    """What goes wrong within must not be tried again by itself. A reader who leaves is no error."""
    try:
        yield
    except Gone:
        raise
    except Exception as error:
        raise Begun from error


def unknown_model(name: str, known: Iterable[str]) -> APIError:
    """There is no version of this name."""
    message = f"The model {name!r} does not exist; {nearest(name, known)}"
    return APIError(404, message, param="model", code="model_not_found")


def no_such_route(method: str, path: str, allowed: list[str] | None) -> APIError:
    """Nothing is there, or not for this method."""
    if allowed is None:
        return APIError(404, f"Invalid URL ({method} {path})", code="unknown_url")
    headers = {"Allow": ", ".join(allowed)}
    return APIError(405, f"Not allowed to {method} on {path}", code="method_not_supported", headers=headers)


def timed_out() -> APIError:
    """The reply was stopped because it took too long."""
    return APIError(504, "The reply took too long and was stopped.", code="timeout")


def parsed(model: type[AnyBody], data: bytes) -> AnyBody:
    """The body of a request.

    Raises:
        APIError: 400, naming the parameter.
    """
    try:
        return model.model_validate_json(data, strict=True)
    except ValidationError as error:
        raise _invalid(error) from None


def _invalid(error: ValidationError) -> APIError:
    """What is wrong with the first parameter that is wrong; where it may be of several types, with the nearest one."""
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    same = [found for found in errors if _top(found["loc"]) == _top(errors[0]["loc"])]
    nearest_type = max(same, key=lambda found: len(found["loc"]))
    kind, reason = nearest_type["type"], nearest_type["msg"]
    name = _parameter(nearest_type["loc"], unknown=kind == "extra_forbidden")
    if not name:  # no JSON object, or parameters that do not go together
        reason = reason.removeprefix("Value error, ")
        return APIError(400, reason, param=reason.partition(":")[0] if kind == "value_error" else None)
    if kind == "extra_forbidden":
        return APIError(400, f"Unrecognized request argument supplied: {name}", param=name, code="unknown_parameter")
    if kind == "missing":
        return APIError(400, f"Missing required parameter: {name!r}.", param=name, code="missing_required_parameter")
    if name in Unsupported.model_fields or name == "response_format.type":
        message = f"{name!r} cannot be honoured here with this value: {reason}. Leave it out."
        return APIError(400, message, param=name, code="unsupported_parameter")
    return APIError(400, f"Invalid value for {name!r}: {reason}.", param=name, code="invalid_value")


def _top(place: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """The parameter, and of messages which one."""
    return place[:2] if place[:1] == ("messages",) else place[:1]


def _parameter(place: tuple[int | str, ...], unknown: bool = False) -> str:
    """`messages[0].content` for pydantic's place of an error, in which names of types stand, too.

    Args:
        unknown: whether the last part is a name that is not ours.
    """
    name = ""
    for number, part in enumerate(place):
        if isinstance(part, int):
            name += f"[{part}]"
        elif part in FIELDS or (unknown and number == len(place) - 1):
            name += f".{part}" if name else part
    return name


def answer(error: Exception) -> Response:
    """The response to an error."""
    known, retry = _known(error)
    response = jsonify(body(error).model_dump())
    response.status_code = known.status
    response.headers.update(known.headers)
    if not retry:
        response.headers["x-should-retry"] = "false"
    return response


def body(error: Exception) -> ErrorBody:
    """What the response, or the last event of a stream, says."""
    known, _ = _known(error)
    kind = "invalid_request_error" if known.status < 500 else "server_error"
    return ErrorBody(
        error=ErrorObject(
            message=known.message,
            type=TYPES.get(known.status, kind),
            param=known.param,
            code=known.code or CODES.get(known.status),
        )
    )


def _known(error: Exception) -> tuple[APIError, bool]:
    """The error in OpenAI's terms, and whether it may be tried again."""
    if isinstance(error, Begun):
        assert isinstance(error.__cause__, Exception)
        return _known(error.__cause__)[0], False
    if isinstance(error, APIError):
        return error, True
    if isinstance(error, PromptTooLong):
        return _too_long(error), True
    refused = refusal_of(error)
    status = refused.code or 500
    if refused.word == "forbidden":  # the token: OpenAI's clients know 401 for that, and 403 for another thing
        status = 401
    headers = {} if refused.retry_after is None else {"Retry-After": str(max(1, math.ceil(refused.retry_after)))}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return APIError(status, refused.description or refused.name, headers=headers), status not in (409, 500)


def _too_long(error: PromptTooLong) -> APIError:
    message = (
        f"This model's maximum context length is {error.context} tokens. However, you requested "
        f"{error.prompt_tokens + error.max_tokens} tokens ({error.prompt_tokens} in the messages, {error.max_tokens} "
        "in the completion). Please reduce the length of the messages or completion."
    )
    return APIError(400, message, param="messages", code="context_length_exceeded")
