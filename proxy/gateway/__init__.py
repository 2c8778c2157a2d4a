"""The edge: the only place with sockets of the data path. One worker is one `worker.Gateway`."""
