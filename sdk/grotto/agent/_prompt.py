"""The text an agent's model is given, and the code found in what it answers. Pure."""

from __future__ import annotations

import re

_SYSTEM = """\
You work in a live Python interpreter. Its variables stay from one step to the next.

To act, write one block of code:

```python
...
```

Only that block runs; then you are shown its output. Print what you want to see, and keep
results in variables. Look at data by head, describe or summaries, never whole.
What `import` or a call refuses comes back with a hint: follow it.
When you know the answer, give it in plain text without any block of code.

The interpreter holds:

{namespace}
"""

_FENCE = re.compile(
    r"^[ \t]*```(?:python|py)[ \t]*\n(?P<code>.*?)(?:^[ \t]*```[ \t]*$|\Z)",
    re.DOTALL | re.MULTILINE | re.IGNORECASE,
)


def system_prompt(instructions: str, namespace: str) -> str:
    """Returns the system message: instructions, the rules of the loop, what there is."""
    rules = _SYSTEM.format(namespace=namespace)
    return f"{instructions}\n\n{rules}" if instructions else rules


def find_code(answer: str) -> tuple[str, str] | None:
    """Returns (the answer up to the end of its first block, the block's code), or None.

    What a model writes after its first block it made up: the code has not run yet.
    """
    match = _FENCE.search(answer)
    if match is None or not match["code"].strip():
        return None
    return answer[: match.end()], match["code"]
