"""The OpenAI-compatible API: /v1/models and /v1/chat/completions, streaming and not.

app.register_blueprint(openai_api.blueprint(service))

A client that knows OpenAI's API needs another base URL and our token, nothing else:

    OpenAI(base_url="http://127.0.0.1:5000/v1", api_key=TOKEN).chat.completions.create(model="live", messages=[…])

Answers and errors have OpenAI's shape and status (`openai_errors`). The number in a reply's id is that of the stored
message, so that it can be rated like any other.
"""

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from flask import Blueprint, Response, current_app, g, jsonify, request
from pydantic import BaseModel

from rlhf.chat.feedback import StoredMessage
from rlhf.chat.http import openai_errors
from rlhf.chat.http.openai_types import (
    ChatCompletion,
    ChatCompletionChunk,
    ChatCompletionRequest,
    Choice,
    ChunkChoice,
    Delta,
    FinishReason,
    Model,
    ModelList,
    ReplyMessage,
    Usage,
)
from rlhf.chat.http.routes import idempotency_key
from rlhf.chat.http.sse import Done, Gone, Reading, Slot, Slots, reader_left
from rlhf.chat.service import ChatService, Turn
from rlhf.chat.serving.replies import LIVE
from rlhf.registry import Version

ALIASES = ("live", "default")
"""Names of whichever version answers where there is no choice."""
METHODS = {"models": ["GET", "HEAD", "OPTIONS"], "chat/completions": ["POST", "OPTIONS"]}
END = "data: [DONE]\n\n"
QUIET = ": still there\n\n"


def blueprint(service: ChatService) -> Blueprint:
    """The routes below /v1."""
    api = Blueprint("openai", __name__, url_prefix="/v1")
    api.register_error_handler(Exception, openai_errors.answer)

    @api.get("/models")
    def models() -> Response:
        return _json(ModelList(object="list", data=_models(service)))

    @api.get("/models/<name>")
    def model(name: str) -> Response:
        found = next((model for model in _models(service) if model.id == name), None)
        return _json(found or _unknown(service, name))

    @api.post("/chat/completions")
    def chat_completions() -> Response:
        return _complete(service, openai_errors.parsed(ChatCompletionRequest, request.get_data()))

    @api.route("/<path:path>", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    def unknown(path: str) -> Response:
        raise openai_errors.no_such_route(request.method, request.path, METHODS.get(path))

    return api


def _models(service: ChatService) -> list[Model]:
    """The versions that are loaded, and the name of the one that answers; the registry may be ahead of it."""
    versions = {version.name: version for version in service.registry.versions()}
    names = [name for name in service.engine.versions if name in versions]
    created = {name: _created(versions[name]) for name in names}
    created[ALIASES[0]] = _created(versions.get(service.serving.live))
    return [Model(id=name, object="model", created=created[name], owned_by="rlhf") for name in created]


def _created(version: Version | None) -> int:
    return int(datetime.fromisoformat(version.created).timestamp()) if version and version.created else 0


def _version(service: ChatService, name: str) -> str:
    """The version that is meant. Who is live is settled when the engine is asked: until then it may change."""
    if name in service.engine.versions:
        return name
    return LIVE if name in ALIASES else _unknown(service, name)


def _unknown(service: ChatService, name: str) -> Any:
    raise openai_errors.unknown_model(name, [ALIASES[0], *service.engine.versions])


def _complete(service: ChatService, asked: ChatCompletionRequest) -> Response:
    """Have a reply made; what can be refused is refused before anything is sent."""
    version = _version(service, asked.model)
    settings = asked.reply_settings(service.config.chat)
    slots: Slots = current_app.extensions["slots"]
    with slots.held() as slot:
        user = asked.user if asked.user and g.may_name else g.user  # a browser is who it is
        turn = service.complete(user, asked.conversation(), version, settings, idempotency_key())
        answers = service.serving.live if version == LIVE else version
        reply = _Reply(turn, turn.version or answers, asked.counts_usage)
        reading = Reading({"reply": turn}, slots, reader_left())
        return reply.streamed(reading, slot) if asked.stream else reply.whole(reading, slot)


class _Reply:
    """One reply in OpenAI's words.

    Args:
        turn: that is being made.
        version: that makes it.
        usage: whether a stream counts its tokens at the end.
    """

    def __init__(self, turn: Turn, version: str, usage: bool) -> None:
        self.turn, self.version, self.usage = turn, version, usage
        self.id = f"chatcmpl-{turn.reply_id}"
        self.created = int(time.time())

    def whole(self, reading: Reading, slot: Slot) -> Response:
        """Wait for it, and send it in one piece."""
        try:
            with openai_errors.begun():
                message = self._in_time(reading.messages()["reply"])
        except Gone:
            return Response(status=499)  # nobody reads it
        finally:
            reading.close()
            slot.give_back()
        choice = Choice(
            index=0,
            message=ReplyMessage(role="assistant", content=message.content, refusal=None),
            logprobs=None,
            finish_reason=_finish_reason(message),
        )
        return _json(
            ChatCompletion(
                id=self.id,
                object="chat.completion",
                created=self.created,
                model=message.version or self.version,
                choices=[choice],
                usage=_usage(message),
            )
        )

    def streamed(self, reading: Reading, slot: Slot) -> Response:
        """Send it as it is made; an error on the way is the last event, and no [DONE] follows."""
        response = Response(self._events(reading), mimetype="text/event-stream")
        response.headers["X-Accel-Buffering"] = "no"
        response.call_on_close(reading.close)
        response.call_on_close(slot.give_back)
        return response

    def _events(self, reading: Reading) -> Iterator[str]:
        try:
            with openai_errors.begun():
                yield self._chunk(Delta(role="assistant", content=""))
                yield from self._deltas(reading)
                yield END
        except Gone:
            return
        except Exception as error:
            yield f"data: {openai_errors.body(error).model_dump_json()}\n\n"

    def _deltas(self, reading: Reading) -> Iterator[str]:
        silent = True
        for item in reading:
            if item is None:
                yield QUIET
            elif isinstance(item[1], Done):
                yield from self._end(self._in_time(item[1].message), silent)
            elif item[1]:
                silent = False
                yield self._chunk(Delta(content=item[1]))

    def _end(self, message: StoredMessage, silent: bool) -> Iterator[str]:
        """Why it ends, and how long it was; the safe reply, where nothing was shown of the one that was held back."""
        if silent and message.content:
            yield self._chunk(Delta(content=message.content))
        yield self._chunk(Delta(), _finish_reason(message))
        if self.usage:
            yield self._event(choices=[], usage=_usage(message))

    def _in_time(self, message: StoredMessage) -> StoredMessage:
        if self.turn.timed_out:
            raise openai_errors.timed_out()
        return message

    def _chunk(self, delta: Delta, reason: FinishReason | None = None) -> str:
        return self._event(choices=[ChunkChoice(index=0, delta=delta, logprobs=None, finish_reason=reason)])

    def _event(self, **fields: Any) -> str:
        usage = {"usage": None} if self.usage else {}
        chunk = ChatCompletionChunk(
            id=self.id, object="chat.completion.chunk", created=self.created, model=self.version, **(usage | fields)
        )
        return f"data: {chunk.model_dump_json(exclude_unset=True)}\n\n"


def _finish_reason(message: StoredMessage) -> FinishReason:
    if message.blocked:
        return "content_filter"
    return "length" if message.finish_reason == "length" else "stop"


def _usage(message: StoredMessage) -> Usage:
    prompt, completion = message.prompt_tokens or 0, message.completion_tokens or 0
    return Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)


def _json(body: BaseModel) -> Response:
    return jsonify(body.model_dump(mode="json"))
