"""Whether replies are made: one token, whoever asks for it, and however many do.

health = Health(engine, lambda: serving.live, timeout_s)
health.seconds()               # 0.02: how long one token took, within the last second
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from rlhf.chat.engine import Engine
from rlhf.chat.records import ReplySettings
from rlhf.records import ask

FRESH_SECONDS = 1.0
"""How old an answer may be, and how long an answer in the making is waited for by others than the one who makes it."""
ONE_TOKEN = ReplySettings(temperature=0, max_tokens=1)


@dataclass
class _Look:
    """An answer, perhaps in the making."""

    version: str
    began: float = field(default_factory=time.monotonic)
    seconds: Future[float] = field(default_factory=Future)

    @property
    def age(self) -> float:
        return time.monotonic() - self.began


class Health:
    """Generates a token at a time, however many ask: anybody may ask, and each token costs as much as a reply's first.

    Args:
        engine: that is asked.
        live: the version that answers.
        timeout_s: seconds that a token may take.
    """

    def __init__(self, engine: Engine, live: Callable[[], str], timeout_s: float) -> None:
        self.engine, self.live, self.timeout_s = engine, live, timeout_s
        self._look: _Look | None = None
        self._lock = threading.Lock()

    def seconds(self) -> tuple[str, float]:
        """The live version, and how long it took for one token.

        Raises:
            TimeoutError: it took too long, or is taking longer than a second for somebody else.
            As `Engine.submit`, and `GenerationFailed`.
        """
        with self._lock:
            look, version = self._look, self.live()
            mine = look is None or (look.seconds.done() and (look.age > FRESH_SECONDS or look.version != version))
            if mine or look is None:
                look = self._look = _Look(version)
        if mine:
            self._generate(look)
        return look.version, look.seconds.result(max(0.0, FRESH_SECONDS - look.age))

    def _generate(self, look: _Look) -> None:
        try:
            generation = self.engine.submit(ask("Hello"), look.version, ONE_TOKEN, urgent=True)
            try:
                generation.result(self.timeout_s)
            finally:
                generation.cancel()  # nobody waits for it any longer
            look.seconds.set_result(look.age)
        except BaseException as error:
            look.seconds.set_exception(error)
