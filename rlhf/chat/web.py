"""The web application: pages, the JSON API, the OpenAI-compatible one, and who may call them.

    app = create_app(service, config, token)
    serve(app, …)                               rlhf.chat.http.server

GET /  /duel  /monitor                          pages
/api/…  /health                                 rlhf.chat.http.api
/v1/…                                           rlhf.chat.http.openai_api
GET /openapi.json                               all of it, described
"""

from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING

from flask import Flask, Response, jsonify, redirect, render_template, request, send_file
from werkzeug.wrappers import Response as BaseResponse

from rlhf.chat.http import api, openai_api, refusals, routes
from rlhf.chat.http.refusals import Refusal
from rlhf.chat.http.security import MAX_BODY, YEAR, Guard, harden, trusted_hosts
from rlhf.chat.http.spec import OPENAI, openapi
from rlhf.chat.http.sse import Slots
from rlhf.config import Config

if TYPE_CHECKING:
    from rlhf.chat.service import ChatService

PAGES = {"/": "chat", "/duel": "duel", "/monitor": "monitor"}
"""Path → template, without its ending."""
MONITOR_STYLES = ("'unsafe-inline'",)
"""Plotly styles its plots by attributes and by a style element. Styles, not scripts; on this page alone."""


def create_app(service: "ChatService", config: Config, token: str) -> Flask:
    """The application.

    Args:
        service: what is served.
        config: section `serve`.
        token: what every caller must know, but for /health.
    """
    app = Flask("rlhf.chat")
    app.config.update(
        TRUSTED_HOSTS=trusted_hosts(config.serve),
        MAX_CONTENT_LENGTH=MAX_BODY,
        SESSION_COOKIE_SAMESITE="Strict",
        SESSION_COOKIE_HTTPONLY=True,
        PROPAGATE_EXCEPTIONS=False,
    )
    app.json.sort_keys = False  # type: ignore[attr-defined]
    guard, slots = Guard(token), Slots(config.serve.streams)
    app.extensions["slots"] = slots
    app.before_request(lambda: guard.check(request))
    app.after_request(_finish)
    refusals.install(app)
    routes.register(app, api.ROUTES, service, slots)
    _add_pages(app, guard)
    app.register_blueprint(openai_api.blueprint(service))  # its replies take places among `slots`, too
    document = openapi((*api.ROUTES, *OPENAI))
    app.add_url_rule("/openapi.json", "openapi", lambda: jsonify(document))
    return app


def _finish(response: Response) -> Response:
    styles = MONITOR_STYLES if request.path == "/monitor" else ()
    return harden(response, styles)


def _add_pages(app: Flask, guard: Guard) -> None:
    def page(name: str) -> BaseResponse | str:
        token = request.args.get("token")
        if token is None:
            return render_template(f"{name}.html", page=name)
        if not guard.knows(token):
            raise Refusal(403, "forbidden", "The token is wrong.",
                          todo="Open the address that the server printed when it started.")  # fmt: skip
        return guard.let_in(request, redirect(request.path, 303))  # the token leaves the address bar

    for path, name in PAGES.items():
        app.add_url_rule(path, name, page, defaults={"name": name})
    plotly = Path(str(resources.files("plotly"))) / "package_data" / "plotly.min.js"
    app.add_url_rule(f"/assets/plotly-{metadata.version('plotly')}.min.js", "plotly", lambda: _forever(plotly))


def _forever(path: Path) -> Response:
    """A file that never changes under its address."""
    response = send_file(path, mimetype="text/javascript", max_age=YEAR, conditional=True)
    response.headers["Cache-Control"] = f"public, max-age={YEAR}, immutable"
    return response
