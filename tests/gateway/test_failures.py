"""The gateway's own responses: every one protected by the `strict` policy, whoever failed."""

from __future__ import annotations

import errno
import json
import socket
import ssl

import pytest

from proxy.gateway import failures
from proxy.gateway.failures import Failure, connect_failure
from proxy.gateway.own_response import render_failure
from proxy.rules.policies import STRICT

ALL = {name: value for name, value in vars(failures).items() if isinstance(value, Failure)}
ANSWERED = {name: failure for name, failure in ALL.items() if failure.status != 499}
DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"


def render(failure, *, method="GET", client_minor=1, keep_alive=True, vary=(), as_json=False):
    head, content = render_failure(
        failure,
        method=method,
        client_minor=client_minor,
        keep_alive=keep_alive,
        vary=vary,
        date=DATE,
        as_json=as_json,
    )
    status_line, *lines = head.decode().removesuffix("\r\n\r\n").split("\r\n")
    return status_line, [tuple(line.split(": ", 1)) for line in lines], content


@pytest.mark.parametrize("name", ANSWERED)
def test_every_failure_is_a_response_with_the_fields_of_the_strict_policy(name):
    failure = ANSWERED[name]
    status_line, fields, content = render(failure)
    assert status_line.startswith(f"HTTP/1.1 {failure.status} ")
    assert set(STRICT.set_fields) <= set(fields)
    names = [key.lower() for key, _ in fields]
    assert sorted(names) == sorted(set(names)), "a field twice"
    assert dict(fields)["Content-Length"] == str(len(content))
    assert dict(fields)["Date"] == DATE.decode()
    assert not {"server", "etag", "last-modified", "vary", "connection"} & set(names)


@pytest.mark.parametrize("name", ANSWERED)
def test_content_is_one_line_of_plain_text(name):
    _, fields, content = render(ANSWERED[name])
    assert dict(fields)["Content-Type"] == "text/plain; charset=utf-8"
    assert content.decode().splitlines() == [content.decode().removesuffix("\n")]
    assert ANSWERED[name].text in content.decode()


@pytest.mark.parametrize("name", ANSWERED)
def test_content_is_one_line_of_json_for_who_asked_for_json(name):
    failure = ANSWERED[name]
    status_line, fields, content = render(failure, as_json=True)
    assert dict(fields)["Content-Type"] == "application/json"
    assert dict(fields)["Content-Length"] == str(len(content))
    assert set(STRICT.set_fields) <= set(fields)
    assert content.count(b"\n") == 1
    phrase = status_line.split(" ", 2)[2]
    assert json.loads(content) == {"status": failure.status, "title": phrase, "detail": failure.text}


@pytest.mark.parametrize(
    ("failure", "phrase"),
    [
        (failures.CONTENT_TOO_LARGE, "413 Content Too Large"),
        (failures.TARGET_TOO_LONG, "414 URI Too Long"),
        (failures.HEAD_TOO_LARGE, "431 Request Header Fields Too Large"),
    ],
)
def test_reason_phrases_are_those_of_rfc_9110_with_any_python(failure, phrase):
    status_line, _, content = render(failure)
    assert status_line == f"HTTP/1.1 {phrase}"
    assert content.startswith(phrase.encode() + b": ")


def test_failure_says_whose_it_is():
    """A 502 may be the proxy's own mistake, and a drain is nobody's but its own."""
    assert {name for name, failure in ALL.items() if failure.source == "proxy"} == {
        "INTERNAL",
        "LOOP_DETECTED",
        "TOO_MANY_CONNECTIONS",
        "DRAINED",
    }
    for failure in ALL.values():
        if failure.source == "upstream":
            assert failure.status in (502, 504)
        elif failure.source == "client":
            assert failure.status in (400, 408, 413, 414, 431, 499, 501)


def test_each_failure_has_a_name_of_its_own_for_log_and_metrics():
    assert len({failure.reason for failure in ALL.values()}) == len(ALL)
    assert all(failure.reason.replace("_", "").isalpha() for failure in ALL.values())


# RFC 9209 section 2.3: the error types that are registered.
REGISTERED = {
    *["dns_timeout", "dns_error", "destination_not_found", "destination_unavailable", "connection_refused"],
    *["connection_terminated", "connection_timeout", "connection_read_timeout", "connection_write_timeout"],
    *["connection_limit_reached", "tls_protocol_error", "tls_certificate_error", "tls_alert_received"],
    *["http_request_error", "http_request_denied", "http_response_incomplete", "http_protocol_error"],
    *[
        "http_response_header_section_size",
        "http_response_timeout",
        "proxy_internal_error",
        "proxy_loop_detected",
    ],
}


@pytest.mark.parametrize("name", ANSWERED)
def test_proxy_status_says_who_answers_and_why(name):
    _, fields, _ = render(ANSWERED[name])
    if ANSWERED[name].proxy_status:
        assert dict(fields)["Proxy-Status"] == f"nocache-proxy; error={ANSWERED[name].proxy_status}"
        assert ANSWERED[name].proxy_status in REGISTERED
    else:
        assert name == "DRAINED"
        assert "Proxy-Status" not in dict(fields)


def test_response_to_head_has_the_fields_of_the_one_to_get_and_no_content():
    """RFC 9110 section 9.3.2."""
    to_get, to_head = (render(failures.UPSTREAM_TIMEOUT, method=method) for method in ("GET", "HEAD"))
    assert to_head == (*to_get[:2], b"")


@pytest.mark.parametrize(
    ("client_minor", "keep_alive", "connection"),
    [(1, True, None), (1, False, "close"), (0, True, "keep-alive"), (0, False, "close")],
)
def test_connection_option_says_what_the_client_would_not_assume(client_minor, keep_alive, connection):
    """RFC 9112 section 9.3."""
    _, fields, _ = render(failures.BAD_REQUEST, client_minor=client_minor, keep_alive=keep_alive)
    assert dict(fields).get("Connection") == connection


def test_fields_that_decide_there_are_named_in_vary():
    _, fields, _ = render(failures.CONNECT_REFUSED, vary=["X-Requested-With", "Sec-Fetch-Dest"])
    assert dict(fields)["Vary"] == "X-Requested-With, Sec-Fetch-Dest"
    assert set(STRICT.set_fields) <= set(fields)


def test_detail_is_for_the_log_and_never_in_the_answer():
    failure = failures.BAD_REQUEST.with_detail("secret\r\nX-Injected: 1")
    assert failure.detail.startswith("secret")
    assert failures.BAD_REQUEST.detail == ""
    assert render(failure) == render(failures.BAD_REQUEST)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TimeoutError(), failures.CONNECT_TIMEOUT),
        (OSError(errno.ETIMEDOUT, "timed out"), failures.CONNECT_TIMEOUT),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), failures.CONNECT_REFUSED),
        (FileNotFoundError(errno.ENOENT, "no socket"), failures.CONNECT_REFUSED),
        (socket.gaierror(-2, "unknown"), failures.DNS_ERROR),
        (ssl.SSLCertVerificationError("expired"), failures.TLS_ERROR),
        (ssl.SSLError("wrong version"), failures.TLS_HANDSHAKE_FAILED),
        (OSError(errno.EHOSTUNREACH, "no route"), failures.CONNECT_FAILED),
        (PermissionError(errno.EACCES, "socket"), failures.CONNECT_FAILED),
        (ConnectionResetError(errno.ECONNRESET, "reset"), failures.CONNECT_FAILED),
    ],
)
def test_error_of_a_connection_attempt_is_translated_with_its_words_for_the_log(error, expected):
    failure = connect_failure(error)
    assert failure == expected.with_detail(failure.detail)
    assert failure.detail == f"{type(error).__name__}: {error}"
