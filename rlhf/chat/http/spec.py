"""The OpenAPI 3.1 document of what is served, from the declarations that the routes themselves read."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from rlhf.chat.http.openai_types import ChatCompletion, ChatCompletionRequest, ErrorBody, Model, ModelList
from rlhf.chat.http.routes import Route

REASONS = {
    400: "The request cannot be used, or the server is not called by this name.",
    401: "The token is missing or wrong.",
    403: "The token is missing or wrong, the origin is foreign, or the body is not declared as JSON.",
    404: "There is none, or it is somebody else's.",
    409: "The idempotency key was used for something else, or there are no two answers that differ.",
    413: "The body is longer than 64 kB.",
    429: "Too many requests wait.",
    503: "Too many replies stream, the store is busy, or the server is stopping.",
    504: "The reply took too long.",
    507: "The disk is full.",
}
RETRY = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}}
References = Mapping[Any, dict[str, Any]]
"""Class and mode → a reference to its schema."""


CHUNKS = {"(data only)": "chat.completion.chunk, then [DONE]; an error is the last event"}
OPENAI = (
    Route("GET", "/v1/models", "list_models", "The versions that answer.", ModelList, error=ErrorBody, refused=401),
    Route("GET", "/v1/models/<model>", "read_model", "One of them.", Model, errors=(404,), error=ErrorBody,
          refused=401),
    Route("POST", "/v1/chat/completions", "create_chat_completion", "A reply, as OpenAI's API gives it.",
          ChatCompletion, ChatCompletionRequest, errors=(404, 409, 429, 503, 504, 507), events=CHUNKS, error=ErrorBody,
          refused=401),
)  # fmt: skip
"""What `rlhf.chat.http.openai_api` serves: it has a blueprint of its own, which checks bodies by the same classes."""


def openapi(routes: Sequence[Route]) -> dict[str, Any]:
    """The document."""
    kinds: list[tuple[type[BaseModel], JsonSchemaMode]] = []
    for route in routes:
        kinds += [(route.error, "serialization")]
        kinds += [(route.answer, "serialization")] if route.answer else []
        kinds += [(route.body, "validation")] if route.body else []
    references, definitions = models_json_schema(
        list(dict.fromkeys(kinds)), ref_template="#/components/schemas/{model}"
    )
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = re.sub(r"<(\w+)>", r"{\1}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, references)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Chat and human feedback",
            "version": "1",
            "description": "Conversations with models in training, and what people make of their replies.",
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}, {"browser": []}],
        "paths": paths,
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "browser": {"type": "apiKey", "in": "cookie", "name": "rlhf_pass_PORT",
                            "description": "Set by opening /?token=TOKEN."},
            },
        },
    }  # fmt: skip


def _operation(route: Route, references: References) -> dict[str, Any]:
    operation = {
        "operationId": route.name,
        "summary": route.summary,
        "parameters": _parameters(route),
        "responses": _responses(route, references),
    }
    if route.body:
        required = any(field.is_required() for field in route.body.model_fields.values())
        operation["requestBody"] = {"required": required, "content": _json(references[(route.body, "validation")])}
    if route.free:
        operation["security"] = []
    return operation


def _parameters(route: Route) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"<(\w+)>", route.path)
    ]
    if route.takes_key:
        parameters.append(
            {"name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "pattern": "^[!-~]{1,200}$"},
             "description": "The same request with the same key does nothing new."}
        )  # fmt: skip
    if not route.free:
        parameters.append(
            {"name": "X-User", "in": "header", "description": "Who calls, where the token is in a header.",
             "schema": {"type": "string", "pattern": "^(?!web-)[A-Za-z0-9_.@+-]{1,64}$", "default": "api"}}
        )  # fmt: skip
    return parameters


def _responses(route: Route, references: References) -> dict[str, Any]:
    content: dict[str, Any] = _json(references[(route.answer, "serialization")]) if route.answer else {}
    if route.events:
        events = "\n".join(f"- `{name}`: {text}" for name, text in route.events.items())
        content["text/event-stream"] = {"schema": {"type": "string", "description": f"Events:\n{events}"}}
    responses: dict[str, Any] = {str(route.status): {"description": "Done.", "content": content}}
    errors = {400, 403, *(() if route.free else (route.refused,)), *((413,) if route.body else ()), *route.errors}
    for status in sorted(errors):
        responses[str(status)] = {
            "description": REASONS[status],
            "content": _json(references[(route.error, "serialization")]),
            **({"headers": RETRY} if status in (429, 503) else {}),
        }
    return responses


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
