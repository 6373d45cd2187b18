"""A very small assembler for classic BPF, with labels. Knows nothing of seccomp policy.

Source: the kernel's Documentation/networking/filter.rst and linux/filter.h.
"""

import struct
from dataclasses import dataclass, field

MAX_INSTRUCTIONS = 4096

_LOAD_WORD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_AND = 0x54  # BPF_ALU | BPF_AND | BPF_K
_JUMP = 0x05  # BPF_JMP | BPF_JA
_RETURN = 0x06  # BPF_RET | BPF_K
_CONDITIONS = {"==": 0x15, ">": 0x25, ">=": 0x35}


@dataclass(frozen=True)
class _Instruction:
    code: int
    k: int = 0
    then: str = ""
    otherwise: str = ""


@dataclass
class Assembler:
    """Collects instructions; `assemble` resolves the labels. "" is the next instruction."""

    _instructions: list[_Instruction] = field(default_factory=list)
    _labels: dict[str, int] = field(default_factory=dict)
    _made: int = 0

    def fresh(self) -> str:
        """Returns a label name that was not used before."""
        self._made += 1
        return f"@{self._made}"

    def label(self, name: str) -> None:
        if name in self._labels:
            raise ValueError(f"label {name} is defined twice")
        self._labels[name] = len(self._instructions)

    def load(self, offset: int) -> None:
        self._instructions.append(_Instruction(_LOAD_WORD, offset))

    def mask(self, bits: int) -> None:
        self._instructions.append(_Instruction(_AND, bits))

    def ret(self, value: int) -> None:
        self._instructions.append(_Instruction(_RETURN, value))

    def jump(self, target: str) -> None:
        self._instructions.append(_Instruction(_JUMP, then=target))

    def jump_if(self, condition: str, k: int, then: str = "", otherwise: str = "") -> None:
        """Compares the accumulator with `k`; both targets must be within 255 instructions."""
        self._instructions.append(_Instruction(_CONDITIONS[condition], k, then, otherwise))

    def assemble(self) -> bytes:
        """Returns the program as an array of `struct sock_filter`.

        Raises:
            ValueError: a jump goes backwards or too far, or the program is too long.
        """
        if len(self._instructions) > MAX_INSTRUCTIONS:
            raise ValueError(f"{len(self._instructions)} instructions, {MAX_INSTRUCTIONS} allowed")
        return b"".join(self._encode(at, one) for at, one in enumerate(self._instructions))

    def _encode(self, at: int, one: _Instruction) -> bytes:
        if one.code == _JUMP:
            return struct.pack("=HBBI", one.code, 0, 0, self._distance(at, one.then, 0xFFFF_FFFF))
        then = self._distance(at, one.then, 255)
        otherwise = self._distance(at, one.otherwise, 255)
        return struct.pack("=HBBI", one.code, then, otherwise, one.k & 0xFFFF_FFFF)

    def _distance(self, at: int, target: str, limit: int) -> int:
        if not target:
            return 0
        distance = self._labels[target] - at - 1
        if not 0 <= distance <= limit:
            raise ValueError(f"jump of {distance} instructions to {target}")
        return distance
