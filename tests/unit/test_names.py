"""Which names can be bound."""

import pytest

from grotto_wire.names import InvalidName, check_name, check_readable


@pytest.mark.parametrize("name", ["x", "_x", "sales_2024", "Größe", "数", "print", "_private__"])
def test_names_that_can_be_bound(name):
    check_name(name)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "1 to 128 characters"),
        ("x" * 129, "1 to 128 characters"),
        ("1x", "letters, digits"),
        ("a b", "letters, digits"),
        ("a\nimport os", "letters, digits"),
        ("a.b", "letters, digits"),
        ("x\0", "letters, digits"),
        ("\ud800", "letters, digits"),
        ("class", "keyword"),
        ("None", "keyword"),
        ("ﬁle", "NFKC"),
        ("__builtins__", "reserved"),
        ("__name__", "reserved"),
        ("_", "reserved"),
        ("In", "reserved"),
        (7, "not str"),
    ],
)
def test_names_that_cannot_are_refused_with_the_reason(name, says):
    with pytest.raises(InvalidName, match=says):
        check_name(name)


def test_the_last_result_can_be_read_but_not_bound():
    check_readable("_")
    with pytest.raises(InvalidName):
        check_name("_")


def test_the_message_never_carries_a_control_character_of_the_name():
    with pytest.raises(InvalidName) as caught:
        check_name("a\x1b[31m\n\u202e" + "b" * 500)
    assert str(caught.value).isascii() or "…" in str(caught.value)
    assert "\x1b" not in str(caught.value) and "\n" not in str(caught.value)
