"""The JSON API under /api: conversations, replies, ratings, duels, the monitor's figures.

`ROUTES` declares every one; a view takes a `Call` and says what the service should do. What people may see of a record
is what its class in `schemas` has: no version of a duel before the vote, no reward.
"""

from collections.abc import Iterator
from typing import Any

from flask import Response, jsonify, request

from rlhf.chat.feedback import Rating
from rlhf.chat.http.monitor import snapshot
from rlhf.chat.http.monitor_shape import Snapshot
from rlhf.chat.http.refusals import Refusal
from rlhf.chat.http.routes import Call, Route
from rlhf.chat.http.schemas import (
    Again,
    ConversationAnswer,
    Conversations,
    Defaults,
    DuelAnswer,
    Empty,
    Health,
    Limits,
    Me,
    MessageAnswer,
    Named,
    NewConversation,
    NewDuel,
    NextPrompt,
    NoVote,
    RatingAnswer,
    RatingBody,
    Rename,
    Say,
    SettingsBody,
    Side,
    Stopped,
    Tree,
    Vote,
    VoteAnswer,
)
from rlhf.chat.http.sse import Done, Event, Gone, Reading, reader_left, stream
from rlhf.chat.records import ReplySettings


def health(call: Call) -> Health:
    return Health(**call.service.health())


def me(call: Call) -> Me:
    service = call.service
    config, engine = service.config, service.engine
    contexts = [engine.context(name) for name in engine.versions]
    defaults = reply_settings(call, SettingsBody())
    return Me(
        user=call.user,
        versions=list(engine.versions),
        limits=Limits(
            context=min((context for context in contexts if context is not None), default=None),
            max_tokens=config.data.max_response_tokens,
            max_characters=config.guardrails.max_characters,
        ),
        defaults=Defaults(
            temperature=defaults.temperature, top_p=defaults.top_p, max_tokens=config.data.max_response_tokens
        ),
    )


def reply_settings(call: Call, body: SettingsBody) -> ReplySettings:
    """What a client asked for, over the configuration's own."""
    chat = call.service.config.chat
    return body.over(ReplySettings(temperature=chat.temperature, top_p=chat.top_p))


# --- conversations ------------------------------------------------------------------------------------------------


def list_conversations(call: Call) -> Conversations:
    return Conversations(
        conversations=[ConversationAnswer.of(found) for found in call.service.conversations(call.user)]
    )


def create_conversation(call: Call) -> ConversationAnswer:
    return ConversationAnswer.of(call.service.create(call.user, call.body.title, key=call.key))


def read_conversation(call: Call, conversation: str) -> Tree:
    view = call.service.conversation(call.user, conversation)
    if view.conversation.kind == "duel":  # its messages name the versions
        raise Refusal(404, "not_found", "No such conversation.")
    return Tree(
        conversation=ConversationAnswer.of(view.conversation),
        messages=[MessageAnswer.of(message) for message in view.messages],
        ratings={message: RatingBody.model_validate(rating) for message, rating in view.ratings.items()},
    )


def rename_conversation(call: Call, conversation: str) -> ConversationAnswer:
    call.service.rename(call.user, conversation, call.body.title)
    return ConversationAnswer.of(call.service.conversation(call.user, conversation).conversation)


def hide_conversation(call: Call, conversation: str) -> Empty:
    call.service.hide(call.user, conversation)
    return Empty()


# --- replies ------------------------------------------------------------------------------------------------------


def say(call: Call, conversation: str) -> Response:
    with call.slots.held() as slot:
        settings = reply_settings(call, call.body.settings)
        turn = call.service.say(call.user, conversation, call.body.parent, call.body.content, settings, key=call.key)
        return stream(Reading({"reply": turn}, call.slots, reader_left()), lambda read: reply_events(turn, read), slot)


def regenerate(call: Call, message: str) -> Response:
    with call.slots.held() as slot:
        turn = call.service.regenerate(call.user, message, reply_settings(call, call.body.settings), key=call.key)
        return stream(Reading({"reply": turn}, call.slots, reader_left()), lambda read: reply_events(turn, read), slot)


def reply_events(turn: Any, reading: Reading) -> Iterator[Event | None]:
    """`start`, `delta` …, `replace` where what was shown is not what was stored, `done`."""
    user_message = MessageAnswer.of(turn.user_message).model_dump(mode="json")
    yield "start", {"turn": turn.id, "user_message": user_message, "reply_id": turn.reply_id}
    shown = ""
    for item in reading:
        if item is None:
            yield None
        elif isinstance(item[1], Done):
            message = item[1].message
            if message.content != shown:
                yield "replace", {"text": message.content}
            answer = MessageAnswer.of(message).model_dump(mode="json")
            notice = {"notice": turn.notice} if turn.notice else {}
            yield "done", {"message": answer, "dropped_turns": turn.dropped_turns, **notice}
        else:
            shown += item[1]
            yield "delta", {"text": item[1]}


def stop_turn(call: Call, turn: str) -> Stopped:
    return Stopped(stopped=bool(call.service.stop(call.user, turn)))


# --- ratings ------------------------------------------------------------------------------------------------------


def rate(call: Call, message: str) -> RatingAnswer:
    rating = call.service.rate(call.user, message, Rating(**call.body.model_dump()), key=call.key)
    return RatingAnswer(rating=RatingBody.model_validate(rating))


def unrate(call: Call, message: str) -> RatingAnswer:
    call.service.unrate(call.user, message, key=call.key)
    return RatingAnswer(rating=None)


# --- duels --------------------------------------------------------------------------------------------------------


def next_duel_prompt(call: Call) -> NextPrompt:
    return NextPrompt.of(call.service.next_duel_prompt(call.user))


def other_duel_prompt(call: Call) -> NextPrompt:
    return NextPrompt.of(call.service.next_duel_prompt(call.user, other=True))


def open_duel(call: Call) -> Response | DuelAnswer:
    with call.slots.held() as slot:
        settings = reply_settings(call, call.body.settings)
        left = reader_left()
        over = lambda: left() or call.slots.stopping.is_set()  # noqa: E731
        turn = call.service.duel(call.user, call.body.prompt, settings, key=call.key, left=over)
        reading = Reading({"left": turn.left, "right": turn.right}, call.slots, left)
        if "text/event-stream" in request.accept_mimetypes.values():
            return stream(reading, lambda read: duel_events(turn, read), slot)
        try:
            messages = reading.messages()
            turn.done()  # stored, and open for a vote
        except Gone:
            return Response(status=499)  # nobody reads it
        finally:
            reading.close()
            slot.give_back()
    sides = {name: Side(text=message.content) for name, message in messages.items()}
    return DuelAnswer(duel=turn.id, prompt=turn.prompt, **sides)


def duel_events(turn: Any, reading: Reading) -> Iterator[Event | None]:
    """`start`, `left` and `right` …, `done`; no version is named."""
    yield "start", {"duel": turn.id, "prompt": turn.prompt, "chosen_by": turn.chosen_by}
    texts = {}
    for item in reading:
        if item is None:
            yield None
        elif isinstance(item[1], Done):
            texts[item[0]] = {"text": item[1].message.content}
        else:
            yield item[0], {"text": item[1]}
    turn.done()  # stored, and open for a vote
    yield "done", {"duel": turn.id, **texts}


def vote(call: Call, duel: str) -> VoteAnswer:
    result = call.service.vote(call.user, duel, call.body.choice, call.body.latency_ms, key=call.key)
    return VoteAnswer(
        choice=result.duel.choice,
        left=Named(version=result.left_version),
        right=Named(version=result.right_version),
    )


def unvote(call: Call, duel: str) -> NoVote:
    call.service.unvote(call.user, duel, key=call.key)
    return NoVote()


def monitor(call: Call) -> Response:
    service = call.service
    return jsonify(snapshot(service, service.store, service.registry, service.engine))


REPLY_EVENTS = {
    "start": "{turn, user_message: MessageAnswer, reply_id}",
    "delta": "{text}: what comes next",
    "replace": "{text}: what is to stand instead of all that came so far",
    "done": "{message: MessageAnswer, dropped_turns, notice?: what the reader should be told}",
    "error": "Error",
}
DUEL_EVENTS = {
    "start": "{duel, prompt, chosen_by}",
    "left": "{text}: what comes next on the left",
    "right": "{text}: what comes next on the right",
    "done": "{duel, left: Side, right: Side}: the whole texts",
    "error": "Error",
}
BUSY = (429, 503)
WRITES = (409, 503, 507)
"""The key was used for something else; the store is busy; the disk is full."""
REPLIES = (404, 409, 429, 503, 507)
CONVERSATION = "/api/conversations/<conversation>"
RATING = "/api/messages/<message>/rating"
VOTE = "/api/duels/<duel>/vote"
ROUTES = (
    Route("GET", "/health", health, "Generate one token with the live version.", Health, errors=BUSY, free=True),
    Route("GET", "/api/me", me, "Who I am, what answers, and within which limits.", Me),
    Route("GET", "/api/conversations", list_conversations, "My conversations, newest first.", Conversations),
    Route("POST", "/api/conversations", create_conversation, "Open a conversation.", ConversationAnswer,
          NewConversation, status=201, errors=WRITES),
    Route("GET", CONVERSATION, read_conversation, "A conversation with all its branches.", Tree, errors=(404,)),
    Route("PATCH", CONVERSATION, rename_conversation, "Rename a conversation.", ConversationAnswer, Rename,
          errors=(404, *WRITES)),
    Route("DELETE", CONVERSATION, hide_conversation, "Take a conversation off the list; nothing is deleted.", Empty,
          errors=(404, *WRITES)),
    Route("POST", f"{CONVERSATION}/messages", say, "Say something; the reply streams.", None, Say,
          errors=REPLIES, events=REPLY_EVENTS),
    Route("POST", "/api/messages/<message>/regenerate", regenerate, "Another reply to the same turn.", None, Again,
          errors=REPLIES, events=REPLY_EVENTS),
    Route("POST", "/api/turns/<turn>/stop", stop_turn, "Stop a reply; what there is of it stays.", Stopped, Empty,
          errors=(404,)),
    Route("PUT", RATING, rate, "Judge a reply, or judge it otherwise.", RatingAnswer, RatingBody,
          errors=(404, *WRITES)),
    Route("DELETE", RATING, unrate, "Take the judgement back.", RatingAnswer, errors=(404, *WRITES)),
    Route("GET", "/api/duels/next", next_duel_prompt, "The prompt that a duel would be about.", NextPrompt,
          errors=(404,)),
    Route("POST", "/api/duels/next", other_duel_prompt, "Another prompt, in place of the one offered.", NextPrompt,
          Empty, errors=(404,)),
    Route("POST", "/api/duels", open_duel, "Two replies to one prompt, side by side, without names.", DuelAnswer,
          NewDuel, errors=REPLIES, events=DUEL_EVENTS),
    Route("POST", VOTE, vote, "Say which is better; then the names are told.", VoteAnswer, Vote,
          errors=(404, *WRITES)),
    Route("DELETE", VOTE, unvote, "Take the vote back.", NoVote, errors=(404, *WRITES)),
    Route("GET", "/api/monitor", monitor, "The figures of the monitor page.", Snapshot),
)  # fmt: skip
"""Method, path, view, what it does, answer, body."""
