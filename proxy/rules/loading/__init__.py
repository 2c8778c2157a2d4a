"""From the bytes of a rules file to its model, or to every mistake in it."""
