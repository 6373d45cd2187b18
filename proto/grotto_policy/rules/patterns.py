"""Regular expressions over the source, for what the syntax tree does not contain."""

from collections.abc import Iterator

from grotto_policy.context import Context
from grotto_policy.model import Violation


def judge_source(context: Context) -> Iterator[Violation]:
    """Reports the first match of each pattern in each line."""
    if not context.policy.patterns:
        return
    for number, line in enumerate(context.lines, start=1):
        for pattern in context.policy.patterns:
            match = pattern.regex.search(line)
            if match is not None:
                offset = len(line[: match.start()].encode())
                what = ascii(match.group())
                yield context.violation_at(
                    "pattern", f"{pattern.name}: {what}", (number, offset), pattern.reason
                )
