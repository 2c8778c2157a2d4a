"""How a law is held: against few examples of hypothesis, which shrinks what fails, and in a slow run against 200,000.

A law takes its example from a `random.Random`. Hypothesis has one whose choices it records; without it, each example
costs a tenth.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

FEW, MANY = 300, 200_000

at_both_sizes = pytest.mark.parametrize(
    "examples", [FEW, pytest.param(MANY, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
)
"""Gives a test the number of examples that it passes to `hold`."""


def hold(law: Callable[[random.Random], None], examples: int) -> None:
    """Hold a law against so many examples; many are others in each run.

    Raises:
        AssertionError: it is broken; the text has the seed of the example.
    """
    if examples < MANY:
        given(st.randoms(note_method_calls=True))(law)()
        return
    began_s = time.monotonic()
    first = random.SystemRandom().randrange(1 << 32)
    for seed in range(first, first + examples):
        try:
            law(random.Random(seed))
        except Exception as error:
            raise AssertionError(f"{law.__name__}(random.Random({seed}))") from error
    print(f"\n{law.__name__}: {examples} examples in {time.monotonic() - began_s:.0f} s")
