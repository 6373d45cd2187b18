"""Values pass the daemon in sealed memory: what was checked is what is read."""

import mmap
import os

import pytest

from grotto_runtime.memfd import SealedMemory


@pytest.fixture
def memory():
    memory = SealedMemory(100)
    yield memory
    memory.close()


def test_what_goes_in_comes_out_in_chunks(memory):
    memory.append(b"a" * 60)
    memory.append(b"b" * 40)
    assert memory.room_bytes == 0
    assert memory.seal()
    assert b"".join(memory.chunks(100)) == b"a" * 60 + b"b" * 40


def test_nobody_can_write_once_it_is_sealed(memory):
    os.pwrite(memory.descriptor, b"before", 0)
    assert memory.seal()
    with pytest.raises(PermissionError):
        os.pwrite(memory.descriptor, b"after!", 0)
    with pytest.raises(PermissionError):
        mmap.mmap(memory.descriptor, 100)
    assert next(memory.chunks(6)) == b"before"


@pytest.mark.parametrize("size", [101, 200, 2**40])
def test_it_never_grows(memory, size):
    with pytest.raises(PermissionError):
        os.ftruncate(memory.descriptor, size)


@pytest.mark.parametrize("size", [0, 50])
def test_once_sealed_it_does_not_shrink_under_who_maps_it(memory, size):
    assert memory.seal()
    with pytest.raises(PermissionError):
        os.ftruncate(memory.descriptor, size)


def test_reclaimed_memory_is_gone_for_whoever_kept_a_descriptor():
    lent = SealedMemory(100)
    kept = os.dup(lent.descriptor)
    os.pwrite(kept, b"x" * 100, 0)
    lent.reclaim()
    assert os.fstat(kept).st_blocks == 0
    with pytest.raises(PermissionError):
        os.pwrite(kept, b"x", 0)
    os.close(kept)


def test_it_does_not_grow_by_being_written_past_its_end(memory):
    with pytest.raises(PermissionError):
        os.pwrite(memory.descriptor, b"x" * 10, 95)


def test_it_is_not_read_while_somebody_can_still_write_it(memory):
    with mmap.mmap(memory.descriptor, 100):
        assert not memory.seal()
    assert memory.seal()
