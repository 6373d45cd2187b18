"""IPython's InteractiveShell as a library: compile, run, display; nothing interactive.

No input transforms (the text that was checked is the text that runs), no
history, no coloured tracebacks, no files of its own.
"""

import asyncio
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from IPython.core.compilerop import CachingCompiler
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import ExecutionResult, InteractiveShell
from IPython.core.profiledir import ProfileDir
from traitlets import Type

Publish = Callable[[Mapping[str, Any], bool], None]
"""Takes a MIME bundle and whether it is the result of the last expression."""

HIDDEN = ("In", "Out", "_ih", "_oh", "_dh", "get_ipython", "exit", "quit", "open")
"""What IPython binds in the namespace and a tenant should not find there."""


class _Compiler(CachingCompiler):  # type: ignore[misc]
    """Names cells as tracebacks show them: `<cell 3>`."""

    cells = 0

    def get_code_name(self, raw_code: str, transformed_code: str, number: int) -> str:
        self.cells += 1
        return f"<cell {self.cells}>"


class _ResultHook(DisplayHook):  # type: ignore[misc]
    """Publishes the value of the last expression instead of printing it."""

    def __call__(self, result: Any = None) -> None:
        if result is None:
            return
        self.shell.user_ns["_"] = result
        bundle, _ = self.shell.display_formatter.format(result)
        self.shell.publish(bundle, True)


class _Publisher(DisplayPublisher):  # type: ignore[misc]
    """Sends displays on as MIME bundles."""

    def publish(self, data: Mapping[str, Any], metadata: Any = None, **_: Any) -> None:
        self.shell.publish(data, False)

    def clear_output(self, wait: bool = False) -> None:
        """There is no screen to clear."""


class _Library(InteractiveShell):  # type: ignore[misc]
    displayhook_class = Type(_ResultHook)
    display_pub_class = Type(_Publisher)
    compiler_class = Type(_Compiler)

    publish: Publish
    shown: BaseException | None = None

    def init_history(self) -> None:
        self.history_manager = None

    def showtraceback(self, exc_tuple: Any = None, *_: Any, **__: Any) -> None:
        """Keeps the exception for the caller instead of printing it."""
        self.shown = (exc_tuple or sys.exc_info())[1]

    def showsyntaxerror(self, *_: Any, **__: Any) -> None:
        self.shown = sys.exc_info()[1]

    showindentationerror = showsyntaxerror


class Shell:
    """One namespace and the means to run source in it."""

    def __init__(self) -> None:
        # The singleton: display() and the formatters look it up there.
        library = _Library.instance(profile_dir=ProfileDir(), ipython_dir="")
        warnings.filterwarnings("ignore", message="To exit: use")
        library.cache_size = 0
        library.displayhook.cache_size = 0
        library.colors = "nocolor"
        for name in HIDDEN:
            library.user_ns.pop(name, None)
        self._library = library
        self._loop: asyncio.AbstractEventLoop | None = None
        self._baseline = frozenset(library.user_ns)

    @property
    def namespace(self) -> dict[str, Any]:
        namespace: dict[str, Any] = self._library.user_ns
        return namespace

    def own_names(self) -> list[str]:
        """Returns the names the session bound, without the interpreter's own."""
        return [
            name
            for name in list(self.namespace)  # a hostile key may be anything
            if type(name) is str and name not in self._baseline and name != "_"
        ]

    def run(self, source: str, publish: Publish) -> BaseException | None:
        """Runs the source; returns what it raised, KeyboardInterrupt and SystemExit included."""
        self._library.publish = publish
        self._library.shown = None
        try:
            result = self._drive(source)
        except BaseException as raised:
            return raised
        error: BaseException | None = (
            result.error_before_exec or result.error_in_exec or self._library.shown
        )
        # An exception holds its frames, and they hold the tenant's objects.
        self._library.shown = self._library.last_execution_result = None
        return error

    def warm_up(self) -> None:
        """Goes the way of an execution that does nothing."""
        cells = self._library.compile.cells
        self.run("pass", _nowhere)
        self._library.compile.cells = cells

    def rebuild_loop(self) -> None:
        """After a thaw: the loop's selector is shared with the process it was forked from."""
        self._loop = None

    def _drive(self, source: str) -> ExecutionResult:
        cell = self._library.run_cell_async(source, transformed_cell=source)
        if not _may_await(source):
            return _run_now(cell)
        return self._run_in_loop(cell)

    def _run_in_loop(self, cell: Any) -> ExecutionResult:
        if self._loop is None or self._loop.is_closed():
            self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        task = self._loop.create_task(cell)
        try:
            return self._loop.run_until_complete(task)
        except BaseException:
            task.cancel()
            raise


def _may_await(source: str) -> bool:
    """Whether the source could use top-level await; a word in a string costs only time."""
    return "await" in source or "async" in source


def _run_now(cell: Any) -> ExecutionResult:
    """Drives a coroutine that never suspends."""
    try:
        cell.send(None)
    except StopIteration as stop:
        result: ExecutionResult = stop.value
        return result
    raise RuntimeError("a cell without await was suspended")


def _nowhere(bundle: Mapping[str, Any], is_result: bool) -> None:
    """Displays of no execution."""
