"""Which calls the proxy knows, and what each becomes. Pure: nothing is sent here.

The paths are those of version 1.41 of the engine's API, with that prefix or with none.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode

from grotto_control.backends.docker import template
from grotto_control.engine_proxy.bodies import checked_create, checked_update, sandbox_of
from grotto_control.engine_proxy.rules import (
    NAMELESS,
    ImageUnknown,
    Refused,
    Rules,
    only_keys,
    require,
)

API = "/v1.41"
_TARGET = re.compile(r"(/[A-Za-z0-9_.:@/-]*)(?:\?([!-~]*))?")
_CONTAINER_ID = re.compile(r"[0-9a-f]{12,64}")
_VOLUME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_TIME = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?")
_YES, _NO = ("1", "true", "True"), ("0", "false", "False", "")


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came, its body whole."""

    method: str
    target: str
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Call:
    """A request as it may be sent to the engine, once what it names is known to be ours."""

    method: str
    path: str
    """Below the version's prefix; `{id}` stands for the full id of `container`."""
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    container: str | None = None
    """Id or name of a container that has to be this server's."""
    volume: str | None = None
    """Name of a volume that has to be this server's."""
    creates: bool = False
    streams: bool = False

    def target(self, container_id: str = "") -> str:
        """Returns the request target, with `container_id` filled in."""
        path = self.path.replace("{id}", container_id)
        return API + path + (f"?{urlencode(self.query)}" if self.query else "")


def judge(request: Request, rules: Rules) -> Call:
    """Returns what the request becomes; raises Refused."""
    path, query = _split(request.target)
    for method, pattern, rule in _ROUTES:
        found = pattern.fullmatch(path)
        if found is not None and request.method == method:
            require(not request.body or rule in _WITH_BODY, "this call takes no body.", 400)
            return rule(found, query, request, rules)
    raise Refused("this is not a call that the control plane makes.")


def server_named(request: Request) -> str | None:
    """Returns the server whose own things a request lists; None if it lists nothing."""
    try:
        _, query = _split(request.target)
        (label,) = _json(query["filters"].encode())["label"]
        name, _, value = label.partition("=")
    except (Refused, KeyError, TypeError, ValueError, AttributeError):
        return None
    return value if name == template.SERVER_LABEL else None


def _split(target: str) -> tuple[str, dict[str, str]]:
    """Returns the path below the version, and the parameters, each given once."""
    found = _TARGET.fullmatch(target)
    if found is None:
        raise Refused("the request's target is not a plain path.", 400)
    path, query = found[1].removeprefix(API), found[2] or ""
    segments = path.split("/")[1:]
    require(segments and not {"", ".", ".."} & set(segments), "the path is not plain.", 400)
    try:
        pairs = parse_qsl(
            query, keep_blank_values=True, strict_parsing=bool(query), errors="strict"
        )
    except ValueError as error:
        raise Refused("the query cannot be read.", 400) from error
    require(len(dict(pairs)) == len(pairs), "a parameter is given twice.", 400)
    return path, dict(pairs)


def _plain(found: re.Match[str], query: dict[str, str], _: Request, __: Rules) -> Call:
    only_keys(query, (), "parameter")
    return Call("GET", found[0])


def _image(found: re.Match[str], query: dict[str, str], _: Request, rules: Rules) -> Call:
    only_keys(query, (), "parameter")
    reference = found[1]
    if reference not in rules.references and reference not in rules.images:
        raise ImageUnknown
    return Call("GET", found[0])


def _create(_: re.Match[str], query: dict[str, str], request: Request, rules: Rules) -> Call:
    only_keys(query, ("name",), "parameter")
    name = query.get("name", "")
    body = checked_create(name, _json(request.body), rules)
    return Call("POST", "/containers/create", {"name": name}, body, creates=True)


def _start(found: re.Match[str], query: dict[str, str], _: Request, __: Rules) -> Call:
    only_keys(query, (), "parameter")
    return Call("POST", "/containers/{id}/start", container=_container(found[1]))


def _update(found: re.Match[str], query: dict[str, str], request: Request, _: Rules) -> Call:
    only_keys(query, (), "parameter")
    body = checked_update(_json(request.body))
    return Call("POST", "/containers/{id}/update", {}, body, container=_container(found[1]))


def _inspect(found: re.Match[str], query: dict[str, str], _: Request, __: Rules) -> Call:
    only_keys(query, (), "parameter")
    return Call("GET", "/containers/{id}/json", container=_container(found[1]))


def _remove(found: re.Match[str], query: dict[str, str], _: Request, __: Rules) -> Call:
    only_keys(query, ("force", "v", "link"), "parameter")
    require(query.get("link", "0") in _NO, "links are not removed here.")
    kept = {name: "1" for name in ("force", "v") if _flag(query, name)}
    return Call("DELETE", "/containers/{id}", kept, container=_container(found[1]))


def _containers(_: re.Match[str], query: dict[str, str], __: Request, rules: Rules) -> Call:
    only_keys(query, ("all", "filters", "limit", "size", "trunc_cmd"), "parameter")
    require(query.get("limit", "-1") == "-1", "limit is not -1.")
    require(not _flag(query, "size") and not _flag(query, "trunc_cmd"), "size is not asked for.")
    sent = {"all": "1" if _flag(query, "all") else "0"}
    return Call("GET", "/containers/json", {**sent, "filters": _filters(query, rules)})


def _volumes(_: re.Match[str], query: dict[str, str], __: Request, rules: Rules) -> Call:
    only_keys(query, ("filters",), "parameter")
    return Call("GET", "/volumes", {"filters": _filters(query, rules)})


def _remove_volume(found: re.Match[str], query: dict[str, str], _: Request, __: Rules) -> Call:
    only_keys(query, ("force",), "parameter")
    require(_VOLUME.fullmatch(found[1]), "this is no volume's name.", 400)
    sent = {"force": "1"} if _flag(query, "force") else {}
    return Call("DELETE", found[0], sent, volume=found[1])


def _events(_: re.Match[str], query: dict[str, str], __: Request, rules: Rules) -> Call:
    only_keys(query, ("filters", "since", "until"), "parameter")
    for name in ("since", "until"):
        require(name not in query or _TIME.fullmatch(query[name]), f"{name} is no time.", 400)
    sent = {**query, "filters": _filters(query, rules, ("type", "event"))}
    return Call("GET", "/events", sent, streams=True)


def _container(word: str) -> str:
    if not _CONTAINER_ID.fullmatch(word):
        sandbox_of(word)
    return word


def _flag(query: Mapping[str, str], name: str) -> bool:
    value = query.get(name, "0")
    require(value in _YES + _NO, f"{name} is neither true nor false.", 400)
    return value in _YES


def _filters(query: Mapping[str, str], rules: Rules, also: tuple[str, ...] = ()) -> str:
    """Returns filters that show what is this server's and nothing else; raises Refused."""
    given = _json(query.get("filters", "").encode())
    require(isinstance(given, dict), "filters is not a JSON object.", 400)
    only_keys(given, ("label", *also), "filter")
    require(rules.server_id, NAMELESS)
    own = [f"{template.SERVER_LABEL}={rules.server_id}"]
    require(given.get("label") == own, "a listing has to be limited to this server's label.")
    for name in given.keys() & set(also):
        require(_is_words(given[name]), f"filter {name} is not a list of words.", 400)
    return json.dumps(given)


def _is_words(value: Any) -> bool:
    return (
        isinstance(value, list)
        and 0 < len(value) <= 8
        and all(isinstance(v, str) and re.fullmatch("[a-z_]{1,32}", v) for v in value)
    )


def _json(text: bytes) -> Any:
    """Returns the value; raises Refused for what two readers could read differently."""
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Refused("this is not JSON, or a key is in it twice.", 400) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key is there twice")
    return dict(pairs)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


_Rule = Callable[[re.Match[str], dict[str, str], Request, Rules], Call]
_WITH_BODY: tuple[_Rule, ...] = (_create, _update)
_ROUTES: tuple[tuple[str, re.Pattern[str], _Rule], ...] = tuple(
    (method, re.compile(pattern), rule)
    for method, pattern, rule in (
        ("GET", "/_ping|/version|/info", _plain),
        ("GET", "/images/(.+)/json", _image),
        ("POST", "/containers/create", _create),
        ("GET", "/containers/json", _containers),
        ("POST", "/containers/([^/]+)/start", _start),
        ("POST", "/containers/([^/]+)/update", _update),
        ("GET", "/containers/([^/]+)/json", _inspect),
        ("DELETE", "/containers/([^/]+)", _remove),
        ("GET", "/volumes", _volumes),
        ("DELETE", "/volumes/([^/]+)", _remove_volume),
        ("GET", "/events", _events),
    )
)
