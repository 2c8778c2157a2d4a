"""What `serve` was told, checked once and never changed: one attribute a flag, with its unit in the name."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from proxy.message.target import is_host

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

LOOPBACK_NETWORKS: Final = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
"""This machine, or this pod: who may say on whose behalf it asks, unless told otherwise."""

PRIVATE_NETWORKS: Final = (
    *LOOPBACK_NETWORKS,
    *[
        ipaddress.ip_network(network)
        for network in (
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "100.64.0.0/10",  # shared address space, RFC 6598: pods and load balancers of some clouds
            "fc00::/7",
            "fe80::/10",
        )
    ],
)
"""Loopback, private and shared ranges. On an intranet all clients are among them, so nobody is trusted for it unasked."""

_NAMED_NETWORKS: Final = {"loopback": LOOPBACK_NETWORKS, "private": PRIVATE_NETWORKS}

LOG_FIELDS: Final = (
    *(
        "ts",
        "method",
        "target",
        "status",
        "upstream_status",
        "duration_s",
        "upstream_s",
        "bytes_in",
        "bytes_out",
    ),
    *("client", "peer", "host", "user_agent", "referer", "request_id"),
    *("rule", "policy", "observed", "changed", "error", "detail"),
)
"""The fields of the access log, in their order."""

_MAX_PORT: Final = 65535
_MAX_LABEL: Final = 63  # of a host name, RFC 1035 section 2.3.4
_HOST_PORT: Final = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^\[\]:/\s]*):(?P<port>[0-9]{1,5})")
_HOST_NAME: Final = re.compile(r"[a-z0-9_.-]+")


class SettingsError(ValueError):
    """A setting that cannot be used; its text says what was found and what is allowed."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: a host and a port, or the path of a Unix socket."""

    host: str = ""
    port: int = 0
    path: Path | None = None

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read `host:port`, `[::1]:port`, `:port` (all interfaces) or `unix:PATH`.

        Raises:
            SettingsError: it is none of these.
        """
        if text.startswith("unix:") and len(text) > len("unix:"):
            return cls(path=Path(text.removeprefix("unix:")))
        match = _HOST_PORT.fullmatch(text)
        if match is None or int(match["port"]) > _MAX_PORT or not _can_be_resolved(match["host"]):
            raise SettingsError(f"{text!r} is no address; allowed are HOST:PORT, [IPV6]:PORT and unix:PATH")
        return cls(host=match["host"].strip("[]"), port=int(match["port"]))

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Upstream:
    """The app.

    Attributes:
        scheme: how it is spoken to; `unix` is HTTP over a Unix socket.
        path: of that socket.
        authority: what `Host` says to it when a client does not.
    """

    scheme: Literal["http", "https", "unix"]
    host: str = ""
    port: int = 0
    path: Path | None = None
    authority: str = "localhost"

    @classmethod
    def parse(cls, text: str) -> Upstream:
        """Read an upstream, and suggest what is meant by one without a scheme.

        Raises:
            SettingsError: see `_parse`.
        """
        try:
            return cls._parse(text)
        except SettingsError as error:
            if "//" in text or text.endswith(":") or not _can_be_parsed(f"http://{text}"):
                raise
            raise SettingsError(f"{text!r} has no scheme; did you mean http://{text}?") from error

    @classmethod
    def _parse(cls, text: str) -> Upstream:
        """Read `http://host[:port]`, `https://host[:port]` or `unix:PATH`.

        Raises:
            SettingsError: it is none of these, or has a path, a query or credentials.
        """
        if text.startswith("unix:") and len(text) > len("unix:"):
            return cls("unix", path=Path(text.removeprefix("unix:")))
        allowed = "allowed are http://HOST[:PORT], https://HOST[:PORT] and unix:PATH"
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError as error:
            raise SettingsError(f"{text!r} is no upstream ({error}); {allowed}") from error
        is_whole = text.isprintable() and " " not in text  # else `urlsplit` has left something out
        is_url = is_whole and parts.scheme in ("http", "https")
        is_place = parts.netloc.isascii() and is_host(parts.netloc.encode()) and port != 0
        if not (is_url and is_place and parts.hostname and _can_be_resolved(parts.hostname)):
            raise SettingsError(f"{text!r} is no upstream; {allowed}")
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise SettingsError(f"{text!r} has a path: request targets are passed on as they come; {allowed}")
        scheme: Literal["http", "https"] = "https" if parts.scheme == "https" else "http"
        default_port = 443 if scheme == "https" else 80
        return cls(scheme, parts.hostname, port or default_port, authority=parts.netloc)

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.scheme == "unix" else f"{self.scheme}://{self.authority}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one `serve`; the flags are described where they are declared, in `cli`."""

    upstream: Upstream
    listen: Address = Address("127.0.0.1", 8080)
    rules: Path = Path("config/rules.yaml")
    admin: Address | None = Address("127.0.0.1", 9901)
    admin_hosts: tuple[str, ...] = ()
    workers: int = 1
    access_log: Literal["json", "text", "off"] = "json"
    access_log_file: Path | None = None
    access_log_fields: tuple[str, ...] = LOG_FIELDS
    request_id: Literal["off", "on"] = "off"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    trusted_proxies: tuple[IPNetwork, ...] = field(default=LOOPBACK_NETWORKS)
    forwarded: Literal["append", "replace", "off"] = "append"
    via: Literal["off", "on"] = "off"
    connect_timeout_s: float = 5
    request_head_timeout_s: float = 10
    response_head_timeout_s: float = 60
    idle_timeout_s: float = 300
    keepalive_timeout_s: float = 75
    upstream_keepalive_timeout_s: float = 1.5
    max_connections: int = 10_000
    max_head_size_bytes: int = 65_536
    max_request_body_bytes: int = 0
    underscore_fields: Literal["drop", "keep"] = "drop"
    upstream_ca: Path | None = None
    audit: Literal["on", "off"] = "on"
    drain_delay_s: float = 0
    drain_timeout_s: float = 25

    @property
    def log_format(self) -> Literal["json", "text"]:
        """The application log follows the access log, so that one collector reads both."""
        return "text" if self.access_log == "text" else "json"


def _can_be_parsed(text: str) -> bool:
    try:
        Upstream.parse(text)
    except SettingsError:
        return False
    return True


def _can_be_resolved(host: str) -> bool:
    """Tell whether a resolver can be asked: Python's raises no OSError for a label that is empty or too long."""
    labels = host.removesuffix(".").split(".")
    return not host or (host.isascii() and all(0 < len(label) <= _MAX_LABEL for label in labels))


def parse_log_fields(text: str) -> tuple[str, ...]:
    """Read a comma-separated list of fields of the access log; `all` for all of them.

    Raises:
        SettingsError: a member is no such field, or none is given.
    """
    if text.strip() == "all":
        return LOG_FIELDS
    names = tuple(dict.fromkeys(member.strip() for member in text.split(",")))
    for name in names:
        if name not in LOG_FIELDS:
            raise SettingsError(
                f"{name!r} is no field of the access log; allowed are {', '.join(LOG_FIELDS)}"
            )
    return names


def parse_hosts(text: str) -> tuple[str, ...]:
    """Read a comma-separated list of host names, or nothing.

    Raises:
        SettingsError: a member is no host name.
    """
    names = [member.strip().lower().rstrip(".") for member in text.split(",") if member.strip()]
    for name in names:
        if not _HOST_NAME.fullmatch(name):
            raise SettingsError(f"{name!r} is no host name; allowed are names without a port")
    return tuple(names)


def parse_networks(text: str) -> tuple[IPNetwork, ...]:
    """Read a comma-separated list of networks (`10.0.0.0/8,::1`), `loopback` and `private`; `none` for no network.

    Raises:
        SettingsError: a member is no IP network.
    """
    if text.strip() in ("", "none"):
        return ()
    networks: list[IPNetwork] = []
    for member in map(str.strip, text.split(",")):
        if member in _NAMED_NETWORKS:
            networks += _NAMED_NETWORKS[member]
            continue
        try:
            networks.append(ipaddress.ip_network(member, strict=False))
        except ValueError as error:
            raise SettingsError(f"{member!r} is no IP network ({error})") from error
    return tuple(networks)
