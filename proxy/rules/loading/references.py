"""Finds mistakes that involve two places of a rules file: names defined twice, undefined names, circular `extends`.

It reads the plain tree, so that it also finds them in files that the schema refuses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from proxy.rules.loading.diagnostics import Mistake, Path, Value, did_you_mean, show_text
from proxy.rules.loading.document import Document
from proxy.rules.policies import BUILT_IN


def check_references(document: Document, tree: Value) -> list[Mistake]:
    """Find names that are defined twice or not at all, and policies that extend each other in a circle."""
    if not isinstance(tree, dict):
        return []
    rules = list(_mappings(tree.get("rules")))
    policies = own if isinstance(own := tree.get("policies"), dict) else {}
    return [
        *_repeated_names(document, rules),
        *_redefined_policies(document, policies),
        *_unknown_policies(document, rules, policies),
        *_circles(document, policies),
        *_unknown_in_tests(document, tree, rules, policies),
    ]


def _mappings(members: Value) -> Iterator[tuple[int, Mapping[str, Value]]]:
    if isinstance(members, list):
        yield from ((index, member) for index, member in enumerate(members) if isinstance(member, dict))


def _repeated_names(document: Document, rules: list[tuple[int, Mapping[str, Value]]]) -> Iterator[Mistake]:
    first: dict[str, int] = {}
    for index, rule in rules:
        name = rule.get("name")
        if not isinstance(name, str):
            continue
        if name in first:
            line, _ = document.place_of(("rules", first[name], "name"))
            text = (
                f"found {show_text(name)} again, allowed: a name that no other rule has; rules[{first[name]}] in line "
                f"{line} has this one"
            )
            yield document.mistake(("rules", index, "name"), text)
        first.setdefault(name, index)


def _redefined_policies(document: Document, policies: Mapping[str, Value]) -> Iterator[Mistake]:
    for name in policies:
        if name in BUILT_IN:
            text = (
                f"{show_text(name)} is built in, allowed: another name, with 'extends: {name}' to change it"
            )
            yield document.mistake(("policies", name), text, key=True)


def _unknown_policies(
    document: Document, rules: list[tuple[int, Mapping[str, Value]]], policies: Mapping[str, Value]
) -> Iterator[Mistake]:
    for index, rule in rules:
        yield from _unknown(document, ("rules", index, "policy"), rule.get("policy"), policies)
    for name, policy in policies.items():
        if isinstance(policy, dict):
            yield from _unknown(document, ("policies", name, "extends"), policy.get("extends"), policies)


def _unknown(document: Document, path: Path, name: Value, policies: Mapping[str, Value]) -> Iterator[Mistake]:
    known = (*BUILT_IN, *policies)
    if isinstance(name, str) and name not in known:
        hint = did_you_mean(name, known) or f", allowed: {', '.join(known)}"
        yield document.mistake(path, f"unknown policy {show_text(name)}{hint}")


def _circles(document: Document, policies: Mapping[str, Value]) -> Iterator[Mistake]:
    bases = {name: policy.get("extends") for name, policy in policies.items() if isinstance(policy, dict)}
    seen: set[str] = set()
    for name in bases:
        chain: list[str] = []
        base: Value = name
        while isinstance(base, str) and base in bases and base not in seen and base not in chain:
            chain.append(base)
            base = bases[base]
        if base in chain:
            circle = chain[chain.index(base) :]
            text = (
                f"extends itself: {' -> '.join((*circle, circle[0]))}, allowed: a chain that ends at a built-in "
                "policy"
            )
            yield document.mistake(("policies", circle[0], "extends"), text)
        seen.update(chain)


def _unknown_in_tests(
    document: Document,
    tree: Mapping[str, Value],
    rules: list[tuple[int, Mapping[str, Value]]],
    policies: Mapping[str, Value],
) -> Iterator[Mistake]:
    names = [name for _, rule in rules if isinstance(name := rule.get("name"), str)]
    for index, case in _mappings(tree.get("tests")):
        expect = case.get("expect")
        if not isinstance(expect, dict):
            continue
        yield from _unknown(document, ("tests", index, "expect", "policy"), expect.get("policy"), policies)
        for key in ("rule", "observed"):
            name = expect.get(key)
            if isinstance(name, str) and name not in names:
                hint = did_you_mean(name, names) or f", allowed: {', '.join([*names, 'null'][:12])}"
                yield document.mistake(
                    ("tests", index, "expect", key), f"unknown rule {show_text(name)}{hint}"
                )
