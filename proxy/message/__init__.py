"""HTTP messages as values: heads parsed from bytes and rendered anew. Pure: no socket, no clock, no I/O."""
