"""The JSON API and the pages, on a random model: what is answered, and what is refused how."""

import json
import re

import pytest

from tests.chat.web_world import AUTH, TOKEN, client_of, events, run_of, save_version

GREEDY = {"temperature": 0}


@pytest.fixture(scope="module")
def client(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("run")
    save_version(folder / "sft", tokenizer, endless=True)  # with GREEDY, every reply has all its 8 tokens
    with client_of(
        run_of(folder, guardrails={"words": False, "requests_per_minute": 10_000, "max_characters": 30_000})
    ) as made:
        yield made


def error(response, status: int) -> dict:
    assert response.status_code == status, response.text
    assert response.mimetype == "application/json"
    assert set(response.json) == {"error"}
    return response.json["error"]


def test_a_reply_streams_and_is_kept(client):
    talk = client.open()
    sent = client.say(talk, "What is a cat?", settings=GREEDY)
    names = [name for name, _ in sent]
    assert names[0] == "start" and names[-1] == "done" and set(names[1:-1]) == {"delta"}
    text = "".join(data["text"] for name, data in sent if name == "delta")
    start, done = sent[0][1], sent[-1][1]
    assert text and done["message"]["content"] == text
    assert done["message"]["finish_reason"] == "length" and done["message"]["completion_tokens"] == 8
    tree = client.call("GET", f"/api/conversations/{talk}").json
    assert [message["role"] for message in tree["messages"]] == ["user", "assistant"]
    assert tree["messages"] == [start["user_message"], done["message"]]
    assert start["reply_id"] == done["message"]["id"] and done["message"]["parent"] == start["user_message"]["id"]


def test_what_people_may_see_of_a_message(client):
    message = client.say(client.open(), "A cat", settings=GREEDY)[-1][1]["message"]
    assert set(message) == {
        "id", "parent", "role", "content", "version", "settings", "finish_reason", "created", "blocked",
        "prompt_tokens", "completion_tokens", "seconds",
    }  # fmt: skip


def test_an_edit_and_another_reply_are_branches(client):
    talk = client.open()
    first = client.say(talk, "One", settings=GREEDY)[-1][1]["message"]
    client.say(talk, "Two", settings=GREEDY)
    with client.call("POST", f"/api/messages/{first['id']}/regenerate", {"settings": GREEDY}) as response:
        again = events(response.text)[-1][1]["message"]
    client.say(talk, "And?", parent=first["id"], settings=GREEDY)
    tree = client.call("GET", f"/api/conversations/{talk}").json["messages"]
    assert len(tree) == 7  # nothing is lost
    assert again["parent"] == first["parent"] and again["content"] == first["content"]


def test_a_conversation_from_first_to_last(client):
    made = client.call("POST", "/api/conversations", {"title": "Cats"})
    assert made.status_code == 201 and made.json["title"] == "Cats"
    path = f"/api/conversations/{made.json['id']}"
    assert client.call("PATCH", path, {"title": "Dogs"}).json["title"] == "Dogs"
    listed = client.call("GET", "/api/conversations").json["conversations"]
    assert "Dogs" in [talk["title"] for talk in listed]
    assert client.call("DELETE", path).status_code == 200
    listed = client.call("GET", "/api/conversations").json["conversations"]
    assert made.json["id"] not in [talk["id"] for talk in listed]


def test_what_is_somebody_elses_does_not_exist(client):
    talk = client.open()
    message = client.say(talk, "Mine", settings=GREEDY)[-1][1]["message"]["id"]
    said = {"parent": None, "content": "x"}
    for method, path, body in (
        ("GET", f"/api/conversations/{talk}", None),
        ("PATCH", f"/api/conversations/{talk}", {"title": "x"}),
        ("DELETE", f"/api/conversations/{talk}", None),
        ("POST", f"/api/conversations/{talk}/messages", said),
        ("POST", f"/api/messages/{message}/regenerate", {}),
        ("PUT", f"/api/messages/{message}/rating", {"thumb": 1}),
        ("DELETE", f"/api/messages/{message}/rating", None),
    ):
        assert error(client.call(method, path, body, X_User="eve"), 404)["code"] == "not_found"


def test_a_rating_is_given_changed_and_taken_back(client):
    talk = client.open()
    path = f"/api/messages/{client.say(talk, 'Rate me', settings=GREEDY)[-1][1]['message']['id']}/rating"
    assert client.call("PUT", path, {"thumb": 1, "helpful": 5}).json["rating"]["helpful"] == 5
    given = client.call("PUT", path, {"thumb": -1, "correction": "A better one"}).json["rating"]
    assert (given["thumb"], given["helpful"], given["correction"]) == (-1, None, "A better one")
    kept = client.call("GET", f"/api/conversations/{talk}").json["ratings"]
    assert list(kept.values()) == [given]
    assert client.call("DELETE", path).json == {"rating": None}
    assert client.call("GET", f"/api/conversations/{talk}").json["ratings"] == {}


def test_a_request_sent_again_does_nothing_new(client):
    first, second = (client.call("POST", "/api/conversations", {}, Idempotency_Key="k1").json for _ in range(2))
    assert first["id"] == second["id"]
    talk = first["id"]
    for _ in range(2):
        with client.call(
            "POST", f"/api/conversations/{talk}/messages", {"content": "Hi", "settings": GREEDY}, Idempotency_Key="k2"
        ) as response:
            assert events(response.text)[-1][0] == "done"
    assert len(client.call("GET", f"/api/conversations/{talk}").json["messages"]) == 2
    other = client.call("POST", f"/api/conversations/{talk}/messages", {"content": "Ho"}, Idempotency_Key="k2")
    assert error(other, 409)["code"] == "key_reused"


def test_a_duel_is_blind_until_the_vote(client):
    duel = client.call("POST", "/api/duels", {"prompt": "What is a dog?"})
    assert duel.status_code == 200 and "sft" not in duel.text
    assert set(duel.json) == {"duel", "prompt", "left", "right"} and duel.json["prompt"] == "What is a dog?"
    path = f"/api/duels/{duel.json['duel']}/vote"
    vote = client.call("POST", path, {"choice": "left", "latency_ms": 900})
    assert vote.json == {"choice": "left", "left": {"version": "sft"}, "right": {"version": "sft"}}
    assert client.call("DELETE", path).json == {"choice": None}
    assert error(client.call("POST", path, {"choice": "left"}, X_User="eve"), 404)


def test_the_title_belongs_to_the_request_that_names_it(client):
    made = client.call("POST", "/api/conversations", {"title": "Sums"}, Idempotency_Key="k3")
    assert made.json["title"] == "Sums"
    other = client.call("POST", "/api/conversations", {"title": "Others"}, Idempotency_Key="k3")
    assert error(other, 409)["code"] == "key_reused"


def test_a_duel_streams_both_sides(client):
    with client.call("POST", "/api/duels", {"prompt": "What is a sun?"}, Accept="text/event-stream") as response:
        sent = events(response.text)
        assert "sft" not in response.text and "version" not in response.text
    assert sent[0][0] == "start" and sent[-1][0] == "done"
    for side in ("left", "right"):
        text = "".join(data["text"] for name, data in sent if name == side)
        assert text == sent[-1][1][side]["text"]
    assert client.call("POST", f"/api/duels/{sent[0][1]['duel']}/vote", {"choice": "tie"}).status_code == 200


def test_the_conversation_of_a_duel_is_not_shown(client):
    duel = client.call("POST", "/api/duels", {"prompt": "What is a moon?"}).json["duel"]
    store = client.service.store
    talk = store.message(store.duel(duel).left).conversation
    assert error(client.call("GET", f"/api/conversations/{talk}"), 404)


def test_the_next_prompt_comes_from_the_data(client):
    offered = client.call("GET", "/api/duels/next").json
    assert re.fullmatch(r"What is a \w+\?", offered["prompt"]) and offered["chosen_by"] in ("active", "random")
    others = {client.call("POST", "/api/duels/next", {}).json["prompt"] for _ in range(30)}
    assert len(others) > 1
    last = client.call("POST", "/api/duels/next", {}).json
    assert client.call("GET", "/api/duels/next").json == last  # it stays until the duel begins


def test_who_i_am_and_within_which_limits(client):
    me = client.call("GET", "/api/me").json
    assert me == {
        "user": "api",
        "versions": ["sft"],
        "limits": {"context": 4096, "max_tokens": 8, "max_characters": 30000},
        "defaults": {"temperature": 0.7, "top_p": 1.0, "max_tokens": 8},
    }


@pytest.mark.parametrize("body", [b"{", b"", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"content": "\\ud800"}', b"1e999"])
def test_a_body_that_is_no_object(client, body):
    response = client.http.post(
        f"/api/conversations/{client.open()}/messages", data=body, content_type="application/json", headers=AUTH
    )
    assert error(response, 400)["code"] == "bad_request"


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "content"),
        ({"content": ""}, "content"),
        ({"content": " \n"}, "content"),
        ({"content": 3}, "content"),
        ({"content": "x", "parent": 3}, "parent"),
        ({"content": "x", "colour": "red"}, "colour"),
        ({"content": "x", "settings": {"temperature": 2.5}}, "settings.temperature"),
        ({"content": "x", "settings": {"temperature": "0"}}, "settings.temperature"),
        ({"content": "x", "settings": {"top_p": 0}}, "settings.top_p"),
        ({"content": "x", "settings": {"max_tokens": 0}}, "settings.max_tokens"),
        ({"content": "x", "settings": {"seed": -1}}, "settings.seed"),
        ({"content": "x", "settings": {"stop": [""]}}, "settings.stop.0"),
    ],
)
def test_a_wrong_field_is_named(client, body, named):
    said = client.call("POST", f"/api/conversations/{client.open()}/messages", body)
    assert error(said, 400)["message"].startswith(f"{named}: ")


def test_a_prompt_over_the_context_names_both_counts(client):
    said = {"content": "cat " * 5000, "settings": GREEDY}
    refused = error(client.call("POST", f"/api/conversations/{client.open()}/messages", said), 400)
    assert refused["code"] == "prompt_too_long"
    assert "4096" in refused["expected"] and re.search(r"\d{4,} tokens", refused["message"])


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/api/conversations/nope", None),
        ("POST", "/api/conversations/nope/messages", {"content": "x"}),
        ("POST", "/api/messages/nope/regenerate", {}),
        ("PUT", "/api/messages/nope/rating", {"thumb": 1}),
        ("POST", "/api/duels/nope/vote", {"choice": "left"}),
        ("DELETE", "/api/duels/nope/vote", None),
        ("GET", "/api/nowhere", None),
        ("GET", "/api", None),
    ],
)
def test_what_is_not_there(client, method, path, body):
    assert error(client.call(method, path, body), 404)["code"] == "not_found"


def test_an_unknown_parent_is_not_found(client):
    said = {"content": "x", "parent": "nope"}
    assert error(client.call("POST", f"/api/conversations/{client.open()}/messages", said), 404)


def test_a_method_that_is_not_there(client):
    response = client.call("PUT", "/api/me", {})
    assert error(response, 405)["code"] == "method_not_allowed"
    assert set(response.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}


def test_stopping_what_does_not_run(client):
    assert client.call("POST", "/api/turns/nope/stop", {}).json == {"stopped": False}


@pytest.mark.parametrize("key", ["", "with space", "x" * 201])
def test_an_idempotency_key_is_a_short_word(client, key):
    assert error(client.call("POST", "/api/conversations", {}, Idempotency_Key=key), 400)


def test_too_many_requests_say_when_to_come_again(client):
    slots = client.http.application.extensions["slots"]
    held = [slots.take() for _ in range(slots.limit)]
    try:
        refused = client.call("POST", f"/api/conversations/{client.open()}/messages", {"content": "x"})
        assert error(refused, 503)["code"] == "too_many_streams"
        assert int(refused.headers["Retry-After"]) >= 1
    finally:
        for slot in held:
            slot.give_back()
    assert slots.taken == 0


def test_a_fault_of_ours_tells_nothing(client, monkeypatch, caplog):
    monkeypatch.setattr(client.service.keeper, "conversations", lambda user: 1 / 0)
    refused = error(client.call("GET", "/api/conversations"), 500)
    assert refused["code"] == "internal" and "ZeroDivision" not in str(refused)
    assert "ZeroDivisionError" in caplog.text


def test_every_route_is_described(client):
    document = client.http.get("/openapi.json").json
    assert document["openapi"] == "3.1.0"
    served = {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in client.http.application.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
        if rule.rule.startswith(("/api", "/health"))
    }
    described = {
        (method.upper(), path)
        for path, methods in document["paths"].items()
        for method in methods
        if not path.startswith("/v1")
    }
    assert served == described
    assert {"/v1/models", "/v1/chat/completions"} <= set(document["paths"])


def test_every_reference_of_the_description_leads_somewhere(client):
    document = client.http.get("/openapi.json").json
    wanted = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert wanted and wanted <= set(document["components"]["schemas"])


def test_what_is_described_is_what_is_checked(client):
    body = client.http.get("/openapi.json").json["components"]["schemas"]["SettingsBody"]
    temperature = body["properties"]["temperature"]["anyOf"][0]
    assert (temperature["minimum"], temperature["maximum"]) == (0, 2)
    assert body["additionalProperties"] is False


def test_two_servers_on_one_folder(client):
    """What one of them stores, the other one shows."""
    with client_of(run_of(client.service.run_folder)) as other:
        talk = other.open()
        message = other.say(talk, "Hello", settings=GREEDY)[-1][1]["message"]
        assert client.call("PUT", f"/api/messages/{message['id']}/rating", {"thumb": 1}).status_code == 200
        assert other.call("GET", f"/api/conversations/{talk}").json["ratings"][message["id"]]["thumb"] == 1
    assert message in client.call("GET", f"/api/conversations/{talk}").json["messages"]


def test_plotly_comes_from_its_package(client):
    path = next(r.rule for r in client.http.application.url_map.iter_rules() if r.endpoint == "plotly")
    with client.http.get(path) as response:
        assert response.mimetype == "text/javascript" and b"plotly.js v" in response.data[:100]
        assert "immutable" in response.headers["Cache-Control"]


@pytest.mark.parametrize("path", ["/", "/duel", "/monitor"])
def test_a_page_is_for_those_who_know_the_token(client, path):
    browser = client.http.application.test_client()
    assert browser.get(path).status_code == 403
    browser.get(f"{path}?token={TOKEN}")
    page = browser.get(path)
    assert page.status_code == 200 and page.mimetype == "text/html"
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page.text)


def test_a_page_that_is_not_there_is_a_line_of_text(client):
    response = client.call("GET", "/nowhere")
    assert (response.status_code, response.mimetype) == (404, "text/plain")
