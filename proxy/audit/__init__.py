"""What caches may do with responses, told without a socket."""
