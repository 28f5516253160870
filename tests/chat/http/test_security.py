"""Who may call the server: hosts, origins, tokens, cookies, bodies, and what its pages may do."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf.chat.http.security import CSP, MAX_BODY, Guard, choose_token, is_loopback, trusted_hosts
from rlhf.chat.settings import ServeSection
from rlhf.errors import UserError
from tests.chat.web_world import AUTH, TOKEN, client_of, run_of, save_version

OWN = "http://localhost"


@pytest.fixture(scope="module")
def client(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("run")
    save_version(folder / "sft", tokenizer)
    with client_of(run_of(folder)) as made:
        yield made


@pytest.fixture
def http(client):
    """A client without cookies."""
    return client.http.application.test_client()


def code(response) -> tuple[int, str]:
    return response.status_code, response.json["error"]["code"]


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "[::1]"])
def test_the_server_is_not_called_by_a_foreign_name(http, host):
    assert code(http.get("/api/me", headers=AUTH | {"Host": host})) == (400, "unknown_host")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.0.0.1:5000"])
def test_loopback_is_the_servers_name(http, host):
    assert http.get("/api/me", headers=AUTH | {"Host": host}).status_code == 200


@pytest.mark.parametrize("path", ["/api/me", "/health", "/v1/models", "/", "/api/conversations"])
@pytest.mark.parametrize("origin", ["null", "http://evil.example", "http://localhost.evil", "http://localhost:81", ""])
def test_a_foreign_origin_is_refused_everywhere(http, path, origin):
    assert http.get(path, headers=AUTH | {"Origin": origin}).status_code == 403


@pytest.mark.parametrize("origin", [OWN, "https://localhost"])  # the second: behind a proxy with TLS
def test_the_own_origin_may_write(http, origin):
    assert http.post("/api/conversations", json={}, headers=AUTH | {"Origin": origin}).status_code == 201


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_browser_on_another_site_reads_nothing(http, site):
    assert http.get("/health", headers={"Sec-Fetch-Site": site}).status_code == 403


@pytest.mark.parametrize(
    "value", [None, "", "Bearer", "Bearer ", "Bearer the-toke", "Bearer the-token2", "Basic the-token", "Bearer tökén"]
)
def test_without_the_token_nothing_is_told(http, value):
    headers = {} if value is None else {"Authorization": value}
    for path in ("/api/me", "/api/conversations", "/api/monitor"):
        assert code(http.get(path, headers=headers)) == (403, "forbidden")
    assert http.get("/v1/models", headers=headers).status_code in (401, 403)


def test_health_needs_no_token(http):
    assert http.get("/health").json["version"] == "sft"


def test_opening_the_address_sets_cookies_and_hides_the_token(http):
    response = http.get(f"/?token={TOKEN}")
    assert (response.status_code, response.location) == (303, "/")
    cookies = response.headers.getlist("Set-Cookie")
    assert len(cookies) == 2
    for cookie in cookies:
        assert "HttpOnly" in cookie and "SameSite=Strict" in cookie and TOKEN not in cookie
    user = http.get("/api/me").json["user"]
    assert user.startswith("web-") and len(user) == 26
    http.get(f"/?token={TOKEN}")
    assert http.get("/api/me").json["user"] == user  # whoever comes again is the same person


def test_a_wrong_token_in_the_address_sets_no_cookie(http):
    response = http.get("/?token=guess")
    assert response.status_code == 403 and not response.headers.getlist("Set-Cookie")
    assert "guess" not in response.text


def test_two_browsers_are_two_people(client):
    users = set()
    for _ in range(2):
        browser = client.http.application.test_client()
        browser.get(f"/?token={TOKEN}")
        users.add(browser.get("/api/me").json["user"])
    assert len(users) == 2


def test_two_servers_on_one_machine_keep_their_cookies_apart(http):
    """Cookies do not know ports."""
    first = http.get(f"/?token={TOKEN}", headers={"Host": "localhost:5000"})
    second = http.get(f"/?token={TOKEN}", headers={"Host": "localhost:5001"})
    names = [r.headers.getlist("Set-Cookie")[0].partition("=")[0] for r in (first, second)]
    assert names == ["rlhf_pass_5000", "rlhf_pass_5001"]


@pytest.mark.parametrize("name", ["web-AAAAAAAAAAAAAAAAAAAAAA", "a b", "ä", "", "x" * 65, "<script>"])
def test_a_program_cannot_be_a_browsers_user(http, name):
    assert http.get("/api/me", headers=AUTH | {"X-User": name.encode().decode("latin-1")}).status_code == 400


def test_a_program_says_who_it_is(http):
    assert http.get("/api/me", headers=AUTH).json["user"] == "api"
    assert http.get("/api/me", headers=AUTH | {"X-User": "ann@home"}).json["user"] == "ann@home"


def test_a_browser_is_nobody_else(http):
    http.get(f"/?token={TOKEN}")
    me = http.get("/api/me").json["user"]
    assert code(http.get("/api/me", headers={"X-User": "ann"})) == (403, "forbidden")
    wrong = {"Authorization": "Bearer guess", "X-User": "ann"}
    assert code(http.get("/api/me", headers=wrong)) == (403, "forbidden")
    body = {"model": "live", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1, "user": "ann"}
    reply = http.post("/v1/chat/completions", json=body).json["id"].removeprefix("chatcmpl-")
    assert http.put(f"/api/messages/{reply}/rating", json={"thumb": 1}).status_code == 200  # hers, not ann's
    assert http.get("/api/me", headers=AUTH | {"X-User": "ann"}).json["user"] == "ann"  # a program with the token
    for value in ("", "ann", "web-short"):
        http.set_cookie("rlhf_user", value)
        assert code(http.get("/api/me")) == (403, "forbidden")
    http.get(f"/?token={TOKEN}")
    assert http.get("/api/me").json["user"] not in ("", me, "ann")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_only_json_is_read(http, kind):
    response = http.post("/api/conversations", data="{}", content_type=kind, headers=AUTH)
    assert code(response) == (403, "content_type")


def test_the_largest_body_and_one_more(http):
    def status(size: int) -> int:
        body = b'{"title": "' + b"x" * (size - 13) + b'"}'
        assert len(body) == size
        return http.post("/api/conversations", data=body, content_type="application/json", headers=AUTH).status_code

    assert status(MAX_BODY) == 400  # read, and its title is too long
    assert status(MAX_BODY + 1) == 413


def test_what_flask_leaves_unset_is_set(client):
    config = client.http.application.config
    assert config["TRUSTED_HOSTS"] == ["127.0.0.1", "localhost"]
    assert config["SESSION_COOKIE_SAMESITE"] == "Strict"
    assert config["MAX_CONTENT_LENGTH"] == 65536


@pytest.mark.parametrize("path", ["/health", "/api/me", "/nowhere", "/api/nowhere", "/openapi.json"])
def test_every_answer_has_the_headers(http, path):
    headers = http.get(path, headers=AUTH).headers
    assert headers["Content-Security-Policy"] == "; ".join(f"{name} {value}" for name, value in CSP.items())
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert "Access-Control-Allow-Origin" not in headers


def test_no_policy_lets_scripts_in_from_elsewhere(http):
    policies = [http.get(path, headers=AUTH).headers["Content-Security-Policy"] for path in ("/", "/duel", "/monitor")]
    for policy in policies:
        parts = dict(part.split(" ", 1) for part in policy.split("; "))
        assert parts["default-src"] == "'none'" and parts["script-src"] == parts["connect-src"] == "'self'"
        assert parts["frame-ancestors"] == parts["base-uri"] == "'none'"
    assert policies[0] == policies[1] and "unsafe" not in policies[0]


def test_the_token_is_in_no_log_and_no_event(client, http, caplog):
    caplog.set_level(0)
    http.get(f"/?token={TOKEN}")
    http.get(f"/nowhere?token={TOKEN}")
    http.get("/api/me", headers=AUTH)
    http.post("/api/conversations", data="{", content_type="application/json", headers=AUTH)
    assert TOKEN not in caplog.text
    assert all(TOKEN not in str(event) for event in client.service.store.events())


@given(st.text(max_size=30))
def test_only_the_token_is_the_token(text):
    assert Guard("secret").knows(text) == (text == "secret")


def test_a_token_is_drawn_anew_at_each_start(monkeypatch):
    monkeypatch.delenv("RLHF_TOKEN", raising=False)
    drawn = [choose_token(ServeSection()) for _ in range(2)]
    assert all(fresh for _, fresh in drawn) and drawn[0] != drawn[1]
    assert len(drawn[0][0]) == 43 and set(drawn[0][0]) <= set(string.ascii_letters + string.digits + "-_")


def test_a_token_is_given(monkeypatch):
    monkeypatch.setenv("RLHF_TOKEN", "from-the-environment")
    assert choose_token(ServeSection()) == ("from-the-environment", False)
    assert choose_token(ServeSection(token="from-the-settings")) == ("from-the-settings", False)


@pytest.mark.parametrize("token", ["", "with space", "ünïcode", "line\nbreak", "x" * 513])
def test_a_token_that_no_header_carries_is_refused(token):
    with pytest.raises(UserError, match="RLHF_TOKEN"):
        choose_token(ServeSection(token=token))


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "my-machine"])
def test_other_machines_are_let_in_only_with_a_token(monkeypatch, host):
    monkeypatch.delenv("RLHF_TOKEN", raising=False)
    with pytest.raises(UserError, match="no token was given"):
        choose_token(ServeSection(host=host))
    assert choose_token(ServeSection(host=host, token="given")) == ("given", False)


def test_names_of_the_server():
    assert trusted_hosts(ServeSection()) == ["127.0.0.1", "localhost"]
    assert trusted_hosts(ServeSection(host="0.0.0.0", trusted_hosts=["box"])) == ["127.0.0.1", "localhost", "box"]
    assert trusted_hosts(ServeSection(host="10.0.0.7")) == ["127.0.0.1", "localhost", "10.0.0.7"]
    assert [is_loopback(host) for host in ("localhost", "127.0.0.9", "10.0.0.7", "localhost.example")] == [
        True, True, False, False,
    ]  # fmt: skip
