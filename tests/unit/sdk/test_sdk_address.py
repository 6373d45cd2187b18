"""URLs and keys: what is refused, and the sentence that says why."""

import pytest

import grotto
from grotto._address import check_key, parse_url


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("grpc://127.0.0.1:50151", "ipv4:127.0.0.1:50151"),
        ("grpc://127.8.9.1:1", "ipv4:127.8.9.1:1"),
        ("grpc://[::1]:50151", "ipv6:[::1]:50151"),
        ("grpc://localhost:50151", "dns:///localhost:50151"),
        ("grpcs://127.0.0.1:50151", "ipv4:127.0.0.1:50151"),
        ("grpcs://grotto.example:1", "dns:///grotto.example:1"),
        ("grpcs://10.0.0.1:1", "ipv4:10.0.0.1:1"),
        ("unix:///run/grotto/c.sock", "unix:/run/grotto/c.sock"),
        ("unix:///tmp/a b%#?.sock", "unix:/tmp/a%20b%25%23%3F.sock"),
    ],
)
def test_a_good_url(url, target):
    assert parse_url(url).target == target


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (None, "GROTTO_URL"),
        ("", "GROTTO_URL"),
        ("grpc://example.com:50151", "in clear to another machine"),
        ("grpc://10.0.0.1:50151", "in clear to another machine"),
        ("grpc://0.0.0.0:50151", "in clear to another machine"),
        ("grpc://localhost.example.com:1", "in clear to another machine"),
        ("grpc://127.0.0.1", "a host and a port"),
        ("grpc://127.0.0.1:99999", "no server URL"),
        ("grpc://127.0.0.1:1/x", "more than a host and a port"),
        ("grpc://user@127.0.0.1:1", "more than a host and a port"),
        ("grpcs://grotto.example", "a host and a port"),
        ("grpcs://gr%20otto.example:1", "cannot be one"),
        ("grpc://exa mple.com:1", "cannot be one"),
        ("http://127.0.0.1:1", "no server URL"),
        ("127.0.0.1:1", "no server URL"),
        ("unix://relative", "absolute path"),
        ("unix:///" + "x" * 200, "too long"),
    ],
)
def test_a_bad_url_says_what_is_wrong(url, says):
    with pytest.raises(grotto.InvalidArgumentError, match=says):
        parse_url(url)


@pytest.mark.parametrize("key", [None, "", "with space", "line\nbreak", "ü", "x" * 1000])
def test_a_key_that_cannot_be_one(key):
    with pytest.raises(grotto.AuthenticationError):
        check_key(key)


def test_url_and_key_come_from_the_environment(server, fake, monkeypatch):
    monkeypatch.setenv("GROTTO_URL", server.url)
    monkeypatch.setenv("GROTTO_API_KEY", "from-the-environment")
    with grotto.connect() as client:
        client.sessions()
    assert fake.metadata[-1]["authorization"] == "Bearer from-the-environment"


def test_a_failed_connect_leaves_no_thread_behind(monkeypatch):
    monkeypatch.delenv("GROTTO_URL", raising=False)
    with pytest.raises(grotto.InvalidArgumentError, match=r"grotto\.local"):
        grotto.connect()
