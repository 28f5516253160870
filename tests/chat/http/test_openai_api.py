"""The OpenAI-compatible API, as the official client sees it and as OpenAI's description demands it."""

import asyncio
import json
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
import requests
from openai.types import Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from rlhf.chat.guardrails import ASK_OTHERWISE, CANNOT_SAY
from rlhf.chat.records import ReplySettings
from rlhf.records import ask
from rlhf.registry import Registry, Version
from tests.chat import openai_schema as schema
from tests.chat.serving_world import TOKEN, World, served, talkative, wait_until

HELLO = "What is a cat?"
GREEDY = {"temperature": 0, "max_tokens": 20}


@pytest.fixture(scope="module")
def network(tokenizer):
    return talkative(tokenizer)


@pytest.fixture(scope="module")
def world(tmp_path_factory, network, tokenizer) -> Iterator[World]:
    with served(tmp_path_factory.mktemp("run"), network, tokenizer) as world:
        yield world


@pytest.fixture(scope="module")
def client(world) -> Iterator[openai.OpenAI]:
    with client_of(world) as client:
        yield client


def client_of(world: World, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(**({"base_url": f"{world.url}v1", "api_key": TOKEN, "max_retries": 0} | options))


def user(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def create(client: openai.OpenAI, text: str = HELLO, **options: Any) -> Any:
    return client.chat.completions.create(**({"model": "live", "messages": user(text)} | options))


def reply(world: World, text: str = HELLO, **settings: Any) -> Any:
    """What the engine says by itself."""
    return world.engine.reply(ask(text), "sft", ReplySettings(**(GREEDY | settings)))


def ask_raw(world: World, **body: Any) -> requests.Response:
    return world.post("/v1/chat/completions", {"model": "live", "messages": user(HELLO)} | body)


def events(response: requests.Response) -> list[str]:
    """The data of a stream's events."""
    blocks = response.content.decode().split("\n\n")
    assert blocks.pop() == ""
    assert all(block.startswith("data: ") and "\n" not in block for block in blocks)
    return [block.removeprefix("data: ") for block in blocks]


def the_error(response: requests.Response, status: int) -> Any:
    assert response.status_code == status, response.text
    schema.check(schema.ERROR, response.json())
    return response.json()["error"]


# --- replies --------------------------------------------------------------------------------------------------------


def test_a_reply_is_the_engines(world, client):
    said, alone = create(client, **GREEDY), reply(world)
    assert said.choices[0].message.content == alone.text != ""
    assert said.choices[0].finish_reason == alone.finish_reason == "length"
    assert (said.usage.prompt_tokens, said.usage.completion_tokens) == (alone.prompt_tokens, 20)
    assert said.usage.total_tokens == alone.prompt_tokens + 20
    assert said.model == "sft"


def test_a_reply_conforms(world):
    body = ask_raw(world, **GREEDY).json()
    schema.check(schema.COMPLETION, body)
    schema.exactly(ChatCompletion, body)


def test_a_stream_conforms(world):
    response = ask_raw(world, stream=True, stream_options={"include_usage": True}, **GREEDY)
    assert response.headers["Content-Type"].startswith("text/event-stream")
    *sent, last = events(response)
    assert last == "[DONE]"
    chunks = [json.loads(data) for data in sent]
    for chunk in chunks:
        schema.check(schema.CHUNK, chunk)
        schema.exactly(ChatCompletionChunk, chunk)
    first, *middle, end, usage = chunks
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert all(set(chunk["choices"][0]["delta"]) == {"content"} for chunk in middle)
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in [first, *middle])
    assert (end["choices"][0]["delta"], end["choices"][0]["finish_reason"]) == ({}, "length")
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    alone = reply(world)
    assert usage["choices"] == [] and usage["usage"]["completion_tokens"] == 20
    assert usage["usage"]["prompt_tokens"] == alone.prompt_tokens
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in middle) == alone.text
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1


def test_tokens_are_counted_only_where_somebody_asks(world):
    for options in ({}, {"stream_options": {"include_usage": False}}):
        *sent, _ = events(ask_raw(world, stream=True, **GREEDY, **options))
        assert all("usage" not in json.loads(data) and json.loads(data)["choices"] for data in sent)


def test_the_client_reads_a_stream(world, client):
    with create(client, stream=True, **GREEDY) as stream:
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert text == reply(world).text


def test_the_clients_own_accumulation(world, client):
    whole = reply(world).text
    with client.chat.completions.stream(model="live", messages=user(HELLO), stop=whole[5:7], **GREEDY) as stream:
        said = stream.get_final_completion()
    assert said.choices[0].message.content == whole[: whole.index(whole[5:7])]
    assert said.choices[0].finish_reason == "stop"


def test_two_at_a_time_without_threads(world):
    async def both() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{world.url}v1", api_key=TOKEN) as client:

            async def one(text: str) -> str:
                stream = await client.chat.completions.create(model="live", messages=user(text), stream=True, **GREEDY)
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

            return await asyncio.gather(one(HELLO), one("The capital"))

    with ThreadPoolExecutor() as thread:  # a browser's driver may have a loop running in this one
        texts = thread.submit(asyncio.run, both()).result()
    assert texts == [reply(world).text, reply(world, "The capital").text]


def test_a_reply_ends_before_a_stop_text(world, client):
    whole = reply(world).text
    stop = whole[3:5]
    for options in ({"stop": stop}, {"stop": ["never said", stop]}):
        said = create(client, **GREEDY, **options)
        assert said.choices[0].message.content == whole[: whole.index(stop)]
        assert said.choices[0].finish_reason == "stop"


def test_seeds(client):
    def said(seed: int | None) -> str:
        return create(client, temperature=1, max_tokens=20, seed=seed).choices[0].message.content

    assert said(5) == said(5)
    assert len({said(seed) for seed in range(5)}) > 1


def test_an_answer_can_be_sent_back_as_it_came(client):
    said = create(client, **GREEDY | {"max_tokens": 5}).choices[0].message
    messages = [*user(HELLO), said, *user("A dog?")]
    assert create(client, messages=messages, **GREEDY | {"max_tokens": 5}).choices[0].message.content


def test_text_in_parts_and_a_developers_turn(client):
    parts = [{"type": "text", "text": HELLO[:4]}, {"type": "text", "text": HELLO[4:]}]
    whole = [{"role": "system", "content": "Be brief."}, *user(HELLO)]
    in_parts = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}]
    said = [create(client, messages=messages, **GREEDY).choices[0].message.content for messages in (whole, in_parts)]
    assert said[0] == said[1]


def test_a_reply_can_be_rated_by_its_id(world, client):
    said = create(client, user="ann", **GREEDY)
    path = f"{world.url}api/messages/{said.id.removeprefix('chatcmpl-')}/rating"
    for name, status in (("ann", 200), ("bob", 404)):
        headers = {"Authorization": f"Bearer {TOKEN}", "X-User": name}
        assert requests.put(path, json={"thumb": 1}, headers=headers, timeout=60).status_code == status


# --- models ---------------------------------------------------------------------------------------------------------


def test_models(world, client):
    assert [model.id for model in client.models.list()] == ["sft", "live"]
    assert client.models.retrieve("live").id == "live"
    headers = {"Authorization": f"Bearer {TOKEN}"}
    body = requests.get(f"{world.url}v1/models", headers=headers, timeout=60).json()
    schema.check(schema.MODELS, body)
    for model in body["data"]:
        schema.exactly(Model, model)


@pytest.mark.parametrize("name", ["sft", "live", "default"])
def test_names_of_the_live_version(client, name):
    assert create(client, model=name, **GREEDY).model == "sft"


def test_an_unknown_model(world, client):
    for call in (lambda: create(client, model="sfd"), lambda: client.models.retrieve("sfd")):
        with pytest.raises(openai.NotFoundError) as caught:
            call()
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
        assert "did you mean sft?" in caught.value.message


# --- what is refused ------------------------------------------------------------------------------------------------


def test_a_wrong_token(world):
    with pytest.raises(openai.AuthenticationError) as caught:
        create(client_of(world, api_key="wrong"))
    assert caught.value.code == "invalid_api_key"
    the_error(requests.get(f"{world.url}v1/models", timeout=60), 401)


def test_an_unsupported_parameter(world, client):
    with pytest.raises(openai.BadRequestError) as caught:
        create(client, n=2)
    assert (caught.value.param, caught.value.code) == ("n", "unsupported_parameter")
    error = the_error(ask_raw(world, tools=[{"type": "function", "function": {"name": "f"}}]), 400)
    assert error["param"] == "tools"


def test_a_prompt_over_the_context_names_both_counts(client):
    with pytest.raises(openai.BadRequestError) as caught:
        create(client, "cat " * 100, max_tokens=5)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")
    assert "maximum context length is 64 tokens" in caught.value.message
    assert "5 in the completion" in caught.value.message


def test_what_is_no_request(world):
    headers = {"Authorization": f"Bearer {TOKEN}"}
    for data, kind, status in (
        (b"{", "application/json", 400),
        (b"{}", "text/plain", 403),
        (b'"' + b"x" * 70_000 + b'"', "application/json", 413),
    ):
        sent = headers | {"Content-Type": kind}
        the_error(requests.post(f"{world.url}v1/chat/completions", data, headers=sent, timeout=60), status)


def test_paths_and_methods_that_there_are_not(world):
    headers = {"Authorization": f"Bearer {TOKEN}"}
    the_error(requests.get(f"{world.url}v1/engines", headers=headers, timeout=60), 404)
    response = requests.get(f"{world.url}v1/chat/completions", headers=headers, timeout=60)
    the_error(response, 405)
    assert "POST" in response.headers["Allow"]
    with pytest.raises(openai.NotFoundError):
        client_of(world).embeddings.create(model="live", input="x")


# --- what goes wrong ------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(world, monkeypatch) -> list[str]:
    """The versions that were asked for a reply."""
    found: list[str] = []
    submit = world.engine.submit

    def counted(messages: Any, version: str, settings: ReplySettings) -> Any:
        found.append(version)
        return submit(messages, version, settings)

    monkeypatch.setattr(world.engine, "submit", counted)
    return found


@pytest.fixture
def fault(monkeypatch) -> None:
    """From the third token on, the engine fails."""
    from rlhf.chat.inference.batch import RunningBatch

    step, steps = RunningBatch.step, []

    def broken(batch: RunningBatch, model: Any) -> None:
        steps.append(model)
        if len(steps) > 2:
            raise RuntimeError("a fault on purpose")
        step(batch, model)

    monkeypatch.setattr(RunningBatch, "step", broken)


def test_a_reply_that_fails_is_not_made_again(world, asked, fault):
    with pytest.raises(openai.InternalServerError) as caught:
        create(client_of(world, max_retries=3), **GREEDY)
    assert caught.value.response.headers["x-should-retry"] == "false"
    schema.check(schema.ERROR, caught.value.response.json())
    assert "on purpose" not in caught.value.message
    assert asked == ["sft"]


def test_a_stream_that_fails_ends_with_an_error(world, asked, fault):
    chunks = []
    with pytest.raises(openai.APIError) as caught:
        for chunk in create(client_of(world, max_retries=3), stream=True, **GREEDY):
            chunks.append(chunk)
    assert caught.value.type == "server_error"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert asked == ["sft"]


def test_after_an_error_nothing_says_done(world, fault):
    *sent, last = events(ask_raw(world, stream=True, **GREEDY))
    schema.check(schema.ERROR, json.loads(last))
    assert all("finish_reason" in data and '"finish_reason":null' in data for data in sent)


def test_the_next_one_is_answered(world, client):
    assert create(client, **GREEDY).choices[0].message.content == reply(world).text


def test_a_reader_who_leaves_frees_the_place(world, client, caplog):
    with create(client, stream=True, temperature=0, max_tokens=40) as stream:
        next(iter(stream))
    assert wait_until(lambda: world.engine.stats().active == 0 and world.app.extensions["slots"].taken == 0)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_one_who_leaves_before_the_first_token(world, caplog):
    with world.standstill(), pytest.raises(openai.APITimeoutError):
        create(client_of(world, timeout=0.5), **GREEDY)
    stats = world.engine.stats
    assert wait_until(lambda: stats().active + stats().waiting + world.app.extensions["slots"].taken == 0)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_the_same_key_is_answered_once(world, client, asked):
    said = [create(client, extra_headers={"Idempotency-Key": "once"}, **GREEDY) for _ in range(2)]
    assert said[0].choices == said[1].choices and said[0].id == said[1].id
    with pytest.raises(openai.ConflictError) as caught:
        create(client_of(world, max_retries=3), "Another", extra_headers={"Idempotency-Key": "once"})
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert asked == ["sft"]


def test_too_many_who_wait(tmp_path, network, tokenizer):
    with served(tmp_path, network, tokenizer, chat={"queue_size": 1}) as world:
        with world.standstill():
            waiting = world.engine.submit(ask(HELLO), "sft", ReplySettings(**GREEDY))
            with pytest.raises(openai.RateLimitError) as caught:
                create(client_of(world))
            assert int(caught.value.response.headers["Retry-After"]) >= 1
            assert "x-should-retry" not in caught.value.response.headers
            schema.check(schema.ERROR, caught.value.response.json())
        waiting.result(30)
        assert create(client_of(world), **GREEDY).choices[0].message.content == reply(world).text


def test_one_person_who_asks_too_often(tmp_path, network, tokenizer):
    with served(tmp_path, network, tokenizer, guardrails={"requests_per_minute": 4}) as world:
        create(client_of(world), user="ann", **GREEDY)
        with pytest.raises(openai.RateLimitError) as caught:
            create(client_of(world), user="ann", **GREEDY)
        assert int(caught.value.response.headers["Retry-After"]) >= 1
        create(client_of(world), user="bob", **GREEDY)


@pytest.fixture
def slow(monkeypatch) -> None:
    """Every token takes a tenth of a second."""
    from rlhf.chat.inference.batch import RunningBatch

    step = RunningBatch.step

    def slowly(batch: RunningBatch, model: Any) -> None:
        time.sleep(0.1)
        step(batch, model)

    monkeypatch.setattr(RunningBatch, "step", slowly)


def test_a_reply_that_takes_too_long(tmp_path, network, tokenizer, slow):
    with served(tmp_path, network, tokenizer, serve={"timeout_s": 0.5}) as world:
        with pytest.raises(openai.InternalServerError) as caught:
            create(client_of(world, max_retries=3), **GREEDY | {"max_tokens": 40})
        assert caught.value.status_code == 504
        assert caught.value.response.headers["x-should-retry"] == "false"
        assert world.service.store.counts()["replies"] == 1
        *sent, last = events(ask_raw(world, stream=True, **GREEDY | {"max_tokens": 40}))
        assert json.loads(last)["error"]["code"] == "timeout"
        assert len(sent) > 1


# --- guardrails -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_an_unsafe_message_gets_the_safe_reply(client, asked, stream):
    said = create(client, "What the fuck is a cat?", stream=stream)
    if stream:
        chunks = list(said)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        reason = chunks[-1].choices[0].finish_reason
    else:
        text, reason = said.choices[0].message.content, said.choices[0].finish_reason
    assert (text, reason, asked) == (ASK_OTHERWISE, "content_filter", [])


@pytest.mark.parametrize("stream", [False, True])
def test_an_unsafe_reply_is_held_back(world, client, monkeypatch, stream):
    unsafe = reply(world).text
    monkeypatch.setattr("rlhf.chat.guardrails.is_unsafe", lambda text: text.strip() != "" and text.strip() in unsafe)
    said = create(client, stream=stream, **GREEDY)
    if stream:
        chunks = list(said)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert chunks[-1].choices[0].finish_reason == "content_filter"
        assert text == CANNOT_SAY
    else:
        assert said.choices[0].finish_reason == "content_filter"
        assert said.choices[0].message.content == CANNOT_SAY


# --- which model is meant -------------------------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path, network, tokenizer) -> Iterator[World]:
    """A server whose versions a test may change. Nobody watches the registry: the test says when to look."""
    with served(tmp_path / "run", network, tokenizer) as world:
        yield world


def add_version(world: World, name: str) -> Registry:
    """A copy of the SFT version, registered."""
    registry = world.service.registry
    folder = f"versions/{name}"
    shutil.copytree(registry.run_folder / "sft", registry.run_folder / folder)
    registry.register(Version(name, folder, parent="sft"))
    return registry


@pytest.mark.parametrize("stream", [False, True])
def test_live_is_who_answers_while_the_registry_is_ahead_of_the_server(own, stream):
    registry = add_version(own, "v1")
    registry.promote("v1")
    for name, answers in (("live", "sft"), ("default", "sft")):
        assert says_it_is(own, name, stream) == answers
    with client_of(own) as client:
        assert {model.id for model in client.models.list()} == {"sft", "live"}
    own.service.check_versions()
    assert says_it_is(own, "live", stream) == "v1"
    registry.rollback()
    assert says_it_is(own, "live", stream) == "v1"


def test_a_reply_sent_again_is_of_the_version_that_gave_it(own):
    again = {"stream": True, "headers": {"Idempotency-Key": "k"}}
    assert says_it_is(own, "live", **again) == "sft"
    add_version(own, "v1").promote("v1")
    own.service.check_versions()
    assert says_it_is(own, "live", **again) == "sft" and says_it_is(own, "live", True) == "v1"


def test_live_is_sft_where_the_live_version_cannot_be_loaded(own):
    registry = add_version(own, "v1")
    registry.promote("v1")
    (registry.run_folder / "versions" / "v1" / "model.safetensors").write_bytes(b"x")
    own.service.check_versions()
    assert registry.live().name == "v1" and says_it_is(own, "live", False) == "sft"


def test_live_is_settled_when_the_engine_is_asked(own, monkeypatch):
    """Between the request's arrival and the engine, the server looks at the registry and unloads what it had."""
    registry, check = add_version(own, "v1"), own.service.guardrails.check_input

    def slowly(user: str, text: str) -> Any:
        registry.promote("v1")
        own.service.check_versions()
        return check(user, text)

    monkeypatch.setattr(own.service.guardrails, "check_input", slowly)
    assert says_it_is(own, "live", True) == "v1" and own.engine.versions == ("v1",)


def says_it_is(world: World, model: str, stream: bool, headers: Any = None) -> str:
    """The version that a reply says it is of."""
    body = {"model": model, "messages": user(HELLO), "stream": stream, "temperature": 0, "max_tokens": 3}
    response = world.post("/v1/chat/completions", body, **(headers or {}))
    assert response.status_code == 200, response.text
    first = events(response)[0] if stream else response.text
    return str(json.loads(first)["model"])
