"""What a check returns: all at once, by position, in bounded and printable text."""

import ast
import subprocess
import sys

import pytest

from grotto_policy import MAX_VIOLATIONS, POLICIES, UnknownPolicy, Violation, check, load

STANDARD = load("standard")


def places(source: str) -> list[tuple[str, str, int, int]]:
    return [(v.rule, v.what, v.line, v.column) for v in check(source, STANDARD)]


def test_every_violation_is_reported_at_once_in_order_of_position() -> None:
    source = "x = 1\nimport os, subprocess\ny = eval('1'); z = ().__class__.__base__\n"
    assert places(source) == [
        ("import", "os", 2, 8),
        ("import", "subprocess", 2, 12),
        ("call", "eval", 3, 5),
        ("attribute", "__base__", 3, 20),
    ]


def test_a_violation_says_why_and_what_to_do_instead() -> None:
    [violation] = check("open('/etc/hosts')", STANDARD)
    assert (violation.layer, violation.rule, violation.what) == ("ast", "path", "/etc/hosts")
    assert violation.why.endswith(".")
    assert "relative" in violation.hint


@pytest.mark.parametrize(
    ("source", "line", "column"),
    [
        ("s = 'äöü€😀'; eval(s)", 1, 14),
        ("é = 1\r\nif é:\r\n    eval('1')\r\n", 3, 5),
        ("x = '''\n\n'''; eval(x)", 3, 6),
        ("\fx = eval", 1, 6),
        ("x = 1\n\n\tif_ = [\n\n eval]".replace("\t", ""), 5, 2),
        ("df.query('''a > 1 and\n @x.__globals__''')", 1, 10),
    ],
)
def test_positions_are_one_based_lines_and_characters(source: str, line: int, column: int) -> None:
    [violation] = check(source, STANDARD)
    assert (violation.line, violation.column) == (line, column)


def test_a_flood_of_violations_is_cut_to_the_first_ones() -> None:
    found = check("\n".join(["eval"] * 1000), STANDARD)
    assert [v.line for v in found] == list(range(1, MAX_VIOLATIONS + 1))


@pytest.mark.parametrize(
    "source",
    [
        f"open('/{'x' * 5000}')",
        f"import os.{'y' * 5000}",
        "open('/\\ud800')",
        "open('/\\x1b[2J\\u202e\\n')",
        "getattr(x, '__\\x1b]0;pwned\\x07__')",
    ],
)
def test_hostile_names_come_back_short_printable_and_encodable(source: str) -> None:
    found = check(source, STANDARD)
    assert found
    for violation in found:
        assert len(violation.what) <= 500
        assert violation.what.isprintable()
        violation.what.encode()


@pytest.mark.parametrize("source", ["x =", "(" * 1000, "x = 1\0", "!ls", "%time x"])
@pytest.mark.parametrize("policy", POLICIES)
def test_source_that_does_not_parse_is_an_error_of_its_own(source: str, policy: str) -> None:
    with pytest.raises((SyntaxError, ValueError)):
        check(source, load(policy))


def test_bidirectional_controls_are_seen_where_the_tree_has_nothing() -> None:
    source = "x = 1  # \u202e }if\n"
    assert [(v.rule, v.line, v.column) for v in check(source, STANDARD)] == [("pattern", 1, 10)]
    assert check(source.replace("\u202e", ""), STANDARD) == []
    assert "\u202e" not in str(check(source, STANDARD))


def test_top_level_await_is_ordinary_code() -> None:
    assert check("import asyncio\nawait asyncio.sleep(0)", STANDARD) == []


def test_nothing_is_executed_or_imported() -> None:
    """In a fresh interpreter, modules the source names stay unloaded and its effects absent."""
    program = (
        "import sys\n"
        "from grotto_policy import check, load\n"
        "before = set(sys.modules)\n"
        "source = 'import pandas, wave; print(\"ran\")\\n@print\\nclass A: x = print(1)\\n'\n"
        "assert check(source, load('standard')) == [], 1\n"
        "print(sorted(set(sys.modules) - before))\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_source_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    parse = ast.parse

    def counted(source: str) -> ast.Module:
        parsed.append(source)
        return parse(source)

    with monkeypatch.context() as patched:
        patched.setattr(ast, "parse", counted)
        check("import os\nx = exec\n", STANDARD)
    assert parsed == ["import os\nx = exec\n"]


def test_an_unknown_policy_is_named_with_those_there_are() -> None:
    with pytest.raises(UnknownPolicy, match=r"'lax'.*strict, standard, open"):
        load("lax")
    with pytest.raises(ValueError, match="there is no policy"):
        load("\x1b" * 1000)


def test_violations_are_values() -> None:
    first, again = check("eval", STANDARD), check("eval", STANDARD)
    assert first == again
    assert isinstance(first[0], Violation)
    assert len({*first, *again}) == 1
