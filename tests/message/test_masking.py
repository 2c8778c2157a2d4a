"""Credentials never show: fields by their names, parameters wherever they stand. What is harmless stays as it is."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.message.masking import HIDDEN, is_secret, masked, masked_line

SECRET = b"s3cr3tZq9"
HARMLESS = [
    b"Host: app.example",
    b"Cache-Control: max-age=0, private",
    b"Content-Type: multipart/form-data; boundary=abc",
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
    b'If-None-Match: "33a64df5"',
    b"Content-Security-Policy: script-src 'self'; report-uri /csp?app=1",
    b"Link: </style.css>; rel=preload; as=style",
    b"Vary: Accept-Encoding",
    b"Location: /items?page=2&sort=name",
    b"Location: https://app.example/a?mail=a@b.example&order_state=open",
    b"Location: /login?next=https%3A%2F%2Fapp.example%3Fmail%3Da%40b.example",
    b"Content-Location: /packages//@scope/name",
    b"X-Forwarded-For: 192.0.2.1, 10.0.0.1",
    b"Set-Zookies",
]
NAMES = [
    *(
        b"Cookie",
        b"Set-Cookie",
        b"set-cookie2",
        b"AUTHORIZATION",
        b"Proxy-Authorization",
        b"Authentication-Info",
    ),
    *(
        b"WWW-Authenticate",
        b"X-CSRF-Token",
        b"X-XSRFToken",
        b"X-Api-Key",
        b"apikey",
        b"X-Auth",
        b"X-Session-Id",
    ),
    *(
        b"X-Amz-Security-Token",
        b"Client-Secret",
        b"X-Password",
        b"X-User-Pwd",
        b"DPoP",
        b"X-SID",
        b"SAMLResponse",
        b"X-HMAC",
        b"Sec-WebSocket-Protocol",
    ),
]
PARAMETERS = [
    b"token",
    b"access_token",
    b"code",
    b"api_key",
    b"sig",
    b"jsessionid",
    b"to%6ben",
    b"user[password]",
    b"bearer",
    b"pw",
    *(b"state", b"code_verifier", b"request_uri", b"device_code", b"RelayState", b"SAMLart", b"wresult"),
    *(
        b"X-Amz-Signature",
        b"X-Amz-Credential",
        b"X-Goog-Signature",
        b"AWSAccessKeyId",
        b"Key-Pair-Id",
        b"hdnts",
    ),
    *(
        b"PHPSESSID",
        b"mysql_pwd",
        b"private_key",
        b"security_answer",
        b"cvc",
        b"oauth_verifier",
        b"openid.sig",
    ),
]
PLACES = [
    b"/a?%b=%b",
    b"/a?page=2&%b=%b",
    b"/a?page=2,%b=%b",
    b"/a;%b=%b?page=2",
    b"/a?page=2#%b=%b",
    b"/login?next=%%2Freset%%3F%b%%3D%b",
    b"/login?next=%%252Freset%%253Fpage%%253D1%%2526%b%%253D%b",
    b"https://app.example/a?%b=%b",
    b'<https://app.example/a?%b=%b>; rel="next"',
    b"0; url=/a?%b=%b",
    b'for=192.0.2.1;%b="%b"',
    b"GET /a?%b=%b HTTP/1.1",
    b'{"user":"a", "%b" : "%b"}',
    b'{"%b" : "%b"}',
    b"/a?filter=%%7B%%22%b%%22%%3A%%22%b%%22%%7D",
]
ELSEWHERE = [
    b"https://user:%b@app.example/",
    b"Location: https://user:p%40%b@app.example/",
    b"https://user:p@%b@app.example/",
    b"//user:%b@app.example/",
    b"/login?next=https%3A%2F%2Fuser%3A%b%40app.example%2F",
    b"/login?next=https%253A%252F%252Fuser%253A%b%2540app.example%252F",
    b"/login?next=https%3A%2F%2Fuser%3Ap%2540%b%40app.example%2F",
    b"Bearer %b",
    b"x basic  %b",
    b"eyJhbGciOiJIUzI1NiJ9.eyJ1Ijoi%b.%b",
    b"/users/eyJhbGciOiJIUzI1NiJ9.eyJ1Ijoi%b/items",
]


@pytest.mark.parametrize("line", HARMLESS)
def test_harmless_line_is_shown_as_it_is(line):
    assert masked_line(line) == line


@pytest.mark.parametrize("name", NAMES)
def test_field_is_hidden_whole_by_its_name(name):
    assert masked_line(name + b": " + SECRET) == name + b": " + HIDDEN


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_is_hidden_wherever_it_stands(place, name):
    shown = masked(place % (name, SECRET))
    assert SECRET not in shown
    assert HIDDEN in shown


@pytest.mark.parametrize("text", ELSEWHERE)
def test_what_tells_itself_is_hidden(text):
    shown = masked(text.replace(b"%b", SECRET))
    assert SECRET not in shown
    assert HIDDEN in shown


def test_only_the_value_is_hidden():
    assert masked(b"/a?page=2&token=x&sort=name") == b"/a?page=2&token=(hidden)&sort=name"
    assert masked(b"/a?token=x,y&code=&n=1") == b"/a?token=(hidden)&code=(hidden)&n=1"


@given(st.binary(max_size=400))
def test_any_bytes_are_masked_to_the_same_when_masked_again(text):
    once = masked(text)
    assert masked(once) == once


@given(name=st.sampled_from(PARAMETERS), before=st.text("abc=&?;,%/ \"'{}:", max_size=30).map(str.encode))
def test_parameter_after_any_text_is_hidden(name, before):
    """Whatever stands before the `&`, nothing of it takes the parameter's end along."""
    assert SECRET not in masked(before + b"&" + name + b"=" + SECRET)


@pytest.mark.parametrize(
    "text",
    [
        b"a=%,",
        b'"',
        b"%25",
        b"?",
        b"://",
        b"//:",
        b":@",
        b"%3a%2f%2f",
        b"a=%7b",
        b"basic ",
        b"eyJ-",
        b'"a" ',
        b"a ",
        b'{"a":"',
        b"%3d%22%3a",
        b"25",
        b"token",
    ],
)
def test_time_grows_with_the_length_alone(text):
    """8 KiB of whatever makes an expression go back: a worker waits for this."""
    hostile = b"%7b%" + text * (8192 // len(text)) + b'":='
    began_s = time.thread_time()
    masked(hostile)
    assert time.thread_time() - began_s < 0.1  # measured: 2 ms at most


def test_names_are_told_by_what_they_contain():
    assert not is_secret(b"Accept-Encoding")
    assert not is_secret(b"barcode")
    assert is_secret(b"zip.code")  # rather one too many
