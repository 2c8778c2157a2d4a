"""nocache-proxy: a reverse-proxy sidecar after which no cache ever reuses a response that matches a rule.

`proxy/README.md` follows a request through the modules, and says where a change belongs.
"""

from typing import Final

__version__: Final = "0.1.0"
