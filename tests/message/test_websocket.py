"""Where WebSocket frames end, RFC 6455 section 5.2, however their bytes come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.message.websocket import GOING_AWAY, GOING_AWAY_FROM_CLIENT, FrameBoundary


def frame(content: bytes, *, is_masked: bool, is_long: bool) -> bytes:
    size = len(content)
    if size < 126 and not is_long:
        length = bytes([size])
    elif size < 1 << 16 and not (is_long and size < 126):
        length = b"\x7e" + size.to_bytes(2, "big")
    else:
        length = b"\x7f" + size.to_bytes(8, "big")
    if is_masked:
        length = bytes([length[0] | 0x80]) + length[1:] + b"mask"
    return b"\x82" + length + content


FRAMES = st.lists(
    st.builds(frame, st.binary(max_size=300), is_masked=st.booleans(), is_long=st.booleans()),
    min_size=1,
    max_size=5,
)


@given(FRAMES, st.integers(1, 400))
def test_boundary_is_known_exactly_between_frames(frames, piece):
    data = b"".join(frames)
    ends = {sum(map(len, frames[: number + 1])) for number in range(len(frames))}
    boundary = FrameBoundary()
    assert boundary.is_known
    for start in range(0, len(data), piece):
        boundary.feed(data[start : start + piece])
        assert boundary.is_known is (min(start + piece, len(data)) in ends)


def test_frames_of_our_own_end_where_they_end():
    for own in (GOING_AWAY, GOING_AWAY_FROM_CLIENT):
        boundary = FrameBoundary()
        boundary.feed(own[:-1])
        assert not boundary.is_known
        boundary.feed(own[-1:])
        assert boundary.is_known
