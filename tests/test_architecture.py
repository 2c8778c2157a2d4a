"""The shape that `proxy/README.md` draws: imports point downwards, sockets stay at the edge, the parsers in one module."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import proxy

PACKAGE = Path(proxy.__file__).parent

# What each part may import besides itself. Read from top to bottom, every name stands above those it may use.
MAY_IMPORT = {
    "cli": {
        "cli_audit",
        "cli_flags",
        "service",
        "admin",
        "demo",
        "gateway",
        "rules",
        "message",
        "settings",
        "stats",
        "audit",
        "proxy",
    },
    "cli_audit": {"cli_flags", "service", "demo", "audit", "rules", "settings"},
    "cli_flags": {"settings"},
    "__main__": {"cli"},
    "service": {"admin", "gateway", "audit", "rules", "message", "settings", "stats", "proxy"},
    "admin": {"gateway", "audit", "rules", "message", "settings", "stats", "proxy"},
    "demo": {"audit", "message", "settings", "proxy"},
    "gateway": {"audit", "rules", "message", "settings", "stats"},
    "audit": {"rules", "message"},
    "rules": {"message"},
    "settings": {"message"},
    "stats": set(),
    "message": set(),
    "proxy": set(),
}
# The rooms of `rules`, and the plain values below them, in the same way.
ROOMS_OF_RULES = {
    "tools": {"loading", "engine", "policies", "model", "keys"},
    "loading": {"engine", "policies", "model", "keys"},
    "engine": {"policies", "model", "keys"},
    "policies": {"model"},
    "model": {"keys"},
    "keys": set(),
}
MAY_DO_IO = {"gateway", "service", "admin", "demo"}
IO_MODULES = {
    "asyncio",
    "socket",
    "ssl",
    "select",
    "selectors",
    "uvloop",
    "threading",
    "multiprocessing",
    "subprocess",
}
PARSERS = {"HttpRequestParser", "HttpResponseParser", "RawRequestMessage", "RawResponseMessage"}
FILES = sorted(PACKAGE.rglob("*.py"))


def part_of(module: str) -> str:
    """The part of the package that a module belongs to: `proxy.rules.engine.matching` to `rules`."""
    return module.partition(".")[2].partition(".")[0] or "proxy"


def module_of(file: Path) -> str:
    name = ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)
    return name.removesuffix(".__init__")


def imports(file: Path) -> Iterator[tuple[str, str]]:
    """Every import of a file, wherever it stands, as (module, name or empty)."""
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            assert node.module is not None
            yield from ((node.module, alias.name) for alias in node.names)


def imported_parts(file: Path) -> set[str]:
    """The parts of the package that a file imports; `from proxy import x` names a part or `proxy` itself."""
    parts = set()
    for module, name in imports(file):
        if module == "proxy":
            parts.add(name if name in MAY_IMPORT else "proxy")
        elif module.startswith("proxy."):
            parts.add(part_of(module))
    return parts


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_imports_point_downwards_only(file: Path) -> None:
    """cli -> service -> admin -> gateway -> audit -> rules -> message; settings and stats are leaves."""
    part = part_of(module_of(file))
    assert imported_parts(file) - {part} <= MAY_IMPORT[part]


@pytest.mark.parametrize("file", sorted((PACKAGE / "rules").rglob("*.py")), ids=module_of)
def test_imports_among_the_rooms_of_rules_point_downwards_only(file: Path) -> None:
    """tools -> loading -> engine -> policies -> model -> keys."""
    prefix = "proxy.rules."
    room = module_of(file).removeprefix(prefix).partition(".")[0]
    imported = set()
    for module, name in imports(file):
        if module.startswith(prefix) or module == prefix.rstrip("."):
            imported.add(f"{module}.{name}".removeprefix(prefix).partition(".")[0])
    assert imported - {room} <= ROOMS_OF_RULES.get(room, set())


@pytest.mark.parametrize("table", [MAY_IMPORT, ROOMS_OF_RULES], ids=["parts", "rooms of rules"])
def test_no_part_may_import_one_that_may_import_it(table) -> None:
    """The table itself has no circle."""
    resolved: set[str] = set()
    while len(resolved) < len(table):
        free = {part for part, below in table.items() if below <= resolved} - resolved
        assert free, f"a circle among {set(table) - resolved}"
        resolved |= free


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_only_the_edge_touches_sockets_and_event_loops(file: Path) -> None:
    """Pure core, thin edge: what decides and what parses can be called without a loop."""
    if part_of(module_of(file)) in MAY_DO_IO:
        return
    used = {module.partition(".")[0] for module, _ in imports(file)} & IO_MODULES
    assert not used


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_aiohttp_is_imported_for_messages_in_one_module_only(file: Path) -> None:
    """An upgrade of aiohttp that changes its parsers meets `message.syntax`, and nothing else of the data path."""
    module, part = module_of(file), part_of(module_of(file))
    names = {name for source, name in imports(file) if source.split(".")[0] == "aiohttp"}
    if module == "proxy.message.syntax":
        assert names <= PARSERS | {"HttpProcessingError"}
    elif part not in {"admin", "service", "demo"}:
        assert not names


def test_every_module_says_why_it_is_there() -> None:
    for file in FILES:
        assert ast.get_docstring(ast.parse(file.read_bytes())), f"{file} has no docstring"


def test_packages_are_those_of_the_design() -> None:
    """A file listing alone tells the architecture."""
    parts = {part_of(module_of(file)) for file in FILES}
    assert parts == set(MAY_IMPORT)


def test_no_attribute_that_is_a_protocol_or_none_has_a_default_spelt_none():
    """mypyc leaves it undefined: every request with content failed in the compiled package."""
    trees = {path: ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")}
    classes = [node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    protocols = {
        node.name for node in classes if any(getattr(base, "id", "") == "Protocol" for base in node.bases)
    }
    assert {"UpstreamSide", "Attempt"} <= protocols
    found = [
        f"{node.name}.{ast.unparse(each.target)}"
        for node in classes
        for each in node.body
        if isinstance(each, ast.AnnAssign)
        and isinstance(each.value, ast.Constant)
        and each.value.value is None
        and {name.id for name in ast.walk(each.annotation) if isinstance(name, ast.Name)} & protocols
    ]
    assert found == []
