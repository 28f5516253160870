"""A conversation with one version, turn by turn.

    dialogue = Dialogue(engine, "ppo", ReplySettings())
    answer = dialogue.say("Where is Rome?")
    for text in answer:                     # as it comes; may be left and taken up again
        print(text, end="")
    answer.exchange.finish_reason           # "stop"
    dialogue.transcript                     # the conversation so far

With guardrails, what is unsafe is neither sent to the model nor shown. With a journal, everything is stored.
"""

from collections.abc import Callable, Iterator

from rlhf.chat.engine import Engine
from rlhf.chat.guardrails import Block, Guardrails, WrittenCheck
from rlhf.chat.inference.context import with_system
from rlhf.chat.inference.generation import Generation, GenerationFailed
from rlhf.chat.records import Reply, ReplySettings
from rlhf.chat.terminal.journal import Journal, Kept, settings_used
from rlhf.chat.terminal.transcript import Exchange, Transcript
from rlhf.errors import UserError
from rlhf.records import Message


class Answer:
    """A reply on its way: iterate over it for text that may be shown.

    Args:
        said: what is answered.
        version: that answers.
        generation: makes the text; None where the message was blocked.
        check: holds back what is unsafe.
        block: why the message was blocked.
        finish: is told what came of it, once.
    """

    def __init__(
        self,
        said: str,
        version: str,
        generation: Generation | None,
        check: WrittenCheck | None,
        block: Block | None,
        finish: Callable[["Answer", GenerationFailed | None], None],
    ) -> None:
        self.said, self.version, self.block = said, version, block
        self.reply: Reply | None = None
        """What the engine says of it, at the end."""
        self.exchange: Exchange | None = None
        """What came of it, at the end. Its reply, where it is blocked, replaces what was shown."""
        self._generation, self._check, self._finish = generation, check, finish
        self._written = ""

    @property
    def retry_after(self) -> float | None:
        """Seconds to wait, where it was too early to ask."""
        return self.block.retry_after if self.block else None

    def stop(self) -> None:
        """Ask the model to stop. Iterate on: what it had said until then still comes."""
        if self._generation:
            self._generation.cancel()

    def __iter__(self) -> Iterator[str]:
        """Text as it comes. Whoever was interrupted may iterate again, for what follows.

        Raises:
            GenerationFailed: after the text that there was.
        """
        if self.exchange is None and self._generation:
            try:
                for delta in self._generation:
                    yield from self._shown(delta)
                    if self.block:
                        break
            except GenerationFailed as error:
                self._end(error)
                raise
            yield from self._rest(self._generation)
        if self.exchange is None:
            self._end()

    def _shown(self, delta: str) -> Iterator[str]:
        self._written += delta
        text = self._check.add(delta) if self._check else delta
        self._note_block()
        if text:
            yield text

    def _rest(self, generation: Generation) -> Iterator[str]:
        """What was held back, and what an interrupt has kept from being shown."""
        if self.block:
            generation.cancel()
        self.reply = generation.result()
        if not self.block:
            yield from self._shown(self.reply.text[len(self._written) :])
        if self._check and not self.block:
            text = self._check.finish()
            self._note_block()
            if text:
                yield text

    def _note_block(self) -> None:
        self.block = self._check.block if self._check else None

    def _end(self, error: GenerationFailed | None = None) -> None:
        if self.block:
            self.exchange = Exchange(self.said, self.block.reply, self.version, blocked=True)
        elif self.reply:
            done = self.reply
            self.exchange = Exchange(self.said, done.text, self.version, done.finish_reason, done.seed)
        else:
            self.exchange = Exchange(self.said, self._written, self.version, "error")
        self._finish(self, error)


class Dialogue:
    """See the module.

    Args:
        engine: holds the version.
        version: that answers.
        settings: how replies are sampled.
        guardrails: what is kept from model and reader; None: nothing.
        journal: keeps what is said in the store; None: nobody does.
        system: system turn before the conversation.
    """

    def __init__(
        self,
        engine: Engine,
        version: str,
        settings: ReplySettings,
        guardrails: Guardrails | None = None,
        journal: Journal | None = None,
        system: str = "",
    ) -> None:
        self.engine, self.version, self.settings = engine, version, settings
        self.guardrails, self.journal, self.system = guardrails, journal, system
        self._kept: list[Kept] = []

    @property
    def transcript(self) -> Transcript:
        """The conversation so far."""
        return Transcript(self.system, tuple(kept.exchange for kept in self._kept))

    def begin(self, transcript: Transcript) -> None:
        """Go on from another conversation."""
        self.system, self._kept = transcript.system, [Kept(exchange) for exchange in transcript.exchanges]
        if self.journal:
            self.journal.begin()

    def say(self, text: str) -> Answer:
        """Say something; the answer ends when it has been iterated over.

        Raises:
            UserError: it cannot be answered, being too long for instance. The conversation is as before.
        """
        return self._ask(text, None, self._kept)

    def again(self) -> Answer:
        """Another reply to the last message, in place of the one that there is.

        Raises:
            UserError: nothing was said yet.
        """
        if not self._kept:
            raise UserError("There is nothing to reply to again.", remedy="say something first")
        last = self._kept[-1]
        return self._ask(last.exchange.said, last, self._kept[:-1])

    def judge(self, thumb: int) -> None:
        """Judge the last reply, up (1) or down (-1).

        Raises:
            UserError: there is none of this session, or the judgement cannot be stored.
        """
        last = self._kept[-1] if self._kept else None
        if last is None or last.exchange.blocked or not last.exchange.reply:
            raise UserError("There is no reply to judge yet.", remedy="say something first")
        if self.journal is None or last.reply is None:
            why = "it was loaded from a file" if self.journal and not self.journal.trouble else "it was not stored"
            raise UserError("The last reply cannot be judged.", found=why, remedy="/retry gives another one")
        self.journal.judge(last.reply, thumb)

    def _ask(self, text: str, last: Kept | None, before: list[Kept]) -> Answer:
        block = (
            self.guardrails.check_input(self.journal.user if self.journal else "", text) if self.guardrails else None
        )
        if block:
            return Answer(text, self.version, None, None, block, self._refused)
        shown = Transcript(self.system, tuple(kept.exchange for kept in before)).messages()
        messages = with_system((*shown, Message("user", text)), self.system)
        generation = self.engine.submit(messages, self.version, self.settings)
        question = None
        if self.journal:
            question = (last and last.question) or self.journal.asked(before, text)
        check = self.guardrails.while_written() if self.guardrails else None
        system = self.system

        def finish(answer: Answer, error: GenerationFailed | None) -> None:
            self._kept = [*before, self._keep(answer, question, system, error)]

        return Answer(text, self.version, generation, check, None, finish)

    def _refused(self, answer: Answer, error: GenerationFailed | None) -> None:
        if self.journal and answer.block:
            self.journal.blocked("input", answer.block)

    def _keep(self, answer: Answer, question: str | None, system: str, error: GenerationFailed | None) -> Kept:
        assert answer.exchange is not None
        kept = Kept(answer.exchange, question)
        if self.journal:
            how = settings_used(self.settings, answer.reply, system)
            kept.reply = self.journal.replied(question, answer.exchange, answer.reply, how)
            about = {"version": self.version, "message": kept.reply}
            if answer.block:
                self.journal.blocked("output", answer.block, **about)
            if error:
                self.journal.failed(error, **about)
        return kept
