"""How every peer is started: its configuration, its command, and why it is missing if it is."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[2]
SYSTEM_PATH: Final = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"


@dataclass(frozen=True, slots=True)
class Ports:
    """Where a peer listens, where it finds the upstream, and a third port for its administration."""

    listen: int
    upstream: int
    admin: int


@dataclass(frozen=True, slots=True)
class Peer:
    """One proxy.

    Attributes:
        name: As given to --peers.
        title: As shown in the table.
        missing: Returns why it cannot run here, or None.
        command: Returns how to start it; may write its configuration into the directory given.
        version: Returns what is measured.
    """

    name: str
    title: str
    missing: Callable[[], str | None]
    command: Callable[[Ports, Path], Sequence[str]]
    version: Callable[[], str]


def own(ports: Ports, directory: Path, rules: Path | None = None, workers: int = 1) -> list[str]:
    """Return the command of this project's proxy, as its image ships it but for its ports."""
    del directory  # the access log goes to standard output, which is a file here
    return ["env", f"PYTHONPATH={_compiled_home(ROOT)}", *_serve(ports, rules, workers)]


def _interpreted(ports: Ports, directory: Path) -> list[str]:
    del directory
    return ["env", f"PYTHONPATH={ROOT}", *_serve(ports)]


def _before(ports: Ports, directory: Path) -> list[str]:
    del directory
    return ["env", f"PYTHONPATH={_compiled_home(_checkout_before())}", *_serve(ports)]


def _before_interpreted(ports: Ports, directory: Path) -> list[str]:
    del directory
    return ["env", f"PYTHONPATH={_checkout_before()}", *_serve(ports)]


def _serve(ports: Ports, rules: Path | None = None, workers: int = 1) -> list[str]:
    # -P: what PYTHONPATH says, not what lies in the current directory.
    return [
        sys.executable, "-P", "-m", "proxy", "serve",
        "--listen", f"127.0.0.1:{ports.listen}",
        "--upstream", f"http://127.0.0.1:{ports.upstream}",
        "--admin", f"127.0.0.1:{ports.admin}",
        "--rules", str(rules or ROOT / "config" / "rules.yaml"),
        "--workers", str(workers),
        "--access-log", "json",
    ]  # fmt: skip


def _nginx(ports: Ports, directory: Path) -> list[str]:
    return [
        _found("nginx"),
        "-e",
        "stderr",
        "-p",
        str(directory),
        "-c",
        str(_configuration("nginx.conf", ports, directory)),
    ]


def _haproxy(ports: Ports, directory: Path) -> list[str]:
    return [_found("haproxy"), "-db", "-f", str(_configuration("haproxy.cfg", ports, directory))]


def _caddy(ports: Ports, directory: Path) -> list[str]:
    configuration = str(_configuration("Caddyfile", ports, directory))
    return [_found("caddy"), "run", "--adapter", "caddyfile", "--config", configuration]


def _mitmproxy(ports: Ports, directory: Path) -> list[str]:
    return [
        str(_mitmproxy_home() / "bin" / "mitmdump"),
        "--mode", f"reverse:http://127.0.0.1:{ports.upstream}",
        "--listen-host", "127.0.0.1",
        "--listen-port", str(ports.listen),
        "--set", f"confdir={directory}",
        "--set", "keep_host_header=true",
        "--set", "flow_detail=1",
        "--scripts", str(HERE / "mitmproxy_rule.py"),
    ]  # fmt: skip


def _idiomatic(ports: Ports, directory: Path) -> list[str]:
    del directory
    return [sys.executable, "-m", "tests.benchmarks.idiomatic", str(ports.listen), str(ports.upstream)]


def _configuration(name: str, ports: Ports, directory: Path) -> Path:
    text = (HERE / name).read_text()
    for key, value in {
        "@PORT@": ports.listen,
        "@UPSTREAM@": ports.upstream,
        "@DIRECTORY@": directory,
        "@FILES@": _file_limit(),
        "@CONNECTIONS@": min(10000, _file_limit() // 2 - 100),
    }.items():
        text = text.replace(key, str(value))
    path = directory / name
    path.write_text(text)
    return path


def _file_limit() -> int:
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def _found(program: str) -> str:
    path = shutil.which(program, path=SYSTEM_PATH)
    assert path is not None, f"{program} was there a moment ago"
    return path


def _packaged(program: str, package: str) -> Callable[[], str | None]:
    def missing() -> str | None:
        return (
            None if shutil.which(program, path=SYSTEM_PATH) else f"not installed (apt-get install {package})"
        )

    return missing


def _cache() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "nocache-proxy-benchmarks"


@functools.cache
def _compiled_home(checkout: Path) -> Path:
    """Name a directory after all that goes into the compiled package of a checkout."""
    digest = hashlib.sha256(sys.version.encode())
    for path in sorted([checkout / "pyproject.toml", *(checkout / "proxy").rglob("*.py")]):
        digest.update(path.read_bytes())
    return _cache() / f"compiled-{digest.hexdigest()[:16]}"


def _checkout_before() -> Path:
    """Return the checkout to compare with: `git worktree add ../before REV`, then BENCHMARK_BEFORE=../before."""
    return Path(os.environ.get("BENCHMARK_BEFORE", "/nonexistent")).resolve()


def _before_missing() -> str | None:
    if (_checkout_before() / "pyproject.toml").exists():
        return None
    return "BENCHMARK_BEFORE names no checkout of this project"


def _compiled_before_missing() -> str | None:
    return _before_missing() or _compiled_missing(_checkout_before())


def _compiled_missing(checkout: Path = ROOT) -> str | None:
    """Compile on demand, as the image is; a minute, once for each version of the sources."""
    home = _compiled_home(checkout)
    if (home / "proxy").exists():
        return None
    print(f"compiling the package into {home}", file=sys.stderr, flush=True)
    made = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", home, checkout],
        env={**os.environ, "HATCH_BUILD_HOOK_ENABLE_MYPYC": "1", "HATCH_BUILD_CLEAN_HOOKS_AFTER": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode:
        return f"it could not be compiled: {made.stderr.strip().splitlines()[-1:]}"
    return None


def _mitmproxy_home() -> Path:
    return _cache() / "mitmproxy"


def _mitmproxy_missing() -> str | None:
    """Make mitmproxy's own environment on demand: its pins conflict with ours."""
    home = _mitmproxy_home()
    if (home / "bin" / "mitmdump").exists():
        return None
    print(f"making an environment for mitmproxy in {home}", file=sys.stderr, flush=True)
    venv.create(home, with_pip=True, clear=True)
    made = subprocess.run(
        [home / "bin" / "pip", "install", "--quiet", "mitmproxy"], capture_output=True, text=True, check=False
    )
    if made.returncode:
        return f"pip could not install it: {made.stderr.strip().splitlines()[-1:]}"
    return None


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip().splitlines()[0]


def _python_package(name: str) -> str:
    from importlib.metadata import version

    return f"{name} {version(name)}, Python {sys.version.split()[0]}"


def _never_missing() -> None:
    return None


def _own_version() -> str:
    from proxy import __version__

    uvloop, _, python = _python_package("uvloop").partition(", ")
    return f"nocache-proxy {__version__}, {_python_package('aiohttp').partition(',')[0]}, {uvloop}, {python}"


def _version_before() -> str:
    return "commit " + _output("git", "-C", str(_checkout_before()), "rev-parse", "--short", "HEAD")


OWN: Final = Peer("own", "nocache-proxy", _compiled_missing, own, _own_version)
PEERS: Final = (
    OWN,
    Peer("interpreted", "interpreted", _never_missing, _interpreted, _own_version),
    Peer("before", "before", _compiled_before_missing, _before, _version_before),
    Peer("before-interpreted", "before, interpreted", _before_missing, _before_interpreted, _version_before),
    Peer("nginx", "nginx", _packaged("nginx", "nginx-light"), _nginx, lambda: _output(_found("nginx"), "-v")),
    Peer(
        "haproxy",
        "HAProxy",
        _packaged("haproxy", "haproxy"),
        _haproxy,
        lambda: _output(_found("haproxy"), "-v"),
    ),
    Peer(
        "caddy",
        "Caddy",
        _packaged("caddy", "caddy"),
        _caddy,
        lambda: "Caddy " + _output(_found("caddy"), "version"),
    ),
    Peer("idiomatic", "idiomatic aiohttp", _never_missing, _idiomatic, lambda: _python_package("aiohttp")),
    Peer(
        "mitmproxy",
        "mitmproxy",
        _mitmproxy_missing,
        _mitmproxy,
        lambda: _output(str(_mitmproxy_home() / "bin" / "mitmdump"), "--version"),
    ),
)
BY_NAME: Final = {peer.name: peer for peer in PEERS}
