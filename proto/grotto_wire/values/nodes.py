"""The schema of an envelope's header: node table, data types, lengths of buffers.

Everything is a msgpack array with fixed fields, so that msgspec refuses any other
shape, type or tag in C, and nesting is bounded by the schema itself. A *cell* is
a small scalar itself, or a one-element array that holds the index of a node.
"""

import msgspec

Ref = tuple[int]
Cell = None | bool | int | float | str | Ref
Blob = bytes | int
"""The bytes themselves, or the index of the buffer that holds them."""


class Node(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """One entry of the node table; the tag is the first element on the wire."""


class Integer(Node, tag=1):
    data: bytes  # two's complement, little-endian, shortest form not required


class Text(Node, tag=2):
    data: Blob  # UTF-8; lone surrogates as three bytes each


class Bytes(Node, tag=3):
    data: Blob


class ByteArray(Node, tag=4):
    data: Blob


class Complex(Node, tag=5):
    real: float
    imag: float


class Constant(Node, tag=6):
    which: int  # scalars.CONSTANTS


class Tuple(Node, tag=7):
    items: list[Cell]


class List(Node, tag=8):
    items: list[Cell]


class Dict(Node, tag=9):
    keys: list[Cell]
    values: list[Cell]


class Set(Node, tag=10):
    items: list[Cell]


class FrozenSet(Node, tag=11):
    items: list[Cell]


class Range(Node, tag=12):
    start: Cell
    stop: Cell
    step: Cell


class Slice(Node, tag=13):
    start: Cell
    stop: Cell
    step: Cell


class Date(Node, tag=14):
    year: int
    month: int
    day: int


class Time(Node, tag=15):
    hour: int
    minute: int
    second: int
    microsecond: int
    fold: int
    zone: Cell


class DateTime(Node, tag=16):
    year: int
    month: int
    day: int
    hour: int
    minute: int
    second: int
    microsecond: int
    fold: int
    zone: Cell


class TimeDelta(Node, tag=17):
    days: int
    seconds: int
    microseconds: int


class TimeZone(Node, tag=18):
    offset_days: int
    offset_seconds: int
    offset_microseconds: int
    name: str | None


class Zone(Node, tag=19):
    key: str  # IANA name


class Decimal(Node, tag=20):
    text: str


class Uuid(Node, tag=21):
    data: bytes  # 16 bytes


class Path(Node, tag=22):
    flavour: int  # scalars.PATHS
    data: bytes  # UTF-8; lone surrogates as three bytes each


class Foreign(Node, tag=23):
    """An object that only the sandbox may rebuild; a client refuses it unread."""

    buffer: int


class NumpyScalar(Node, tag=30):
    dtype: int
    data: bytes


class Array(Node, tag=31):
    dtype: int
    shape: list[int]
    fortran: bool
    buffer: int


class ObjectArray(Node, tag=32):
    shape: list[int]
    items: list[Cell]  # in C order


class StringArray(Node, tag=33):
    """numpy's variable-width strings."""

    shape: list[int]
    lengths: int
    text: int


class NumpyType(Node, tag=34):
    dtype: int


class Timestamp(Node, tag=50):
    value: int
    unit: str
    zone: Cell


class PandasDelta(Node, tag=51):
    value: int
    unit: str


class Period(Node, tag=52):
    ordinal: int
    frequency: str


class Interval(Node, tag=53):
    left: Cell
    right: Cell
    closed: str


class Datetimes(Node, tag=54):
    """A pandas array of points in time: `values` in UTC when there is a zone."""

    values: Ref
    zone: Cell


class Masked(Node, tag=55):
    values: Ref
    mask: Ref


class Strings(Node, tag=56):
    """A pandas string array."""

    lengths: int
    text: int
    missing: int | None
    storage: str
    missing_is_nan: bool


class Categorical(Node, tag=57):
    codes: Ref
    categories: Ref
    ordered: bool


class Intervals(Node, tag=58):
    left: Ref
    right: Ref
    closed: str


class Periods(Node, tag=59):
    ordinals: Ref
    frequency: str


class Index(Node, tag=60):
    values: Ref
    name: Cell
    frequency: str | None


class RangeIndex(Node, tag=61):
    start: int
    stop: int
    step: int
    name: Cell


class MultiIndex(Node, tag=62):
    levels: list[Ref]
    codes: list[Ref]
    names: list[Cell]


class Series(Node, tag=63):
    values: Ref
    index: Ref
    name: Cell
    attrs: Cell


class DataFrame(Node, tag=64):
    """`blocks[i]` holds the columns whose positions are in `placements[i]`."""

    index: Ref
    columns: Ref
    blocks: list[Ref]
    placements: list[Ref]
    attrs: Cell


AnyNode = (
    Integer | Text | Bytes | ByteArray | Complex | Constant | Tuple | List | Dict | Set | FrozenSet
    | Range | Slice | Date | Time | DateTime | TimeDelta | TimeZone | Zone | Decimal | Uuid | Path
    | Foreign | NumpyScalar | Array | ObjectArray | StringArray | NumpyType | Timestamp
    | PandasDelta | Period | Interval | Datetimes | Masked | Strings | Categorical | Intervals
    | Periods | Index | RangeIndex | MultiIndex | Series | DataFrame
)  # fmt: skip


class Field(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """A field of a structured data type."""

    name: str
    title: str | None
    dtype: int  # index of an earlier data type
    shape: list[int]
    offset: int


class Record(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """A structured data type."""

    item_bytes: int
    aligned: bool
    fields: list[Field]


DType = str | Record


class Header(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    root: Cell
    nodes: list[AnyNode]
    dtypes: list[DType]
    buffers: list[int]  # lengths in bytes
