"""nocache-proxy: a reverse-proxy sidecar after which no matching response is ever reused by a cache.

One request, module by module:

1. `gateway.client` reads bytes from a client until a head is complete; `message.syntax` checks and parses
   it, `message.request` makes a `RequestHead` of it.
2. `rules.matching` decides: `Ruleset.decide` gives a `Verdict` on method, path and the fields that rules
   read. `gateway.exchange` renders the request anew and takes an upstream connection from `gateway.pool`.
3. Content is relayed as it arrives; each side's back-pressure pauses the other.
4. `gateway.upstream` reads the response's head, the verdict is resolved with it, and `message.response`
   renders it under the policy's treatment. Content follows, large content past all this through
   `gateway.inbox`; the connections are used again.
5. Whatever fails on the way becomes a response of `gateway.failures`, with the `strict` policy's fields.
"""

from typing import Final

__version__: Final = "0.1.0"
