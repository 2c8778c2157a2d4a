"""A table tells of every byte whether it may stand in a text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.message.octets import CONTROLS, all_but, has_only


@given(st.binary(max_size=255), st.binary())
def test_text_has_only_what_was_not_excluded(excluded, text):
    assert has_only(text, all_but(excluded)) is set(text).isdisjoint(excluded)


@pytest.mark.parametrize("byte", range(256))
def test_each_byte_alone(byte):
    """NUL among them, with which other tables would mark what they do not take."""
    assert has_only(bytes((byte,)), all_but(CONTROLS)) is (0x20 <= byte != 0x7F)
