"""`python -m proxy` is `nocache-proxy`."""

from proxy.cli import main

main()
