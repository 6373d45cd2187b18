"""The supervised checker process, whatever the source does to it."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from grotto_policy import UnknownPolicy, Violation, check, load
from grotto_runtime.checking import Checker, CheckerFailed

# The process itself, without the isolation that belongs to the sandbox it runs in.
BARE = (
    sys.executable,
    "-I",
    "-c",
    "from grotto_runtime.checker import main; main(harden=lambda: ['none'])",
)
# The same, answering one source by what no real source should be able to do.
SABOTAGED = (
    sys.executable,
    "-I",
    "-c",
    "import os, signal, time\n"
    "from grotto_runtime import checker\n"
    "def answer(request, honest=checker.answer):\n"
    "    if request.source == 'die': os.kill(os.getpid(), signal.SIGSEGV)\n"
    "    if request.source == 'hang': signal.pause()\n"
    "    if request.source == 'burn':\n"
    "        while True: pass\n"
    "    if request.source == 'fill': return honest(request) if bytearray(1 << 30) else None\n"
    "    return honest(request)\n"
    "def guarded(request):\n"
    "    try: return answer(request)\n"
    "    except MemoryError: return checker.Checked(request.id, gave_up='memory')\n"
    "checker.answer = guarded\n"
    "checker.CPU_S = 1\n"
    "checker.main(harden=lambda: [])",
)


def spawn(argv: Sequence[str], pass_fds: Mapping[int, int]) -> int:
    """Starts a child as the sandbox's spawner does: own session, no environment."""
    above = {number: os.dup(descriptor) for number, descriptor in pass_fds.items()}
    actions: list[tuple[Any, ...]] = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
    actions += [(os.POSIX_SPAWN_DUP2, source, number) for number, source in above.items()]
    try:
        return os.posix_spawn(argv[0], argv, {}, file_actions=actions, setsid=True)
    finally:
        for descriptor in above.values():
            os.close(descriptor)


@pytest.fixture
async def checker() -> AsyncIterator[Checker]:
    checker = Checker(spawn, BARE)
    yield checker
    checker.close()


@pytest.fixture
async def sabotaged() -> AsyncIterator[Checker]:
    checker = Checker(spawn, SABOTAGED, deadline_s=20)
    yield checker
    checker.close()


def is_complexity(found: list[Violation]) -> bool:
    return [(v.layer, v.rule) for v in found] == [("ast", "complexity")]


async def test_it_answers_as_the_check_itself(checker: Checker) -> None:
    source = "import os\ne = eval\nopen('/etc/passwd')\n"
    for policy in ("standard", "strict", "open"):
        assert await checker.check(source, policy) == check(source, load(policy))


async def test_as_the_sandbox_starts_it_it_is_isolated_and_answers() -> None:
    checker = Checker(spawn)
    assert [v.what for v in await checker.check("import os", "standard")] == ["os"]
    assert checker.layers
    checker.close()


async def test_it_starts_on_demand_or_before(checker: Checker) -> None:
    assert checker.pid is None
    await checker.start()
    pid = checker.pid
    assert pid is not None
    assert checker.layers == ["none"]
    assert await checker.check("x = 1", "standard") == []
    assert checker.pid == pid


async def test_it_has_no_environment_and_a_session_of_its_own(checker: Checker) -> None:
    await checker.start()
    assert checker.pid is not None
    assert os.getsid(checker.pid) == checker.pid
    assert Path(f"/proc/{checker.pid}/environ").read_bytes() == b""


@pytest.mark.parametrize("source", ["x =", "x = 1\0", "(" * 200_000, "!ls", "f'{'", "\ufeffx ="])
async def test_source_that_does_not_parse_has_no_violations(checker: Checker, source: str) -> None:
    assert await checker.check(source, "standard") == []


BOMBS = {
    "unary": "-" * 100_000 + "1",
    "attributes": "a" + ".b" * 100_000,
    "lambdas": "lambda:" * 20_000 + "1",
    "powers": "2**" * 50_000 + "1",
    "sum": "+".join(["1"] * 100_000),
    "elif": "if 1:\n x\n" + "elif 1:\n x\n" * 15_000,
}


@pytest.mark.parametrize("bomb", BOMBS)
async def test_source_too_deep_to_judge_is_refused_and_the_next_is_judged(
    checker: Checker, bomb: str
) -> None:
    assert is_complexity(await checker.check(BOMBS[bomb], "standard"))
    assert [v.what for v in await checker.check("import os", "standard")] == ["os"]


WIDE = {
    "statements": "x=1;" * 65_000,
    "violations": "eval;" * 50_000,
    "nested f-strings": "f'{" * 30 + "1" + "}'" * 30,
    "format fields": "'" + "{0.a.b[c]" * 20_000 + "'",
    "chained constants": ";".join(f"a{i + 1}=a{i}+'x'" for i in range(12_000)),
    "aliases": "j=json;" * 20_000 + "j.x;" * 5_000,
    "queries": "d.query('a.b.c > 1');" * 9_000,
}


@pytest.mark.parametrize("kind", WIDE)
async def test_large_source_of_the_largest_size_is_judged_or_refused(kind: str) -> None:
    checker = Checker(spawn, BARE, deadline_s=60)
    found = await checker.check(WIDE[kind], "standard")
    assert bool(found) == (kind == "violations")
    assert len(found) <= 256
    checker.close()


@pytest.mark.parametrize("fault", ["die", "burn", "fill"])
async def test_a_checker_that_ends_is_replaced(sabotaged: Checker, fault: str) -> None:
    await sabotaged.start()
    first = sabotaged.pid
    assert is_complexity(await sabotaged.check(fault, "standard"))
    assert [v.what for v in await sabotaged.check("import os", "standard")] == ["os"]
    assert sabotaged.pid != first


async def test_a_check_that_hangs_is_ended_at_its_deadline() -> None:
    checker = Checker(spawn, SABOTAGED, deadline_s=0.3)
    await checker.start()
    first = checker.pid
    [violation] = await checker.check("hang", "standard")
    assert (violation.rule, violation.what) == ("complexity", "time to check the source")
    assert "smaller executions" in violation.hint
    assert first is not None
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)
    await checker.start()
    assert checker.pid not in (None, first)
    checker.close()


async def test_a_checker_that_died_idle_is_replaced_without_blaming_the_source(
    checker: Checker,
) -> None:
    await checker.start()
    assert checker.pid is not None
    os.kill(checker.pid, signal.SIGKILL)
    os.waitid(os.P_PID, checker.pid, os.WEXITED | os.WNOWAIT)
    assert [v.what for v in await checker.check("import os", "standard")] == ["os"]


async def test_a_checker_collected_by_somebody_else_is_no_error(checker: Checker) -> None:
    """The daemon, as PID 1, waits for any child."""
    await checker.start()
    assert checker.pid is not None
    os.kill(checker.pid, signal.SIGKILL)
    os.waitpid(checker.pid, 0)
    assert [v.what for v in await checker.check("import os", "standard")] == ["os"]


async def test_many_checks_at_once_each_get_their_own_answer(checker: Checker) -> None:
    sources = [f"x = {i}\n" * i + "eval" for i in range(50)]
    answers = await asyncio.gather(*(checker.check(source, "standard") for source in sources))
    assert [answer[0].line for answer in answers] == [i + 1 for i in range(50)]


async def test_a_caller_that_gives_up_does_not_shift_the_answers(sabotaged: Checker) -> None:
    await sabotaged.start()
    waiting = asyncio.create_task(sabotaged.check("hang", "standard"))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert [v.what for v in await sabotaged.check("import os", "standard")] == ["os"]


async def test_the_event_loop_goes_on_during_a_check(checker: Checker) -> None:
    await checker.start()
    check = asyncio.create_task(checker.check("x=1;" * 20_000, "standard"))
    turns = 0
    while not check.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 100
    assert await check == []


async def test_closing_ends_the_process_and_a_check_under_way(sabotaged: Checker) -> None:
    await sabotaged.start()
    pid = sabotaged.pid
    waiting = asyncio.create_task(sabotaged.check("hang", "standard"))
    await asyncio.sleep(0)
    sabotaged.close()
    with pytest.raises(CheckerFailed):
        await waiting
    assert sabotaged.pid is None
    assert not Path(f"/proc/{pid}").exists()


async def test_an_unknown_policy_is_the_callers_error(checker: Checker) -> None:
    with pytest.raises(UnknownPolicy):
        await checker.check("x", "lax")
    assert checker.pid is None


@pytest.mark.parametrize(
    "command",
    [("/nonexistent",), (sys.executable, "-I", "-c", "raise SystemExit(1)")],
    ids=["cannot be executed", "ends at once"],
)
async def test_a_checker_that_cannot_be_started_is_a_fault_of_the_platform(
    command: tuple[str, ...],
) -> None:
    checker = Checker(spawn, command)
    with pytest.raises(CheckerFailed):
        await checker.check("x = 1", "standard")
    assert checker.pid is None


async def test_its_limits_are_in_force_before_it_sees_any_source(checker: Checker) -> None:
    await checker.start()
    limits = Path(f"/proc/{checker.pid}/limits").read_text()
    soft = {line[:25].strip(): line[26:].split()[0] for line in limits.splitlines()[1:]}
    assert int(soft["Max address space"]) <= 512 * 1024 * 1024
    assert soft["Max file size"] == "0"
    assert soft["Max core file size"] == "0"
    assert int(soft["Max open files"]) <= 16


async def test_without_the_process_such_source_takes_the_interpreter_down() -> None:
    """The control arm: judged in place, the same text costs the process that judges it."""
    program = (
        "import resource, sys\n"
        "from grotto_policy import check, load\n"
        "check(sys.stdin.read(), load('standard'))\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-c",
        program,
        stdin=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    await process.communicate(BOMBS["unary"].encode())
    assert process.returncode != 0
