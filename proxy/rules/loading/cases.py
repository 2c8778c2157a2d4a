"""The `tests:` of a rules file as values: a request, the app's response, and what is expected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from proxy.message.fields import Field
from proxy.rules.loading.schema import CaseModel

Lines = tuple[str, ...]
Wanted = Lines | bool | None


@dataclass(frozen=True, slots=True)
class TrialRequest:
    """A request as a client would send it; `Host` is added when it is not among the fields."""

    method: str
    target: bytes
    fields: tuple[Field, ...] = ()


@dataclass(frozen=True, slots=True)
class TrialResponse:
    """The app's response."""

    status: int = 200
    fields: tuple[Field, ...] = ()


@dataclass(frozen=True, slots=True)
class Expectation:
    """What is expected; only the keys in `asked` are compared.

    Attributes:
        asked: the keys that the author wrote.
        fields: by name, the lines with `*` for any text, or whether the field is present; `None` for absent.
    """

    asked: frozenset[str]
    rule: str | None = None
    policy: str | None = None
    observed: str | None = None
    fields: Mapping[str, Wanted] | None = None
    vary: Lines = ()
    conditionals: str | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One test of a rules file; `index` is its position in the list."""

    index: int
    name: str
    request: TrialRequest
    response: TrialResponse
    expect: Expectation


def make_cases(models: Iterable[CaseModel]) -> tuple[Case, ...]:
    """Turn the checked models of `tests` into cases."""
    return tuple(_make_case(index, model) for index, model in enumerate(models))


def _make_case(index: int, model: CaseModel) -> Case:
    request, expect = model.request, model.expect
    target = request.target if request.path is None else request.path
    assert target is not None
    return Case(
        index=index,
        name=model.name,
        request=TrialRequest(request.method, target.encode(), _fields(request.headers)),
        response=TrialResponse(model.response.status, _fields(model.response.headers)),
        expect=Expectation(
            asked=frozenset(expect.model_fields_set),
            rule=expect.rule,
            policy=expect.policy,
            observed=expect.observed,
            fields=expect.headers,
            vary=expect.vary or (),
            conditionals=expect.conditionals,
        ),
    )


def _fields(headers: Mapping[str, Lines]) -> tuple[Field, ...]:
    return tuple(
        (name.encode("latin-1"), value.encode("latin-1"))
        for name, values in headers.items()
        for value in values
    )
