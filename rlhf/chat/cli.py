"""The chat in a terminal: reads a line, obeys it or says it to the model, and shows the reply as it comes.

    Terminal(dialogue, ConversationFolder(folder), reader, screen).run()

Ctrl-C stops a reply and keeps what was said. At the prompt it leaves: at once after a stopped reply, else at the
second time.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rlhf.chat.engine import QueueFull
from rlhf.chat.inference.generation import GenerationFailed
from rlhf.chat.terminal.commands import Order, help_text, parse
from rlhf.chat.terminal.conversations import ConversationFolder, NameTaken
from rlhf.chat.terminal.dialogue import Answer, Dialogue
from rlhf.chat.terminal.reader import Reader
from rlhf.chat.terminal.screen import Screen
from rlhf.chat.terminal.selftest import self_test
from rlhf.chat.terminal.transcript import Transcript
from rlhf.errors import UserError

OFF = ("off", "none", "-")
_ENDINGS = {
    "length": "cut here: the reply has as many tokens as it may have",
    "cancelled": "stopped",
    "error": "the reply broke off here",
}


class Terminal:
    """See the module.

    Args:
        dialogue: with the version that answers.
        kept: where `save` and `load` find conversations.
        reader: gives the lines.
        screen: shows what comes back.
    """

    def __init__(self, dialogue: Dialogue, kept: ConversationFolder, reader: Reader, screen: Screen) -> None:
        self.dialogue, self.kept, self.reader, self.screen = dialogue, kept, reader, screen
        self._interrupted = False
        self._system = dialogue.system
        self._orders: dict[str, Callable[[str], None]] = {
            "help": lambda _: screen.plain(help_text()),
            "clear": self._clear,
            "save": self._save,
            "load": self._load,
            "test": self._test,
            "good": lambda _: self._judge(1),
            "bad": lambda _: self._judge(-1),
            "retry": lambda _: self._answer(dialogue.again),
            "system": self._set_system,
        }

    def run(self, greeting: str = "") -> None:
        """Until the lines end or somebody leaves; the greeting is shown once Ctrl-C means what it means here."""
        with interrupt_at_once():
            while True:
                try:
                    if greeting:
                        greeting, shown = "", greeting
                        self.screen.note(shown)
                    line = self._next_line()
                    wanted = Order("quit") if line is None else parse(line)
                    if wanted == Order("quit"):
                        break
                    self._obey(wanted)
                except (UserError, QueueFull) as error:
                    self.screen.error(str(error))
                except KeyboardInterrupt:  # in a command
                    if not self.reader.interactive:
                        break
                    self._interrupted = True
                    self.screen.note("\nstopped")

    def _next_line(self) -> str | None:
        """None where there is no other."""
        while True:
            try:
                line = self.reader.read()
            except EOFError:
                return None
            except KeyboardInterrupt:
                if self._interrupted or not self.reader.interactive:
                    return None
                self._interrupted = True
                self.screen.note("Ctrl-C again, or Ctrl-D, leaves.")
                continue
            self._interrupted = False
            if line.strip():
                return line

    def _obey(self, wanted: Order | str) -> None:
        if isinstance(wanted, str):
            self._answer(lambda: self.dialogue.say(wanted))
        else:
            self._orders[wanted.name](wanted.argument)

    def _answer(self, ask: Callable[[], Answer]) -> None:
        answer = ask()
        while answer.retry_after and not self.reader.interactive:  # whoever feeds a file waits
            time.sleep(answer.retry_after)
            answer = ask()
        shown = ""
        try:
            shown = self._stream(answer)
        except GenerationFailed as error:
            self.screen.end_reply()
            self.screen.error(str(error))
        self._after(answer, shown)

    def _stream(self, answer: Answer) -> str:
        """Show the reply as it comes; on Ctrl-C, what there is of it."""
        shown = ""
        while answer.exchange is None:
            try:
                for text in answer:
                    shown += text
                    self.screen.reply(text)
            except KeyboardInterrupt:
                if self._interrupted:
                    raise
                self._interrupted = True
                answer.stop()
        return shown

    def _after(self, answer: Answer, shown: str) -> None:
        """End the reply's line, and say what there is to say about it."""
        exchange = answer.exchange
        assert exchange is not None
        if exchange.blocked:
            if shown:
                self.screen.end_reply()
                self.screen.note("[withdrawn: that reply is not fit to be shown]")
            self.screen.reply(exchange.reply)
        if exchange.finish_reason != "error":
            self.screen.end_reply()
        if exchange.finish_reason in _ENDINGS:
            self.screen.note(f"[{_ENDINGS[exchange.finish_reason]}]")
        elif not exchange.reply:
            self.screen.note("[the model ended its reply without a word]")
        if answer.reply and answer.reply.dropped_turns:
            turns = answer.reply.dropped_turns
            self.screen.note(f"[the oldest {turns} turns did not fit, and the model was not shown them]")
        if self.dialogue.journal and self.dialogue.journal.trouble:
            self.screen.error(f"This was not stored, and cannot be judged.\n{self.dialogue.journal.trouble}")

    def _judge(self, thumb: int) -> None:
        self.dialogue.judge(thumb)
        self.screen.good(f"noted: that reply was {'good' if thumb > 0 else 'bad'}")

    def _clear(self, _: str) -> None:
        self.dialogue.begin(Transcript(self._system))
        self.screen.note("a new conversation")

    def _save(self, name: str) -> None:
        if not self.dialogue.transcript.exchanges:
            raise UserError("There is nothing to save yet.", remedy="say something first")
        try:
            path = self.kept.save(name, self.dialogue.transcript)
        except NameTaken as taken:
            if not self.reader.confirm(f"{str(taken).splitlines()[0]} Overwrite it?"):
                raise
            path = self.kept.save(name, self.dialogue.transcript, overwrite=True)
        self.screen.good(f"saved: {path}")

    def _load(self, name: str) -> None:
        if not name:
            self.screen.plain("\n".join(self.kept.names()) or "no conversation was saved yet")
            return
        transcript = self.kept.load(name)
        self.dialogue.begin(transcript)
        for exchange in transcript.exchanges[-2:]:
            self.screen.note(f"> {exchange.said}")
            self.screen.plain(exchange.reply)
        self.screen.good(f"loaded: {len(transcript.exchanges)} messages and the replies to them")

    def _test(self, _: str) -> None:
        for line in self_test(self.dialogue.engine, self.dialogue.version):
            self.screen.plain(line)

    def _set_system(self, text: str) -> None:
        if text:
            self._system = self.dialogue.system = "" if text.lower() in OFF else text
        self.screen.note(f"system: {self.dialogue.system or '(none)'}")


@contextmanager
def interrupt_at_once() -> Iterator[None]:
    """Within it, Ctrl-C raises KeyboardInterrupt once, wherever the program is: here it stops no more than a reply."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
