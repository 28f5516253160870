"""What OpenAI's API description demands of answers: which fields must be there, of which type, from which words.

check(COMPLETION, body)        # AssertionError where it does not conform

Written down from the published OpenAPI description (openai/openai-openapi) and the official client's types. The client
itself validates nothing: it takes what comes. Fields that are neither demanded nor known there are refused here.
"""

from typing import Any

import jsonschema_rs
from pydantic import BaseModel

FINISH_REASONS = ["stop", "length", "tool_calls", "content_filter", "function_call"]
NULL = {"type": "null"}


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": required | (optional or {}),
        "required": list(required),
        "additionalProperties": False,
    }


_COUNT = {"type": "integer", "minimum": 0}
USAGE = _object({"prompt_tokens": _COUNT, "completion_tokens": _COUNT, "total_tokens": _COUNT})

MESSAGE = _object(
    {"role": {"const": "assistant"}, "content": {"type": ["string", "null"]}, "refusal": {"type": ["string", "null"]}}
)
CHOICE = _object(
    {"index": {"type": "integer"}, "message": MESSAGE, "logprobs": NULL, "finish_reason": {"enum": FINISH_REASONS}}
)
COMPLETION = _object(
    {
        "id": {"type": "string"},
        "object": {"const": "chat.completion"},
        "created": {"type": "integer"},
        "model": {"type": "string"},
        "choices": {"type": "array", "items": CHOICE, "minItems": 1},
    },
    {"usage": USAGE},
)

DELTA = _object({}, {"role": {"const": "assistant"}, "content": {"type": "string"}})
CHUNK_CHOICE = _object(
    {"index": {"type": "integer"}, "delta": DELTA, "finish_reason": {"enum": [*FINISH_REASONS, None]}},
    {"logprobs": NULL},
)
CHUNK = _object(
    {
        "id": {"type": "string"},
        "object": {"const": "chat.completion.chunk"},
        "created": {"type": "integer"},
        "model": {"type": "string"},
        "choices": {"type": "array", "items": CHUNK_CHOICE},
    },
    {"usage": {"anyOf": [USAGE, NULL]}},
)

MODEL = _object(
    {
        "id": {"type": "string"},
        "object": {"const": "model"},
        "created": {"type": "integer"},
        "owned_by": {"type": "string"},
    }
)
MODELS = _object({"object": {"const": "list"}, "data": {"type": "array", "items": MODEL}})

ERROR = _object(
    {
        "error": _object(
            {
                "message": {"type": "string", "minLength": 1},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            }
        )
    }
)


def check(schema: dict[str, Any], body: Any) -> None:
    """Hold a body against a schema."""
    errors = [f"{list(error.instance_path)}: {error.message}" for error in jsonschema_rs.iter_errors(schema, body)]
    assert not errors, f"{errors} in {body}"


def exactly(kind: type[BaseModel], body: Any) -> Any:
    """A body as the official client's type, without anything that the type does not know."""
    value = kind.model_validate(body, strict=True)
    _nothing_extra(value)
    return value


def _nothing_extra(value: Any) -> None:
    if isinstance(value, BaseModel):
        assert not value.model_extra, f"{type(value).__name__} knows no {list(value.model_extra or ())}"
        for name in type(value).model_fields:
            _nothing_extra(getattr(value, name))
    elif isinstance(value, list):
        for item in value:
            _nothing_extra(item)
