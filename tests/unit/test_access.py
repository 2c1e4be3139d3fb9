"""Who may call, with a key and without one."""

from __future__ import annotations

import ipaddress

import pytest
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine

from handlers.access import Access, AccessDenied, KeyRequired

KEY = "a-key-for-tests"
OFFICE = [ipaddress.ip_network("10.20.0.0/16"), ipaddress.ip_network("fd00::/8")]
FORWARDED = ["Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip", "Via"]


def request(
    headers: dict[str, str] | None = None, *, host: str = "127.0.0.1:5000", ip: str = "127.0.0.1"
) -> HTTPServerRequest:
    line = RequestStartLine("GET", "/api/status", "HTTP/1.1")
    found = HTTPServerRequest(start_line=line, headers=HTTPHeaders({"Host": host, **(headers or {})}))
    found.remote_ip = ip
    return found


# -- with a key --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer {KEY}"},
        {"Authorization": f"BEARER  {KEY} "},
        {"X-API-Key": KEY},
        {"x-api-key": KEY},
        {"Authorization": "Basic dXNlcjpwYXNz", "X-API-Key": KEY},
    ],
)
def test_the_key_opens_to_anybody(headers: dict[str, str]) -> None:
    access = Access(KEY)
    access.check(request(headers))
    access.check(request({**headers, "X-Forwarded-For": "1.2.3.4"}, host="example.org", ip="203.0.113.9"))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": KEY},
        {"X-API-Key": ""},
    ],
)
def test_without_its_key_a_caller_is_asked_for_one(headers: dict[str, str]) -> None:
    with pytest.raises(KeyRequired, match="is required"):
        Access(KEY).check(request(headers))


@pytest.mark.parametrize("token", [f"{KEY}x", KEY[:-1], KEY.upper(), "clé", "x" * 100_000, "\udce9"])
def test_another_key_is_refused(token: str) -> None:
    for headers in ({"Authorization": f"Bearer {token}"}, {"X-API-Key": token}):
        with pytest.raises(KeyRequired, match="is not valid"):
            Access(KEY).check(request(headers))
    assert not Access(KEY).is_key(token)


def test_no_refusal_repeats_what_was_given() -> None:
    with pytest.raises(KeyRequired) as caught:
        Access(KEY).check(request({"X-API-Key": "a secret of another place"}))
    assert "secret" not in caught.value.message
    assert KEY not in caught.value.message


def test_a_key_given_elsewhere_counts_before_the_headers() -> None:
    Access(KEY).check(request(), KEY)
    Access(KEY).check(request({"X-API-Key": "wrong"}), KEY)
    with pytest.raises(KeyRequired):
        Access(KEY).check(request({"X-API-Key": KEY}), "wrong")
    Access(KEY).check(request({"X-API-Key": KEY}), "")


def test_a_key_is_asked_for_on_this_machine_too() -> None:
    with pytest.raises(KeyRequired):
        Access(KEY).check(request())


@pytest.mark.parametrize(("key", "needed"), [(KEY, True), ("", False)])
def test_whether_a_key_is_needed(key: str, needed: bool) -> None:
    assert Access(key).needs_key is needed


@pytest.mark.parametrize("token", ["", KEY])
def test_where_no_key_is_set_nothing_is_the_key(token: str) -> None:
    assert not Access("").is_key(token)


# -- without a key -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "ip"),
    [
        ("127.0.0.1:5000", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1"),
        ("localhost:5000", "127.0.0.1"),
        ("LOCALHOST", "::1"),
        ("[::1]:5000", "::1"),
        ("[::1]", "::1"),
        ("127.9.9.9:80", "127.0.0.2"),
    ],
)
def test_this_machine_may_call(host: str, ip: str) -> None:
    Access("").check(request(host=host, ip=ip))


@pytest.mark.parametrize("name", [*FORWARDED, "x-forwarded-for"])
def test_nothing_that_came_through_a_proxy_is_let_in(name: str) -> None:
    # A tunnel to the webhook runs on this machine and calls from it.
    with pytest.raises(AccessDenied, match="proxy"):
        Access("").check(request({name: "127.0.0.1"}))


@pytest.mark.parametrize(
    "host",
    [
        "example.org",
        "192.168.1.5:5000",
        "0.0.0.0:5000",
        "localhost.example.org",
        "127.0.0.1.example.org",
        "2130706433",
        "[fe80::1]:5000",
        "",
    ],
)
def test_another_name_of_this_machine_is_not_let_in(host: str) -> None:
    # A page in a browser may have its own name lead to this machine.
    with pytest.raises(AccessDenied, match="loopback"):
        Access("").check(request(host=host))


@pytest.mark.parametrize("ip", ["192.168.1.7", "203.0.113.9", "fe80::1", "0.0.0.0"])
def test_another_machine_is_not_let_in(ip: str) -> None:
    with pytest.raises(AccessDenied, match="this machine"):
        Access("").check(request(ip=ip))


# -- trusted networks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["", KEY])
@pytest.mark.parametrize("ip", ["10.20.0.1", "10.20.255.255", "fd12::7"])
def test_a_trusted_network_needs_no_key(key: str, ip: str) -> None:
    Access(key, OFFICE).check(request(host="gateway.example.org", ip=ip))


@pytest.mark.parametrize("ip", ["10.21.0.1", "127.0.0.1", "fe80::1", "", "no address"])
def test_outside_of_it_a_key_is_needed(ip: str) -> None:
    with pytest.raises(KeyRequired):
        Access(KEY, OFFICE).check(request(ip=ip))


@pytest.mark.parametrize("name", FORWARDED)
def test_a_proxy_inside_of_it_is_not_trusted(name: str) -> None:
    with pytest.raises(KeyRequired):
        Access(KEY, OFFICE).check(request({name: "10.20.0.1"}, ip="10.20.0.1"))
    with pytest.raises(AccessDenied):
        Access("", OFFICE).check(request({name: "10.20.0.1"}, ip="10.20.0.1"))


def test_this_machine_may_call_beside_it() -> None:
    Access("", OFFICE).check(request())
