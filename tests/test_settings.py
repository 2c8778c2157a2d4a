"""The contract of settings: text becomes a value once, or an error that says what was found and what is allowed."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from pathlib import Path

import click
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.cli import cli
from proxy.settings import (
    LOOPBACK_NETWORKS,
    PRIVATE_NETWORKS,
    Address,
    Settings,
    SettingsError,
    Upstream,
    parse_hosts,
    parse_log_fields,
    parse_networks,
)

APP = Upstream("http", "127.0.0.1", 5000, authority="127.0.0.1:5000")
LONG = "a" * 63  # the longest label that a name may have

# Text as an argument or a variable can hold it: anything but NUL, undecodable bytes as lone surrogates.
TEXTS = st.text(st.characters(exclude_characters="\0"), max_size=40)
PIECES = st.sampled_from(
    [
        *("http://", "https://", "HTTP:", "unix:", "//", "/", ":", "::", "[", "]", "%25", "%", "@", "?", "#"),
        *("localhost", "127.0.0.1", "::1", "fe80::1%e", "10.0.0.0/8", "a..b", LONG + "a", ".", ",", "none"),
        *("0", "80", "65535", "65536", "-1", " ", "\t", "\n", "\u00e9", "\uff11", "\u2100", "\udce9"),
    ]
)
ALMOST = TEXTS | st.lists(PIECES, max_size=6).map("".join)


# Where to listen


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("0.0.0.0:0", Address("0.0.0.0", 0)),
        (":8080", Address("", 8080)),
        ("localhost:65535", Address("localhost", 65535)),
        ("app.example.:80", Address("app.example.", 80)),
        (f"{LONG}.example:80", Address(f"{LONG}.example", 80)),
        ("[::1]:8080", Address("::1", 8080)),
        ("[::]:8080", Address("::", 8080)),
        ("[::ffff:127.0.0.1]:80", Address("::ffff:127.0.0.1", 80)),
        ("[fe80::1%1]:80", Address("fe80::1%1", 80)),
        ("unix:/run/proxy.sock", Address(path=Path("/run/proxy.sock"))),
        ("unix:relative", Address(path=Path("relative"))),
        ("unix:with space:80", Address(path=Path("with space:80"))),
    ],
)
def test_address_is_read_and_written_as_the_same_text(text, address):
    assert Address.parse(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "8080", "localhost", "localhost:", "localhost:http", "localhost:-1", "localhost:+80"),
        *("localhost:65536", "localhost:080808", "localhost: 80", "local host:80", " localhost:80", "a:80\n"),
        *("::1:80", "[::1]", "[::1]:", "[::1:80", "::1]:80", "[localhost]:80", "a:b:80", "localhost:\uff18"),
        *("http://localhost:80", "localhost:80/", "unix:", "Unix:/s"),
        *("a..b:80", ".a:80", ".:80", f"{LONG}a:80", "caf\u00e9:80", "\udce9:80"),
    ],
)
def test_what_is_no_address_is_told_with_what_is_allowed(text):
    with pytest.raises(SettingsError) as caught:
        Address.parse(text)
    assert str(caught.value) == f"{text!r} is no address; allowed are HOST:PORT, [IPV6]:PORT and unix:PATH"


@given(ALMOST)
def test_address_is_read_or_refused_and_reads_back(text):
    try:
        address = Address.parse(text)
    except SettingsError:
        return
    assert Address.parse(str(address)) == address
    assert (address.path is None) or (address.host, address.port) == ("", 0)
    assert 0 <= address.port <= 65535
    # What a socket is bound by: Python's resolver refuses some names with an error that is no OSError.
    address.host.encode("idna")


# The app


@pytest.mark.parametrize(
    ("text", "upstream"),
    [
        ("http://127.0.0.1:5000", APP),
        ("http://127.0.0.1:5000/", APP),
        ("http://app", Upstream("http", "app", 80, authority="app")),
        ("https://app", Upstream("https", "app", 443, authority="app")),
        ("https://app:80", Upstream("https", "app", 80, authority="app:80")),
        ("http://app:", Upstream("http", "app", 80, authority="app:")),
        ("HTTP://App.Example.", Upstream("http", "app.example.", 80, authority="App.Example.")),
        ("http://[::1]:5000", Upstream("http", "::1", 5000, authority="[::1]:5000")),
        ("https://[::1]", Upstream("https", "::1", 443, authority="[::1]")),
        ("unix:/run/app.sock", Upstream("unix", path=Path("/run/app.sock"))),
        ("unix:app sock", Upstream("unix", path=Path("app sock"))),
    ],
)
def test_upstream_is_read_with_the_port_of_its_scheme_and_its_name_as_written(text, upstream):
    assert Upstream.parse(text) == upstream
    assert Upstream.parse(str(upstream)) == upstream


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "//app",
            "http:app",
            "http:/app",
            "http://",
            "http:///",
            "unix:",
        ),
        *("ftp://app", "ws://app", "http+unix://%2Fs"),
        *(
            "http://:80",
            "http://app:0",
            "http://app:65536",
            "http://app:-1",
            "http://app:http",
            "http://app:\uff18",
        ),
        *("http://user@app", "http://user:word@app", "http://app app", "http://a|b"),
        *("http://[::1", "http://::1", "http://[::1]5000", "http://[app]", "http://[127.0.0.1]"),
        *(
            "http://a..b",
            "http://.",
            f"http://{LONG}a",
            "http://caf\u00e9",
            "http://\udce9",
            "http://a\u2100",
        ),
        *(" http://app", "http://app ", "http://app\n", "ht\ntp://app", "http://a\tpp", "\x01http://app"),
    ],
)
def test_what_is_no_upstream_is_told_with_what_is_allowed(text):
    with pytest.raises(SettingsError) as caught:
        Upstream.parse(text)
    assert str(caught.value).startswith(f"{text!r} is no upstream")
    assert str(caught.value).endswith("; allowed are http://HOST[:PORT], https://HOST[:PORT] and unix:PATH")


@pytest.mark.parametrize("rest", ["/app", "//", "/?a", "?a", "/#a", "#a", "/%2e", "/;a"])
def test_upstream_has_no_path_as_request_targets_are_passed_on_as_they_come(rest):
    with pytest.raises(
        SettingsError, match="has a path: request targets are passed on as they come; allowed"
    ):
        Upstream.parse(f"http://app{rest}")


@given(ALMOST)
@example("http://\udce9")
@example("http://[v1.a]")
def test_upstream_is_read_or_refused_and_reads_back(text):
    try:
        upstream = Upstream.parse(text)
    except SettingsError:
        return
    assert Upstream.parse(str(upstream)) == upstream
    assert (upstream.path is None) == (upstream.scheme != "unix")
    if upstream.path is None:
        assert 0 < upstream.port <= 65535
        assert upstream.host
        assert upstream.authority.isascii()
        assert "@" not in upstream.authority
        upstream.host.encode("idna")


# Trusted proxies


def test_networks_with_a_name_stand_beside_others():
    assert parse_networks("loopback") == LOOPBACK_NETWORKS
    assert parse_networks(" private , 192.0.2.1") == (*PRIVATE_NETWORKS, *parse_networks("192.0.2.1"))


def test_nobody_but_this_machine_is_trusted_unasked():
    """Issue 16.21: on an intranet every client has a private address."""
    trusted = Settings(upstream=APP).trusted_proxies
    for address, is_trusted in (("127.8.9.1", True), ("::1", True), ("10.0.0.1", False), ("fe80::1", False)):
        assert any(ipaddress.ip_address(address) in network for network in trusted) == is_trusted


@pytest.mark.parametrize(
    ("text", "networks"),
    [
        ("", []),
        (" ", []),
        ("none", []),
        (" none ", []),
        ("10.0.0.0/8", ["10.0.0.0/8"]),
        ("10.1.2.3/8", ["10.0.0.0/8"]),
        ("192.0.2.1", ["192.0.2.1/32"]),
        ("192.0.2.0/255.255.255.0", ["192.0.2.0/24"]),
        ("::1", ["::1/128"]),
        ("2001:db8::1/32,10.0.0.0/8", ["2001:db8::/32", "10.0.0.0/8"]),
        (" 10.0.0.0/8 , ::/0 ", ["10.0.0.0/8", "::/0"]),
    ],
)
def test_networks_are_read_in_order_without_their_host_bits(text, networks):
    assert [str(network) for network in parse_networks(text)] == networks


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("10.0.0.0/33", "10.0.0.0/33"),
        ("10.0.0", "10.0.0"),
        ("010.0.0.1", "010.0.0.1"),
        ("::/129", "::/129"),
        ("app.example", "app.example"),
        ("10.0.0.0/8,", ""),
        ("10.0.0.0/8,,::1", ""),
        ("10.0.0.0/8,none", "none"),
        ("10.0.0.0/8;::1", "10.0.0.0/8;::1"),
        ("1", "1"),
    ],
)
def test_the_member_that_is_no_network_is_named(text, found):
    with pytest.raises(SettingsError) as caught:
        parse_networks(text)
    assert str(caught.value).startswith(f"{found!r} is no IP network (")


@given(ALMOST)
def test_networks_are_read_or_refused(text):
    try:
        networks = parse_networks(text)
    except SettingsError:
        return
    assert parse_networks(",".join(map(str, networks))) == networks


@pytest.mark.parametrize(
    ("address", "is_private"),
    [
        *[
            (address, True)
            for address in ("127.0.0.1", "127.1.2.3", "10.255.0.1", "172.16.0.1", "172.31.255.255")
        ],
        *[(address, True) for address in ("192.168.1.1", "::1", "fd00::1", "fe80::1")],
        *[(address, True) for address in ("100.64.0.1", "100.127.255.255")],  # RFC 6598
        *[
            (address, False)
            for address in ("172.15.255.255", "172.32.0.1", "192.169.0.1", "8.8.8.8", "11.0.0.1")
        ],
        *[
            (address, False)
            for address in ("100.128.0.1", "169.254.169.254", "::2", "2001:db8::1", "fec0::1")
        ],
    ],
)
def test_private_networks_are_loopback_private_and_shared_ranges_and_no_others(address, is_private):
    assert any(ipaddress.ip_address(address) in network for network in PRIVATE_NETWORKS) == is_private


# All together


def test_settings_never_change():
    settings = Settings(upstream=APP)
    for field in dataclasses.fields(settings):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(settings, field.name, None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.upstream.port = 80
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.listen.port = 80


def test_every_setting_is_a_flag_and_has_its_default():
    """What a test or a tool builds from `Settings` alone is what `serve` runs without flags."""
    context = click.Context(cli.commands["serve"], **cli.context_settings)
    defaults = {
        parameter.name: parameter.type_cast_value(context, parameter.get_default(context))
        for parameter in cli.commands["serve"].params
        if not parameter.required
    }
    settings = Settings(upstream=APP)
    assert defaults == {
        field.name: getattr(settings, field.name)
        for field in dataclasses.fields(settings)
        if field.name != "upstream"
    }


@pytest.mark.parametrize(("access_log", "log_format"), [("json", "json"), ("text", "text"), ("off", "json")])
def test_application_log_has_the_format_of_the_access_log(access_log, log_format):
    assert Settings(upstream=APP, access_log=access_log).log_format == log_format


@pytest.mark.parametrize(
    ("text", "hosts"), [("", ()), (" , ", ()), ("a, B.Example. ,c", ("a", "b.example", "c"))]
)
def test_hosts_are_names_in_lower_case(text, hosts):
    assert parse_hosts(text) == hosts


@pytest.mark.parametrize("text", ["a:1", "http://a", "a b", "\xe4", "*"])
def test_what_is_no_host_name_is_told(text):
    with pytest.raises(SettingsError, match="is no host name"):
        parse_hosts(text)


@pytest.mark.parametrize("text", ["127.0.0.1:5000", "localhost:5000", "app", "app:80", "[::1]:80"])
def test_upstream_without_a_scheme_is_told_what_it_may_mean(text):
    with pytest.raises(
        SettingsError, match=f"{re.escape(text)}' has no scheme; did you mean http://{re.escape(text)}"
    ):
        Upstream.parse(text)


@pytest.mark.parametrize("text", ["", "a b", "user:word@app", "app/root"])
def test_no_upstream_is_suggested_that_would_be_none(text):
    with pytest.raises(SettingsError, match="allowed are http://"):
        Upstream.parse(text)


@pytest.mark.parametrize("text", ["", "ts,", "time", "ts;status", "all,ts"])
def test_what_is_no_field_of_the_log_is_told_with_those_that_are(text):
    with pytest.raises(SettingsError, match="is no field of the access log; allowed are ts, method"):
        parse_log_fields(text)
