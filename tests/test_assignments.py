"""`--set name=value`: numbers as people write them, and what is no assignment."""

import pytest

from rlhf.assignments import assignment, read_yaml
from rlhf.errors import UserError


@pytest.mark.parametrize(
    ("text", "read"),
    [("rate=3e-4", ("rate", 3e-4)), ("rate=1E5", ("rate", 1e5)), ("hidden=[32,32]", ("hidden", [32, 32])),
     ("section.key=null", ("section.key", None)), ("name=a=b", ("name", "a=b")), ("name=", ("name", None)),
     ("name=e5", ("name", "e5")), ("on=yes", ("on", True))],
)  # fmt: skip
def test_values_are_yaml(text, read):
    assert assignment(text, "name=value", "rate=3e-4") == read


@pytest.mark.parametrize(("text", "named"), [("rate", "name=value"), ("=3", "for example --set rate=3e-4"),
                                             ("rate=[1", "a YAML value")])  # fmt: skip
def test_anything_else_is_refused(text, named):
    with pytest.raises(UserError, match=named):
        assignment(text, "name=value", "rate=3e-4")


def test_a_whole_text_has_numbers_as_people_write_them_too():
    assert read_yaml("rate: 3e-4\nname: 3e-4 a step") == {"rate": 3e-4, "name": "3e-4 a step"}
