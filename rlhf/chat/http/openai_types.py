"""Bodies of the OpenAI-compatible API: what a request may say, what an answer and a chunk of a stream look like.

request = ChatCompletionRequest.model_validate_json(body, strict=True)      # pydantic.ValidationError
request.conversation(), request.reply_settings(defaults)

A parameter that cannot be honoured is declared with the only values under which nothing depends on it (`Unsupported`),
so that the schema says what is refused; a parameter that is not declared at all is refused, too.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from rlhf.chat.records import MOST_TOKENS, ReplySettings
from rlhf.chat.settings import ChatSection
from rlhf.records import Conversation, Message, Role

Nothing = Annotated[list[Any], Field(max_length=0)] | None
"""Left out, null or an empty list."""
Text = Annotated[str, Field(min_length=1)]


class Body(BaseModel):
    """A JSON object without other keys than those declared."""

    model_config = ConfigDict(
        extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False, regex_engine="python-re"
    )


class Unsupported(Body):
    """Parameters of the original that change nothing here, and are refused with any other value than these."""

    n: Literal[1] | None = None
    tools: Nothing = None
    functions: Nothing = None
    tool_choice: Literal["none"] | None = None
    function_call: Literal["none"] | None = None
    parallel_tool_calls: bool | None = None
    logprobs: Literal[False] | None = None
    top_logprobs: Literal[0] | None = None
    logit_bias: Annotated[dict[str, Any], Field(max_length=0)] | None = None
    frequency_penalty: Literal[0] | None = None
    presence_penalty: Literal[0] | None = None
    modalities: Annotated[list[Literal["text"]], Field(max_length=1)] | None = None
    audio: None = None
    prediction: None = None
    reasoning_effort: Literal["none"] | None = None
    verbosity: None = None
    web_search_options: None = None
    moderation: None = None
    store: Literal[False] | None = None
    service_tier: Literal["auto", "default"] | None = None


class TextFormat(Body):
    """The only format of replies."""

    type: Literal["text"]


class TextPart(Body):
    """A piece of a message."""

    type: Literal["text"]
    text: str


class RequestMessage(Body):
    """One turn; the fields that are always null are those of an answer that is sent back as it came."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[TextPart], Field(min_length=1)]
    refusal: None = None
    tool_calls: Nothing = None
    function_call: None = None
    audio: None = None
    annotations: Nothing = None

    def message(self) -> Message:
        """The turn as the models know it: a developer speaks as the system does."""
        role: Role = "system" if self.role == "developer" else self.role
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return Message(role, text)


class StreamOptions(Body):
    """How a stream is sent."""

    include_usage: bool | None = None
    """A last chunk without choices counts the tokens."""
    include_obfuscation: Literal[False] | None = None


class ChatCompletionRequest(Unsupported):
    """Body of POST /v1/chat/completions."""

    messages: Annotated[list[RequestMessage], Field(min_length=1)]
    """The conversation; the last turn is the user's."""
    model: Text
    """A version's name; `live` or `default` for the one that is live."""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """0 takes the likeliest token each time."""
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    """0 takes the likeliest token, too."""
    max_tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS)] | None = None
    """The newer name of max_tokens."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    """Equal seeds give equal replies."""
    stop: Text | Annotated[list[Text], Field(max_length=4)] | None = None
    """Up to four texts before which the reply ends."""
    user: Annotated[str, Field(pattern=r"^(?!web-)[A-Za-z0-9_.@+-]{1,64}$")] | None = None
    """Who asks, in place of the header X-User: the guardrails count by person."""
    response_format: TextFormat | None = None
    metadata: dict[str, str] | None = None
    """Not kept."""
    safety_identifier: str | None = None
    """Not kept."""
    prompt_cache_key: str | None = None
    """Not kept."""

    @model_validator(mode="after")
    def _together(self) -> "ChatCompletionRequest":
        if self.messages[-1].role != "user":
            raise ValueError("messages: the last one must be the user's")
        if self.stream_options and not self.stream:
            raise ValueError("stream_options: only where stream is true")
        if self.max_tokens and self.max_completion_tokens and self.max_tokens != self.max_completion_tokens:
            raise ValueError("max_tokens: it says something else than max_completion_tokens")
        return self

    def conversation(self) -> Conversation:
        """The messages as the models know them."""
        return tuple(message.message() for message in self.messages)

    def reply_settings(self, defaults: ChatSection) -> ReplySettings:
        """How to sample; what the request leaves open is the chat's own."""
        temperature = defaults.temperature if self.temperature is None else self.temperature
        top_p = defaults.top_p if self.top_p is None else self.top_p
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        return ReplySettings(
            temperature=temperature if top_p else 0.0,
            top_p=top_p or 1.0,
            max_tokens=self.max_completion_tokens or self.max_tokens,
            seed=self.seed,
            stop=stop,
        )

    @property
    def counts_usage(self) -> bool:
        """Whether a stream ends with the count of tokens."""
        return bool(self.stream_options and self.stream_options.include_usage)


FinishReason = Literal["stop", "length", "content_filter"]


class Usage(Body):
    """Tokens, the template's marks and the end of sequence included."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ReplyMessage(Body):
    """The reply."""

    role: Literal["assistant"]
    content: str
    refusal: None


class Choice(Body):
    """The one reply."""

    index: Literal[0]
    message: ReplyMessage
    logprobs: None
    finish_reason: FinishReason


class ChatCompletion(Body):
    """Answer of POST /v1/chat/completions."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    """The version that replied."""
    choices: list[Choice]
    usage: Usage


class Delta(Body):
    """What is new: the role in the first chunk, text in the others, nothing in the last."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChunkChoice(Body):
    """A piece of the one reply."""

    index: Literal[0]
    delta: Delta
    logprobs: None
    finish_reason: FinishReason | None


class ChatCompletionChunk(Body):
    """One event of a stream."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | None = None
    """Only where stream_options.include_usage asks for it: null but in the last chunk."""


class Model(Body):
    """A version, or the name `live`."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: Literal["rlhf"]


class ModelList(Body):
    """Answer of GET /v1/models."""

    object: Literal["list"]
    data: list[Model]


class ErrorObject(Body):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(Body):
    """Body of every answer that is no success, and of an error in the middle of a stream."""

    error: ErrorObject
