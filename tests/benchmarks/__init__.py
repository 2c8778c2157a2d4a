"""The proxy measured beside nginx, HAProxy, Caddy, mitmproxy and an idiomatic aiohttp proxy, in one run.

`python -m tests.benchmarks` starts a canned upstream and, in turn, every peer with the same header rule and
an access log; `load` drives and checks each of them, `measure` collects, `report` and `chart` write what
README.md beside it shows.
"""
