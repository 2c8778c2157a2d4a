"""Each line of the access log is JSON to the strictest parser, whatever bytes a request target has. Issue 16.9."""

from __future__ import annotations

import json
import random
from urllib.parse import unquote_to_bytes

from proxy.gateway.access_log import AccessLog
from tests.support.gateway import bench

ALLOWED = [byte for byte in range(0x21, 0x100) if byte not in (0x7F, ord("#"))]
ODD = [
    b"/caf\xe9",
    b"/\xff\xfe",
    "/größe?ü".encode(),
    b"/\xed\xa0\x80",
    b"/%ff\xff",
    b'/"\\u0000\\',
    b"/\xc2\x85\xc2\xa0",
    b"/\xef\xbf\xbf\xf4\x8f\xbf\xbf",
    b"/\xe2\x80\xa8",
]


def strict(line: bytes) -> dict[str, object]:
    """Load a line as JSON in UTF-8 whose texts are texts: no lone surrogate, no number that JSON does not have."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    loaded = json.loads(line.decode("utf-8"), parse_constant=refuse)
    json.dumps(loaded, ensure_ascii=False).encode("utf-8")
    assert isinstance(loaded, dict)
    return loaded


async def test_any_target_is_logged_as_text_that_tells_its_bytes(tmp_path):
    drawn = random.Random(9)
    targets = ODD + [b"/" + bytes(drawn.choices(ALLOWED, k=drawn.randrange(40))) for _ in range(1000)]
    log = AccessLog("json", tmp_path / "log")
    async with bench(rules=()) as b:
        b.gateway.context.recorder.access_log = log
        peer = await b.connect()
        for target in targets:
            await peer.send(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await peer.read_response()).status == 200
    log.close()
    lines = [strict(line) for line in (tmp_path / "log").read_bytes().splitlines()]
    assert [unquote_to_bytes(str(line["target"])) for line in lines] == list(map(unquote_to_bytes, targets))
