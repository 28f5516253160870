"""What is an order and what a message."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf.chat.terminal.commands import COMMANDS, Order, help_text, parse
from rlhf.chat.terminal.screen import printable
from rlhf.errors import UserError


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("help", Order("help")),
        (" HELP ", Order("help")),
        ("/help", Order("help")),
        ("quit", Order("quit")),
        ("exit", Order("quit")),
        ("Bye", Order("quit")),
        ("/exit", Order("quit")),
        ("clear", Order("clear")),
        ("test", Order("test")),
        ("save rome", Order("save", "rome")),
        ("save ../x", Order("save", "../x")),
        ("save 'my chat'", Order("save", "my chat")),
        ("/save my chat", Order("save", "my chat")),
        ("save", Order("save")),
        ("load", Order("load")),
        ("load rome.json", Order("load", "rome.json")),
        ("/good", Order("good")),
        ("/retry", Order("retry")),
        ("/system Be brief, please.", Order("system", "Be brief, please.")),
        ("help me with my homework", "help me with my homework"),
        ("save the whales", "save the whales"),
        ("test this", "test this"),
        ("good", "good"),
        ("system", "system"),
        ("?", "?"),
        ("  What is Rome?  ", "What is Rome?"),
        ("//etc is a folder", "/etc is a folder"),
    ],
)
def test_orders_and_messages(line, wanted):
    assert parse(line) == wanted


def test_an_unknown_order_is_answered_with_the_nearest():
    with pytest.raises(UserError, match=r"no command /sytem.*\n.*did you mean /system\?"):
        parse("/sytem x")


@given(line=st.text())
def test_any_line_is_an_order_a_message_or_refused(line):
    try:
        wanted = parse(line)
    except UserError:
        assert line.strip().startswith("/")
    else:
        assert isinstance(wanted, Order) or wanted in line


def test_the_help_names_every_command_and_other_ways_to_leave():
    assert all(command.name in help_text() and command.help in help_text() for command in COMMANDS)
    assert all(word in help_text() for word in ("exit", "bye", "Ctrl-C", "Ctrl-D"))


@given(text=st.text())
def test_no_order_to_the_terminal_is_printed(text):
    assert all(c in "\n\t" or c.isprintable() or ord(c) > 0x9F for c in printable(text))
    assert printable("a\x1b[2J\x07b\r\x9b31m\u202ec\n\t🙂é") == "a[2Jb31m\u202ec\n\t🙂é"
