"""The OpenAPI 3.1 document of what is served, from the declarations that the routes themselves read."""

import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from rlhf.chat.routes import Route
from rlhf.chat.schemas import Error

REASONS = {
    400: "The request cannot be used, or the server is not called by this name.",
    403: "Token, origin or content type.",
    404: "There is none, or it is somebody else's.",
    409: "The idempotency key was used for something else.",
    413: "The body is longer than 64 kB.",
    429: "Too many requests wait.",
    503: "Too many replies stream, or the server is stopping.",
}
RETRY = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}}


def openapi(routes: Sequence[Route]) -> dict[str, Any]:
    """The document."""
    kinds: list[tuple[type[BaseModel], JsonSchemaMode]] = [(Error, "serialization")]
    kinds += [(route.answer, "serialization") for route in routes if route.answer]
    kinds += [(route.body, "validation") for route in routes if route.body]
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


def _operation(route: Route, references: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    names = re.findall(r"<(\w+)>", route.path)
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
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
    operation = {
        "operationId": route.name,
        "summary": route.summary,
        "parameters": parameters,
        "responses": _responses(route, references),
    }
    if route.body:
        schema = references[(route.body, "validation")]
        operation["requestBody"] = {"required": bool(_required(route.body)), "content": _json(schema)}
    if route.free:
        operation["security"] = []
    return operation


def _required(body: type[BaseModel]) -> list[str]:
    return [name for name, field in body.model_fields.items() if field.is_required()]


def _responses(route: Route, references: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = _json(references[(route.answer, "serialization")]) if route.answer else {}
    if route.events:
        events = "\n".join(f"- `{name}`: {text}" for name, text in route.events.items())
        content["text/event-stream"] = {"schema": {"type": "string", "description": f"Events:\n{events}"}}
    responses: dict[str, Any] = {str(route.status): {"description": "Done.", "content": content}}
    errors = {400, *(() if route.free else (403,)), *((413,) if route.body else ()), *route.errors}
    for status in sorted(errors):
        responses[str(status)] = {
            "description": REASONS[status],
            "content": _json(references[(Error, "serialization")]),
            **({"headers": RETRY} if status in (429, 503) else {}),
        }
    return responses


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
