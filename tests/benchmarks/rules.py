"""What many rules cost: `python -m tests.benchmarks.rules` prints load time and time per decision for 1 and 1,000.

Medians of several rounds; the file is one of globs, exceptions and conditions on fields, as people write them.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator

from proxy.rules.engine.matching import Ruleset
from proxy.rules.loading.loader import loads

COUNTS = (1, 1000)
ROUNDS = 9
DECISIONS = 20_000


def rules_file(count: int) -> bytes:
    """Make a rules file of so many rules, each for an application of its own."""
    rules = "".join(
        f"  - name: app-{number}\n"
        "    because: Internet Explorer answers a repeated XMLHttpRequest from its cache\n"
        "    match:\n"
        "      methods: [GET, HEAD]\n"
        f'      paths: ["/app{number}/**", "/x/app{number}/*.json"]\n'
        "      x_requested_with: XMLHttpRequest\n"
        f'    unless: {{paths: ["/app{number}/static/**"]}}\n'
        "    policy: classic\n"
        for number in range(count)
    )
    return f"version: 1\nrules:\n{rules}".encode()


def median_s(action: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Run an action some times; the median of how long it took."""
    times: list[float] = []
    for _ in range(rounds):
        start_s = time.perf_counter()
        action()
        times.append(time.perf_counter() - start_s)
    return statistics.median(times)


def decision_us(ruleset: Ruleset, paths: Iterator[bytes]) -> float:
    """Time one decision for a script's request to each of these paths; making the paths is not counted."""
    values = tuple(b"XMLHttpRequest" if name == b"x-requested-with" else None for name in ruleset.field_names)

    def decide_all(asked: list[bytes]) -> float:
        return median_s(lambda: [ruleset.decide("GET", path, values) for path in asked], rounds=1)

    times = [decide_all(list(itertools.islice(paths, DECISIONS))) for _ in range(ROUNDS)]
    return statistics.median(times) / DECISIONS * 1e6


def main() -> None:
    """Measure and print."""
    print(f"{'':34}" + "".join(f"{count:>8} rules" for count in COUNTS))
    texts = {count: rules_file(count) for count in COUNTS}
    rulesets = {count: loads(text, "rules.yaml").ruleset for count, text in texts.items()}
    loading = [median_s(lambda text=text: loads(text, "rules.yaml")) * 1000 for text in texts.values()]
    first = [
        median_s(lambda ruleset=ruleset: decision_us(Ruleset(ruleset.rules), itertools.repeat(b"/", 1)), 3)
        * 1000
        for ruleset in rulesets.values()
    ]
    rows = {"load the file, ms": loading, "compile, with the first decision, ms": first}
    kinds: dict[str, Callable[[int], Iterator[bytes]]] = {
        "decide, repeated paths, us": lambda n: (
            b"/app%d/view/%d" % (n - 1, i % 64) for i in itertools.count()
        ),
        "decide, all different, us": lambda n: (b"/app%d/view/%d" % (n - 1, i) for i in itertools.count()),
        "decide, different, no rule, us": lambda _: (b"/other/view/%d" % i for i in itertools.count()),
        "decide, different, strange, us": lambda n: (
            b"/x/..//app%d/%%76/%d" % (n - 1, i) for i in itertools.count()
        ),
    }
    for name, kind in kinds.items():
        rows[name] = [decision_us(ruleset, kind(count)) for count, ruleset in rulesets.items()]
    for name, figures in rows.items():
        print(f"{name:34}" + "".join(f"{figure:>14.2f}" for figure in figures))


if __name__ == "__main__":
    main()
