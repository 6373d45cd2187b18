"""Codecs of datetime and zoneinfo."""

import datetime as dt
import re
import zoneinfo
from collections.abc import Callable
from typing import Any

from grotto_wire.values import nodes
from grotto_wire.values.errors import BadEnvelope
from grotto_wire.values.parts import Part, Sink
from grotto_wire.values.source import Source

_ZONE_KEY = re.compile(r"[A-Za-z0-9_+-]{1,40}(/[A-Za-z0-9_+-]{1,40}){0,3}")
"""No dot: the key names a file of the time zone database, and nothing outside it."""


# ---- encode ----


def _time(value: dt.time, _: Sink) -> Part:
    fields = value.hour, value.minute, value.second, value.microsecond, value.fold
    return Part(
        (value.tzinfo,), lambda cells: nodes.Time(*fields, cells[0]), _zone_label, "datetime.time"
    )


def _datetime(value: dt.datetime, _: Sink) -> Part:
    date = value.year, value.month, value.day
    clock = value.hour, value.minute, value.second, value.microsecond, value.fold
    return Part(
        (value.tzinfo,),
        lambda cells: nodes.DateTime(*date, *clock, cells[0]),
        _zone_label,
        "datetime.datetime",
    )


def _zone_label(_: int) -> str:
    return ".tzinfo"


def _timezone(value: dt.timezone, _: Sink) -> nodes.Node:
    offset, *name = value.__getinitargs__()  # type: ignore[attr-defined]
    return nodes.TimeZone(offset.days, offset.seconds, offset.microseconds, *name or [None])


def _zone(value: zoneinfo.ZoneInfo, _: Sink) -> Any:
    return nodes.Zone(value.key) if _ZONE_KEY.fullmatch(value.key or "") else NotImplemented


ENCODERS: dict[type, Callable[[Any, Sink], Any]] = {
    dt.date: lambda value, _: nodes.Date(value.year, value.month, value.day),
    dt.time: _time,
    dt.datetime: _datetime,
    dt.timedelta: lambda value, _: nodes.TimeDelta(value.days, value.seconds, value.microseconds),
    dt.timezone: _timezone,
    zoneinfo.ZoneInfo: _zone,
}


# ---- decode ----


def read_zone(cell: nodes.Cell, source: Source) -> dt.tzinfo | None:
    """Returns the time zone in a cell; raises BadEnvelope for anything else."""
    zone: dt.tzinfo | None = source.value(cell)
    if zone is None or type(zone) in (dt.timezone, zoneinfo.ZoneInfo) or source.is_foreign(cell):
        return zone
    raise BadEnvelope("a time zone is something else")


def _read_time(node: nodes.Time, source: Source) -> dt.time:
    clock = node.hour, node.minute, node.second, node.microsecond
    return dt.time(*clock, tzinfo=read_zone(node.zone, source), fold=node.fold)


def _read_datetime(node: nodes.DateTime, source: Source) -> dt.datetime:
    return dt.datetime(
        node.year, node.month, node.day, node.hour, node.minute, node.second, node.microsecond,
        tzinfo=read_zone(node.zone, source), fold=node.fold,
    )  # fmt: skip


def _read_timezone(node: nodes.TimeZone, _: Source) -> dt.timezone:
    offset = dt.timedelta(node.offset_days, node.offset_seconds, node.offset_microseconds)
    if node.name is None:
        return dt.timezone(offset)
    return dt.timezone(offset, node.name)


def _read_zone_info(node: nodes.Zone, _: Source) -> zoneinfo.ZoneInfo:
    if not _ZONE_KEY.fullmatch(node.key):
        raise BadEnvelope("a time zone's name is no name")
    return zoneinfo.ZoneInfo(node.key)


BUILDERS: dict[type, Callable[[Any, Source], object]] = {
    nodes.Date: lambda node, _: dt.date(node.year, node.month, node.day),
    nodes.Time: _read_time,
    nodes.DateTime: _read_datetime,
    nodes.TimeDelta: lambda node, _: dt.timedelta(node.days, node.seconds, node.microseconds),
    nodes.TimeZone: _read_timezone,
    nodes.Zone: _read_zone_info,
}
