"""What can be typed in the terminal besides a message, and how it is told from one.

    parse("save rome")        # Order("save", "rome")
    parse("/system Be brief") # Order("system", "Be brief")
    parse("save the whales")  # "save the whales": a message

A bare word is an order where the whole line is one; with a slash in front it always is. `//` writes a message that
begins with a slash.
"""

from typing import NamedTuple

from rlhf.errors import UserError, nearest


class Command(NamedTuple):
    """Something that can be ordered."""

    name: str
    argument: str
    """What follows, as the help shows it."""
    help: str
    bare: bool
    """Whether it needs no slash."""


COMMANDS = (
    Command("help", "", "this list", True),
    Command("quit", "", "leave; also exit, bye, Ctrl-D, or Ctrl-C at the prompt", True),
    Command("clear", "", "begin a new conversation", True),
    Command("save", "FILENAME", "keep this conversation as a file", True),
    Command("load", "FILENAME", "go on with a conversation that was kept; without a name: list them", True),
    Command("test", "", "check the tokenizer, and measure the model's speed", True),
    Command("good", "", "the last reply was good", False),
    Command("bad", "", "the last reply was bad", False),
    Command("retry", "", "another reply to your last message", False),
    Command("system", "TEXT", "tell the model how to behave; without a text: show it; off: nothing", False),
)
ALIASES = {"exit": "quit", "bye": "quit", "?": "help"}
_BY_NAME = {command.name: command for command in COMMANDS}


class Order(NamedTuple):
    """A command, and what follows it."""

    name: str
    argument: str = ""


def parse(line: str) -> Order | str:
    """What a line orders; else the message that it is, without white space around it.

    Raises:
        UserError: a slash and no known command.
    """
    text = line.strip()
    if text.startswith("//"):
        return text[1:]
    if text.startswith("/"):
        return _slashed(text[1:])
    first, _, rest = text.partition(" ")
    name = ALIASES.get(first.lower(), first.lower())
    command = _BY_NAME.get(name)
    if command is None or not command.bare or first == "?":
        return text
    argument = rest.strip()
    quoted = len(argument) > 1 and argument[0] == argument[-1] and argument[0] in "\"'"
    if argument and not (command.argument and (quoted or len(argument.split()) == 1)):
        return text
    return Order(name, argument[1:-1] if quoted else argument)


def _slashed(text: str) -> Order:
    first, _, rest = text.partition(" ")
    name = ALIASES.get(first.lower(), first.lower())
    if name not in _BY_NAME:
        raise UserError(
            f"There is no command /{first}.",
            remedy=f"{nearest(f'/{name}', [f'/{known}' for known in _BY_NAME])} "
            "(help lists them; // begins a message with a slash)",
        )
    return Order(name, rest.strip())


def help_text() -> str:
    """All commands, a line each."""
    names = [("" if c.bare else "/") + " ".join(filter(None, (c.name, c.argument))) for c in COMMANDS]
    width = max(map(len, names)) + 2
    lines = [f"  {name:{width}}{command.help}" for name, command in zip(names, COMMANDS, strict=True)]
    return "\n".join([
        "Whatever you type is a message to the model, but for:", *lines,
        "All of them may be written with a slash in front, too. Ctrl-C stops a reply.",
    ])  # fmt: skip
