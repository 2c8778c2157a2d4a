"""The kinds of flags of the command line: how each reads its text, and the environment variable beside it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

ENVIRONMENT: Final = "NOCACHE_PROXY"

F = TypeVar("F", bound=Callable[..., Any])


class Parsed(click.ParamType[Any]):
    """A flag whose text is read by a function of `proxy.settings`."""

    def __init__(self, name: str, parse: Callable[[str], object]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401 - click's
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _address(text: str) -> object:
    from proxy.settings import Address

    return Address.parse(text)


def _admin(text: str) -> object:
    return None if text == "off" else _address(text)


def _admin_url(text: str) -> object:
    return _address(text.removeprefix("http://").rstrip("/"))


def _upstream(text: str) -> object:
    from proxy.settings import Upstream

    return Upstream.parse(text)


def _networks(text: str) -> object:
    from proxy.settings import parse_networks

    return parse_networks(text)


def _hosts(text: str) -> object:
    from proxy.settings import parse_hosts

    return parse_hosts(text)


def _log_fields(text: str) -> object:
    from proxy.settings import parse_log_fields

    return parse_log_fields(text)


def flag(flag: str, *names: str, **options: Any) -> Callable[[F], F]:  # noqa: ANN401 - click's
    """Declare a flag that can also be set by the environment."""
    options.setdefault("envvar", f"{ENVIRONMENT}_{flag.strip('-').replace('-', '_').upper()}")
    return click.option(flag, *names, show_default=True, show_envvar=True, **options)


class Seconds(click.FloatRange):
    """A duration: a range that refuses NaN too, which is neither below nor above any bound."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401 - click's
        if math.isnan(number := super().convert(value, param, ctx)):
            self.fail(f"{value!r} is not a number of seconds.", param, ctx)
        return number


def seconds(default: float, long: str, text: str, *, least: float = 0.001) -> Callable[[F], F]:
    """Declare a duration; the setting's name says its unit, the flag's does not.

    Args:
        least: more than 0 as a rule: a time-out of 0 would fail every request, and other proxies read it as "none".
    """
    name = f"{long.strip('-').replace('-', '_')}_s"
    return flag(long, name, type=Seconds(least, 86_400), default=default, metavar="SECONDS", help=text)


ADDRESS: Final = Parsed("address", _address)
ADMIN: Final = Parsed("address", _admin)
ADMIN_URL: Final = Parsed("address", _admin_url)
UPSTREAM: Final = Parsed("address", _upstream)
HOSTS: Final = Parsed("names", _hosts)
LOG_FIELDS: Final = Parsed("names", _log_fields)
NETWORKS: Final = Parsed("networks", _networks)
