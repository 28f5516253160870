"""What goes over HTTP, as JSON: bodies that are checked, answers that are described.

`rlhf.chat.http.spec` makes the OpenAPI document from the same classes.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from rlhf.chat.records import ReplySettings

Choice = Literal["left", "right", "tie", "both_bad"]
Stars = Annotated[int, Field(ge=1, le=5)]
Text = Annotated[str, Field(max_length=60_000)]
Said = Annotated[str, Field(max_length=60_000, pattern=r"\S")]
"""A text that says something."""
SAFE_INTEGER = 2**53 - 1
"""The largest integer that JavaScript holds exactly."""
WEEK_MS = 7 * 24 * 3600 * 1000


class Body(BaseModel):
    """What a client sends: unknown keys are refused, and "1" is no number."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


class Empty(Body):
    """{}"""


class SettingsBody(Body):
    """How the reply is sampled; what is left out has the server's default."""

    temperature: float | None = Field(default=None, ge=0, le=2)
    """0 takes the likeliest token each time."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Sample from the likeliest tokens that together have this probability."""
    max_tokens: int | None = Field(default=None, ge=1, le=1_000_000)
    """Tokens of the reply at most."""
    seed: int | None = Field(default=None, ge=0, le=SAFE_INTEGER)
    """Equal seeds give equal replies."""
    stop: list[Annotated[str, Field(min_length=1, max_length=100)]] = Field(default=[], max_length=8)
    """Texts before which the reply ends."""

    def over(self, defaults: ReplySettings) -> ReplySettings:
        """The settings of a reply."""
        return ReplySettings(
            temperature=defaults.temperature if self.temperature is None else self.temperature,
            top_p=defaults.top_p if self.top_p is None else self.top_p,
            max_tokens=defaults.max_tokens if self.max_tokens is None else self.max_tokens,
            seed=self.seed,
            stop=tuple(self.stop) or defaults.stop,
        )


class NewConversation(Body):
    title: str = Field(default="", max_length=200)


class Rename(Body):
    title: str = Field(min_length=1, max_length=200)


class Say(Body):
    """A turn of the user's."""

    parent: str | None = Field(default=None, max_length=200)
    """The message that it follows; null: it opens the conversation. Another child of the same parent is an edit."""
    content: Said
    settings: SettingsBody = SettingsBody()


class Again(Body):
    settings: SettingsBody = SettingsBody()


class RatingBody(Body):
    """A judgement of a reply; it replaces the person's former one as a whole."""

    model_config = ConfigDict(from_attributes=True)

    thumb: Literal[1, -1] | None = None
    helpful: Stars | None = None
    relevant: Stars | None = None
    correct: Stars | None = None
    safe: Stars | None = None
    correction: Text | None = None
    """What the reply should have been."""
    comment: Text | None = None


class NewDuel(Body):
    prompt: Said | None = None
    """What to ask; null: the server chooses."""
    settings: SettingsBody = SettingsBody()
    """`max_tokens` and `stop` count. The server draws the rest: with a known seed, answers could be told apart."""


class Vote(Body):
    choice: Choice
    latency_ms: int | None = Field(default=None, ge=0, le=WEEK_MS)
    """From when both replies were shown whole to the vote."""


class Answer(BaseModel):
    """What the server answers."""

    model_config = ConfigDict(from_attributes=True, use_attribute_docstrings=True)

    @classmethod
    def of(cls, value: Any) -> Self:
        """From a record of the store or the service."""
        return cls.model_validate(value, from_attributes=True)


class ErrorDetail(Answer):
    code: str
    """A word that programs can compare."""
    message: str
    expected: str | None = None
    todo: str | None = None


class Error(Answer):
    """The shape of every error under /api."""

    error: ErrorDetail


class Health(Answer):
    model_config = ConfigDict(extra="allow")

    status: str
    version: str
    seconds: float
    """What generating one token took."""


class Limits(Answer):
    context: int | None
    """Tokens of prompt and reply together."""
    max_tokens: int
    max_characters: int


class Defaults(Answer):
    temperature: float
    top_p: float
    max_tokens: int


class Me(Answer):
    user: str
    versions: list[str]
    limits: Limits
    defaults: Defaults


class ConversationAnswer(Answer):
    id: str
    title: str
    created: float
    """Unix seconds."""
    updated: float


class Conversations(Answer):
    conversations: list[ConversationAnswer]


class MessageAnswer(Answer):
    id: str
    parent: str | None
    role: Literal["system", "user", "assistant"]
    content: str
    version: str | None
    settings: dict[str, Any]
    finish_reason: str | None
    created: float
    blocked: bool
    prompt_tokens: int | None
    completion_tokens: int | None
    seconds: float | None


class Tree(Answer):
    """A conversation: its messages form a tree by `parent`, oldest first."""

    conversation: ConversationAnswer
    messages: list[MessageAnswer]
    ratings: dict[str, RatingBody]


class RatingAnswer(Answer):
    rating: RatingBody | None


class Stopped(Answer):
    stopped: bool


class NextPrompt(Answer):
    prompt: str
    chosen_by: str


class Side(Answer):
    text: str


class DuelAnswer(Answer):
    duel: str
    prompt: str
    left: Side
    right: Side


class Named(Answer):
    version: str | None


class VoteAnswer(Answer):
    choice: Choice
    left: Named
    right: Named


class NoVote(Answer):
    choice: None = None
