"""Bodies of the OpenAI-compatible API: what passes, what is refused and which parameter is named."""

import json
from typing import Any

import pytest

from rlhf.chat.http.openai_errors import APIError, parsed
from rlhf.chat.http.openai_types import ChatCompletionRequest
from rlhf.chat.settings import ChatSection
from rlhf.records import Message

HELLO = {"role": "user", "content": "Hello"}


def parse(**body: Any) -> ChatCompletionRequest:
    return parsed(ChatCompletionRequest, json.dumps({"model": "live", "messages": [HELLO]} | body).encode())


def refused(**body: Any) -> APIError:
    with pytest.raises(APIError) as caught:
        parse(**body)
    assert caught.value.status == 400
    return caught.value


def test_messages_become_a_conversation():
    asked = parse(
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "He"}, {"type": "text", "text": "llo"}]},
            {"role": "assistant", "content": "Hi", "refusal": None, "tool_calls": []},
            HELLO,
        ]
    )
    assert asked.conversation() == (
        Message("system", "Be brief."),
        Message("user", "Hello"),
        Message("assistant", "Hi"),
        Message("user", "Hello"),
    )


def test_what_is_left_open_is_the_chats_own():
    settings = parse().reply_settings(ChatSection(temperature=0.3, top_p=0.8))
    assert (settings.temperature, settings.top_p, settings.max_tokens) == (0.3, 0.8, None)
    assert (settings.seed, settings.stop) == (None, ())


def test_settings_are_taken_over():
    asked = parse(temperature=0, top_p=0.5, max_completion_tokens=7, seed=3, stop=["a", "b"])
    settings = asked.reply_settings(ChatSection())
    assert (settings.temperature, settings.top_p, settings.max_tokens) == (0, 0.5, 7)
    assert (settings.seed, settings.stop) == (3, ("a", "b"))
    assert parse(stop="x").reply_settings(ChatSection()).stop == ("x",)
    assert parse(max_tokens=5, max_completion_tokens=5).reply_settings(ChatSection()).max_tokens == 5


def test_nothing_but_the_likeliest_token_is_greedy():
    settings = parse(temperature=1, top_p=0).reply_settings(ChatSection())
    assert (settings.temperature, settings.top_p) == (0, 1)


HARMLESS: dict[str, Any] = {
    "n": 1,
    "tools": [],
    "tool_choice": "none",
    "logprobs": False,
    "top_logprobs": 0,
    "logit_bias": {},
    "frequency_penalty": 0,
    "presence_penalty": 0.0,
    "modalities": ["text"],
    "response_format": {"type": "text"},
    "reasoning_effort": "none",
    "store": False,
    "service_tier": "auto",
    "metadata": {"run": "1"},
    "user": "ann",
    "safety_identifier": "ann",
    "prompt_cache_key": "x",
    "parallel_tool_calls": True,
}


@pytest.mark.parametrize("name", HARMLESS)
def test_values_that_change_nothing_pass(name):
    parse(**{name: HARMLESS[name]})
    parse(**{name: None})


UNSUPPORTED: dict[str, Any] = {
    "n": 2,
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "functions": [{"name": "f"}],
    "tool_choice": "auto",
    "function_call": "auto",
    "logprobs": True,
    "top_logprobs": 3,
    "logit_bias": {"5": 1},
    "frequency_penalty": 0.5,
    "presence_penalty": -1,
    "modalities": ["text", "audio"],
    "audio": {"voice": "alloy", "format": "wav"},
    "prediction": {"type": "content", "content": "x"},
    "reasoning_effort": "high",
    "verbosity": "low",
    "web_search_options": {},
    "store": True,
    "service_tier": "flex",
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_cannot_be_honoured_is_refused_by_name(name):
    error = refused(**{name: UNSUPPORTED[name]})
    assert (error.param, error.code) == (name, "unsupported_parameter")
    assert name in error.message


def test_json_replies_are_refused():
    for kind in ({"type": "json_object"}, {"type": "json_schema", "json_schema": {"name": "x"}}):
        error = refused(response_format=kind)
        assert error.code == "unsupported_parameter" or error.param == "response_format.json_schema"
        assert error.param.startswith("response_format")


INVALID: dict[str, tuple[dict[str, Any], str]] = {
    "text for a number": ({"temperature": "1"}, "temperature"),
    "too hot": ({"temperature": 2.1}, "temperature"),
    "above one": ({"top_p": 1.1}, "top_p"),
    "no tokens": ({"max_tokens": 0}, "max_tokens"),
    "a whole number as a fraction": ({"max_tokens": 1.5}, "max_tokens"),
    "true for a number": ({"seed": True}, "seed"),
    "five stops": ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
    "an empty stop": ({"stop": ""}, "stop"),
    "no messages": ({"messages": []}, "messages"),
    "an unknown role": ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
    "no content": ({"messages": [{"role": "user"}]}, "messages[0].content"),
    "null content": ({"messages": [{"role": "assistant", "content": None}, HELLO]}, "messages[0].content"),
    "an image": (
        {"messages": [HELLO, {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
        "messages[1].content[0].type",
    ),
    "a name": ({"messages": [HELLO | {"name": "ann"}]}, "messages[0].name"),
    "the last turn is not the user's": ({"messages": [{"role": "assistant", "content": "x"}]}, "messages"),
    "usage without a stream": ({"stream_options": {"include_usage": True}}, "stream_options"),
    "two limits": ({"max_tokens": 3, "max_completion_tokens": 4}, "max_tokens"),
    "a browser's user": ({"user": "web-abc"}, "user"),
    "an unknown parameter": ({"temprature": 1}, "temprature"),
    "no model": ({"model": ""}, "model"),
}


@pytest.mark.parametrize("case", INVALID)
def test_bad_values_are_refused_by_place(case):
    body, param = INVALID[case]
    assert refused(**body).param == param


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b'{"model": "live"}', b'"\\ud800"', b"\xff"])
def test_what_is_no_body_is_refused(data):
    with pytest.raises(APIError) as caught:
        parsed(ChatCompletionRequest, data)
    assert caught.value.status == 400 and caught.value.message


def test_half_a_character_is_refused():
    data = b'{"model": "live", "messages": [{"role": "user", "content": "\\ud800"}]}'
    with pytest.raises(APIError):
        parsed(ChatCompletionRequest, data)
