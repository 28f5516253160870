"""Who may call the server, and what browsers may do with its pages.

The cookie's holder is the one user of a second cookie; a program that sends the token says itself who it is, since one
program may speak for many. Who has the token is trusted with all of it.

Every request passes `Guard.check`: a Host by which the server may be called (400), an Origin of its own or none, the
token, a JSON body (403 each), and no more than 64 kB (413). The token comes as `Authorization: Bearer …`, or in a
cookie that opening `/?token=…` sets. Every response gets the headers of `harden`.

A browser sends `Origin: null` for forms under `Referrer-Policy: no-referrer`; pages call with `fetch`, which does not.
"""

import hashlib
import hmac
import ipaddress
import os
import re
import secrets
from collections.abc import Sequence
from functools import partial

from flask import Request, Response, g
from werkzeug.exceptions import SecurityError
from werkzeug.wrappers import Response as BaseResponse

from rlhf.chat.http.refusals import JSON_PATHS, Refusal
from rlhf.chat.settings import ServeSection
from rlhf.errors import UserError

MAX_BODY = 64 * 1024
"""Bytes of a request's body."""
LOOPBACK = ("127.0.0.1", "localhost")
USER_COOKIE = "rlhf_user"
YEAR = 365 * 24 * 3600
TOKEN_VARIABLE = "RLHF_TOKEN"
OPEN_PATHS = ("/health", "/openapi.json", "/static/", "/assets/", "/favicon.ico")
"""What needs no token: it holds nothing of anybody."""
USER = re.compile(r"[\w.@+-]{1,64}", re.ASCII)
BROWSER_USER = re.compile(r"web-[\w-]{22}", re.ASCII)
CSP = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "connect-src": "'self'",
    "img-src": "'self' data:",
    "frame-ancestors": "'none'",
    "base-uri": "'none'",
    "form-action": "'self'",
}
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def choose_token(settings: ServeSection) -> tuple[str, bool]:
    """The token, and whether it was drawn here (then it may be printed: nobody else knows it yet).

    Raises:
        UserError: the token given is no word that a header can carry, or there is none though the address is not
            loopback.
    """
    given = settings.token if settings.token is not None else os.environ.get(TOKEN_VARIABLE)
    if given is not None:
        if not re.fullmatch(r"[!-~]{1,512}", given):
            raise UserError(
                "The token given cannot be sent in a header.",
                expected="1 to 512 letters, digits and signs without a space",
                remedy=f"{TOKEN_VARIABLE}=$(openssl rand -hex 32)",
            )
        return given, False
    if not is_loopback(settings.host):
        raise UserError(
            f"serve.host={settings.host} lets other machines in, and no token was given.",
            expected="a token that you choose, since others are to use it",
            remedy=f"{TOKEN_VARIABLE}=$(openssl rand -hex 32), or leave serve.host at 127.0.0.1",
        )
    return secrets.token_urlsafe(32), True


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def trusted_hosts(settings: ServeSection) -> list[str]:
    """Names by which the server may be called: against DNS rebinding, a foreign name is refused."""
    wildcard = settings.host in ("0.0.0.0", "")
    return list(dict.fromkeys([*LOOPBACK, *([] if wildcard else [settings.host]), *settings.trusted_hosts]))


class Guard:
    """Checks requests against one token."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.pass_word = hmac.new(token.encode(), b"browser cookie", hashlib.sha256).hexdigest()
        """What the cookie holds: whoever reads cookies does not learn the token."""

    def check(self, request: Request) -> None:
        """Refuse what may not pass, and set `g.user`, and `g.may_name`: whether the caller may name another one.

        Raises:
            Refusal: 400, 403 or 413, in this order: host, origin, token, content type, size.
        """
        if isinstance(request.routing_exception, SecurityError):
            raise Refusal(400, "unknown_host", "The server is not called by this name.",
                          expected="127.0.0.1, localhost, or a name of serve.trusted_hosts")  # fmt: skip
        page = not request.path.startswith((*JSON_PATHS, *OPEN_PATHS))
        self._check_origin(request, page)
        g.user, g.may_name = None, False
        if not request.path.startswith(OPEN_PATHS) and not (page and "token" in request.args):
            g.user = self._named(request) if self._has_token(request) else self._browser(request)
        self._check_body(request)

    def knows(self, token: str) -> bool:
        """Whether this is the token; takes equally long for any wrong one."""
        return hmac.compare_digest(token.encode(errors="replace"), self.token.encode())

    def cookie(self, request: Request) -> str:
        """The cookie's name. Cookies do not know ports, so that two servers on one machine need two names."""
        return f"rlhf_pass_{request.host.rpartition(':')[2] if ':' in request.host else 80}"

    def let_in(self, request: Request, response: BaseResponse) -> BaseResponse:
        """Give a browser that showed the token its cookies."""
        keep = partial(response.set_cookie, httponly=True, samesite="Strict", secure=request.is_secure)
        keep(self.cookie(request), self.pass_word)
        if not BROWSER_USER.fullmatch(request.cookies.get(USER_COOKIE, "")):
            keep(USER_COOKIE, f"web-{secrets.token_urlsafe(16)}", max_age=YEAR)
        return response

    def _check_origin(self, request: Request, page: bool) -> None:
        origin = request.headers.get("Origin")
        own = (f"http://{request.host}", f"https://{request.host}")  # https: a proxy before us speaks TLS
        if origin is not None and origin not in own:
            raise Refusal(403, "foreign_origin", "Another site may not call this server.",
                          expected="no Origin header, or the server's own")  # fmt: skip
        site = request.headers.get("Sec-Fetch-Site", "none")
        if not page and site not in ("same-origin", "none"):
            raise Refusal(403, "foreign_origin", "Another site may not call this server.")

    def _has_token(self, request: Request) -> bool:
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        return kind.lower() == "bearer" and self.knows(token.strip())

    def _browser(self, request: Request) -> str:
        """The random id of a browser that has the cookie; it cannot be another one."""
        cookie = request.cookies.get(self.cookie(request), "")
        todo = "Open the address that the server printed when it started."
        if not hmac.compare_digest(cookie.encode(errors="replace"), self.pass_word.encode()):
            expected = "the header Authorization: Bearer TOKEN, or the cookie that /?token=TOKEN sets"
            raise Refusal(403, "forbidden", "The token is missing or wrong.", expected=expected, todo=todo)
        user = request.cookies.get(USER_COOKIE, "")
        if not BROWSER_USER.fullmatch(user):
            raise Refusal(403, "forbidden", "The cookie that says who you are is missing.", todo=todo)
        if "X-User" in request.headers:
            raise Refusal(403, "forbidden", "A browser cannot name its user.",
                          expected="X-User only beside the header Authorization: Bearer TOKEN")  # fmt: skip
        return user

    def _named(self, request: Request) -> str:
        """The name that a program with the token gives itself."""
        g.may_name = True
        name = request.headers.get("X-User", "api")
        if not USER.fullmatch(name) or name.startswith("web-"):
            raise Refusal(400, "bad_request", "X-User is no name of a user.",
                          expected="1 to 64 of A-Z a-z 0-9 _ . @ + -, not starting with web-")  # fmt: skip
        return name

    def _check_body(self, request: Request) -> None:
        if request.method in ("GET", "HEAD", "OPTIONS"):
            return
        size = request.content_length
        if request.mimetype != "application/json" and (size or request.mimetype):
            raise Refusal(403, "content_type", "Only JSON is read here.", expected="Content-Type: application/json")
        if size and size > MAX_BODY:
            raise Refusal(413, "too_large", f"The request has {size} bytes; {MAX_BODY} are the most.")


def harden(response: Response, styles: Sequence[str] = ()) -> Response:
    """Add the headers that keep a page to itself.

    Args:
        styles: further sources of style-src, for the one page whose library brings styles of its own.
    """
    policy = CSP | {"style-src": " ".join([CSP["style-src"], *styles])}
    response.headers["Content-Security-Policy"] = "; ".join(f"{name} {value}" for name, value in policy.items())
    for name, value in HEADERS.items():
        response.headers[name] = value
    response.headers.setdefault("Cache-Control", "no-store")
    return response
