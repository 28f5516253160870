"""Texts that would run a script, open a dialog or ask for something elsewhere, were they shown carelessly."""

from typing import Any

ELSEWHERE = "https://evil.example"
MARK = "__ran.push(1)"
"""What a script does that runs; see `conftest.FLAG`."""

PAYLOADS = (
    f"<script>{MARK}</script>",
    f"<script src={ELSEWHERE}/a.js></script>",
    f"<script>alert('{ELSEWHERE}')</script>",
    f"<img src=x onerror={MARK}>",
    f"<img src={ELSEWHERE}/b.png>",
    f'<svg onload="{MARK}"></svg>',
    f"<svg><script>{MARK}</script></svg>",
    f"<svg><animate onbegin={MARK} attributeName=x dur=1s>",
    f'<iframe src="javascript:parent.{MARK}"></iframe>',
    f"<iframe srcdoc='<script>parent.{MARK}</script>'></iframe>",
    f'<object data="{ELSEWHERE}/c.swf"></object>',
    f"<embed src={ELSEWHERE}/d>",
    f"<link rel=stylesheet href={ELSEWHERE}/e.css>",
    f"<style>@import '{ELSEWHERE}/f.css'; *{{background:url({ELSEWHERE}/g.png)}}</style>",
    f'<meta http-equiv="refresh" content="0;url={ELSEWHERE}">',
    f'<base href="{ELSEWHERE}/">',
    f"<body onload={MARK}>",
    f"<input autofocus onfocus={MARK}>",
    f"<details open ontoggle={MARK}>x</details>",
    f"<video><source onerror={MARK}></video>",
    f"<audio src={ELSEWHERE}/h.mp3 autoplay></audio>",
    f"<math><mtext><table><mglyph><style><img src=x onerror={MARK}>",
    f'"><img src=x onerror={MARK}>',
    f"</textarea><script>{MARK}</script>",
    f"</title><script>{MARK}</script>",
    f"<noscript><p title='</noscript><img src=x onerror={MARK}>'>",
    f"[a link](javascript:{MARK})",
    f"[a link](JaVaScRiPt:{MARK})",
    f"[a link](java\tscript:{MARK})",
    f"[a link](&#106;avascript:{MARK})",
    f"[a link](\x01javascript:{MARK})",
    f"[a link](data:text/html;base64,PHNjcmlwdD5wYXJlbnQ{MARK})",
    f"[a link](vbscript:{MARK})",
    f"<javascript:{MARK}>",
    f"[a link][1]\n\n[1]: javascript:{MARK}",
    f'[a link]({ELSEWHERE}/i "x\' onmouseover=\'{MARK}")',
    f"![an image]({ELSEWHERE}/j.png)",
    f"![an image](x\" onerror=\"{MARK})",
    f"![an image](javascript:{MARK})",
    f"[![both]({ELSEWHERE}/k.png)](javascript:{MARK})",
    f"```\"><img src=x onerror={MARK}>\n<script>{MARK}</script>\n```",
    f"`<img src=x onerror={MARK}>`",
    f"| <img src=x onerror={MARK}> |\n|---|\n| <script>{MARK}</script> |",
    f"{{{{constructor.constructor('{MARK}')()}}}} ${{{MARK}}} <%= {MARK} %>",
    "__proto__ constructor toString [x](__proto__)",
    f"\u202e<script>{MARK}</script>\u0000<img/src=x/onerror={MARK}>",
)  # fmt: skip

FOUND = """() => [...document.querySelectorAll("*")].flatMap((element) => [
  ...[...element.attributes].map(({ name }) => name).filter((name) => /^(on.*|srcdoc)$/i.test(name)),
  ...(element.closest("head") ? [] : ["SCRIPT", "IFRAME", "OBJECT", "EMBED", "LINK", "STYLE", "META", "BASE", "VIDEO",
    "AUDIO"].filter((name) => name === element.tagName)),
  ...(element.tagName === "IMG" && new URL(element.src).origin !== location.origin ? [element.src] : []),
  ...(element.tagName === "A" && element.href && !/^(https?|mailto):/.test(element.href) ? [element.href] : []),
])"""
"""What no text may become: handlers, elements that load or run something, links that are programs."""


def assert_harmless(page: Any) -> None:
    """No script has run and nothing was asked for; what is on the page could not, either."""
    assert page.evaluate("window.__ran") == []
    assert page.evaluate(FOUND) == []
    page.watch.check()
