"""Keys: what is stored, what is accepted, how long an answer is remembered."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from grotto_control.core.auth import Authenticator
from grotto_control.core.keys import new_key, record_for
from grotto_control.model.errors import InvalidArgument, Unauthenticated
from grotto_control.model.records import KeyRecord
from grotto_control.store import SqliteStore, open_store


class CountingStore:
    """Knows keys only, and counts how often it is asked."""

    def __init__(self, *records: KeyRecord) -> None:
        self.records = {record.key_id: record for record in records}
        self.reads = 0

    async def find_key(self, key_id: str) -> KeyRecord | None:
        self.reads += 1
        await asyncio.sleep(0)
        return self.records.get(key_id)


@dataclass
class Time:
    now_s: float = 100.0

    def __call__(self) -> float:
        return self.now_s


KEY = new_key()
RECORD = record_for(KEY, "ada", "laptop", 1.0)


def made(*records: KeyRecord) -> tuple[Authenticator, CountingStore, Time]:
    store, clock = CountingStore(*records), Time()
    return Authenticator(store, clock), store, clock  # type: ignore[arg-type]


async def test_a_key_names_its_tenant_and_is_remembered_for_five_seconds() -> None:
    authenticator, store, clock = made(RECORD)
    header = f"Bearer {KEY}"
    assert authenticator.cached(header) is None
    assert (await authenticator.authenticate(header)).tenant == "ada"
    clock.now_s += 5
    assert authenticator.cached(header) is not None
    clock.now_s += 0.1
    assert authenticator.cached(header) is None
    assert store.reads == 1


async def test_concurrent_cold_lookups_share_one_read_and_resume_in_order() -> None:
    """Callers keep coming while the first ones wait: none may overtake, warm or cold."""
    authenticator, store, _ = made(RECORD)
    resumed: list[int] = []

    async def one(number: int) -> None:
        header = f"Bearer {KEY}"
        if authenticator.cached(header) is None:
            await authenticator.authenticate(header)
        resumed.append(number)

    calls = []
    for number in range(50):
        calls.append(asyncio.create_task(one(number)))
        if number % 3 == 0:
            await asyncio.sleep(0)
    await asyncio.gather(*calls)
    assert resumed == list(range(50))
    assert store.reads == 1
    assert authenticator.cached(f"Bearer {KEY}") is not None


BAD = {
    "nothing": "",
    "no scheme": KEY,
    "other scheme": f"Basic {KEY}",
    "no key": "Bearer ",
    "not a key": "Bearer hunter2",
    "unknown": f"Bearer {new_key()}",
    "right id, wrong secret": f"Bearer {KEY[:16]}{'A' * 43}",
    "longer": f"Bearer {KEY}A",
    "line break": f"Bearer {KEY}\n",
    "NUL": f"Bearer {KEY[:-1]}\0",
}


@pytest.mark.parametrize("header", BAD.values(), ids=BAD)
async def test_every_bad_key_gets_the_same_answer(header: str) -> None:
    authenticator, _, _ = made(RECORD)
    await authenticator.authenticate(f"Bearer {KEY}")  # a warm cache changes nothing
    assert authenticator.cached(header) is None
    with pytest.raises(Unauthenticated) as refused:
        await authenticator.authenticate(header)
    assert refused.value.message == "the API key is missing or not valid."


async def test_a_revoked_key_is_refused_and_found_by_the_recheck() -> None:
    authenticator, store, _ = made(RECORD)
    await authenticator.authenticate(f"Bearer {KEY}")
    assert await authenticator.recheck() == set()
    store.records[RECORD.key_id] = replace(RECORD, revoked_s=2.0)
    assert await authenticator.recheck() == {RECORD.key_id}
    assert authenticator.cached(f"Bearer {KEY}") is None
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(f"Bearer {KEY}")


async def test_the_recheck_keeps_a_key_in_use_warm() -> None:
    authenticator, _, clock = made(RECORD)
    await authenticator.authenticate(f"Bearer {KEY}")
    for _ in range(10):
        clock.now_s += 2
        await authenticator.recheck()
    assert authenticator.cached(f"Bearer {KEY}") is not None


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = await open_store(tmp_path / "grotto.db")
    yield opened
    await opened.close()


async def test_a_key_is_stored_only_as_its_digest(store: SqliteStore, tmp_path: Path) -> None:
    await store.add_key(RECORD)
    await store.close()
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert RECORD.key_id.encode() in stored and RECORD.digest in stored
    secret = KEY.rpartition("_")[2] if "_" not in KEY[16:] else KEY[16:]
    assert secret.encode() not in stored


async def test_the_database_is_its_owners_alone(store: SqliteStore, tmp_path: Path) -> None:
    await store.add_key(RECORD)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes and set(modes.values()) == {0o600}, modes


@pytest.mark.parametrize("tenant", ["", "Ada", "a b", "../x", "-a", "a" * 64, "ä", "a\n"])
def test_bad_tenant_names_are_refused(tenant: str) -> None:
    with pytest.raises(InvalidArgument, match="tenant"):
        record_for(KEY, tenant, "", 1.0)
