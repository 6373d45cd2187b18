"""Codecs of pandas' scalars: points and spans of time, intervals, missing values."""

import datetime as dt
import re
import zoneinfo
from collections.abc import Callable
from typing import Any

from grotto_wire.values import nodes
from grotto_wire.values.errors import BadEnvelope
from grotto_wire.values.parts import Part, Sink
from grotto_wire.values.scalars import NOT_A_TIME, NOT_AVAILABLE
from grotto_wire.values.source import Source
from grotto_wire.values.temporal import read_zone

UNITS = frozenset({"s", "ms", "us", "ns"})
CLOSED = frozenset({"left", "right", "both", "neither"})
_FREQUENCY = re.compile(r"-?[0-9]{0,6}[A-Za-z]{1,5}(-[A-Z]{3})?")


# ---- encode ----


def encoders() -> dict[type, Callable[[Any, Sink], Any]]:
    """Returns the codecs by type; pandas is imported already."""
    import pandas as pd

    return {
        type(pd.NaT): lambda _, __: nodes.Constant(NOT_A_TIME),
        type(pd.NA): lambda _, __: nodes.Constant(NOT_AVAILABLE),
        pd.Timestamp: _timestamp,
        pd.Timedelta: lambda value, _: nodes.PandasDelta(
            _ticks(value.to_timedelta64()), value.unit
        ),
        pd.Period: _period,
        pd.Interval: _interval,
    }


def zone_for_wire(zone: Any) -> Any:
    """Returns a time zone that has a codec: pytz's named ones become zoneinfo's."""
    name = getattr(zone, "zone", None)
    if type(zone).__module__.split(".")[0] == "pytz" and type(name) is str:
        return zoneinfo.ZoneInfo(name)
    return zone


def frequency_text(offset: Any) -> str | None:
    """Returns the text of a frequency, or None when no text stands for it."""
    from pandas.tseries.frequencies import to_offset

    text = None if offset is None else str(offset.freqstr)
    return text if text and _FREQUENCY.fullmatch(text) and to_offset(text) == offset else None


def _ticks(value: Any) -> int:
    return int(value.view("i8"))


def _timestamp(value: Any, _: Sink) -> Part:
    ticks, unit = _ticks(value.to_datetime64()), value.unit
    return Part(
        (zone_for_wire(value.tz),),
        lambda cells: nodes.Timestamp(ticks, unit, cells[0]),
        lambda _: ".tz",
        "pandas.Timestamp",
    )


def _period(value: Any, _: Sink) -> Any:
    text = frequency_text(value.freq)
    return NotImplemented if text is None else nodes.Period(value.ordinal, text)


def _interval(value: Any, _: Sink) -> Part:
    closed = value.closed
    return Part(
        (value.left, value.right),
        lambda cells: nodes.Interval(cells[0], cells[1], closed),
        lambda i: (".left", ".right")[i],
        "pandas.Interval",
    )


# ---- decode ----


def read_pandas_zone(cell: nodes.Cell, source: Source) -> Any:
    """Returns the time zone in a cell, of the library that this pandas takes for names."""
    import pandas as pd

    zone = read_zone(cell, source)
    if type(zone) is zoneinfo.ZoneInfo and int(pd.__version__.split(".")[0]) < 3:
        return pd.DatetimeTZDtype("ns", zone.key).tz
    return zone


def offset_of(text: str) -> Any:
    """Returns the frequency a text stands for; raises BadEnvelope."""
    from pandas.tseries.frequencies import to_offset

    if not _FREQUENCY.fullmatch(text):
        raise BadEnvelope("a frequency is none")
    return to_offset(text)


def closed_of(text: str) -> str:
    if text not in CLOSED:
        raise BadEnvelope("an interval is closed on no side there is")
    return text


def _unit(text: str) -> str:
    if text not in UNITS:
        raise BadEnvelope("an unknown unit of time")
    return text


def _read_timestamp(node: nodes.Timestamp, source: Source) -> Any:
    import numpy as np
    import pandas as pd

    found = pd.Timestamp(np.int64(node.value).view(f"M8[{_unit(node.unit)}]")).as_unit(node.unit)
    zone = read_pandas_zone(node.zone, source)
    return found if zone is None else found.tz_localize(dt.UTC).tz_convert(zone)


def _read_delta(node: nodes.PandasDelta, _: Source) -> Any:
    import numpy as np
    import pandas as pd

    return pd.Timedelta(np.int64(node.value).view(f"m8[{_unit(node.unit)}]")).as_unit(node.unit)


def _read_period(node: nodes.Period, _: Source) -> Any:
    import pandas as pd

    return pd.Period(ordinal=node.ordinal, freq=offset_of(node.frequency))


def _read_interval(node: nodes.Interval, source: Source) -> Any:
    import pandas as pd

    source.weigh_keys([node.left, node.right])
    return pd.Interval(source.value(node.left), source.value(node.right), closed_of(node.closed))


BUILDERS: dict[type, Callable[[Any, Source], Any]] = {
    nodes.Timestamp: _read_timestamp,
    nodes.PandasDelta: _read_delta,
    nodes.Period: _read_period,
    nodes.Interval: _read_interval,
}
