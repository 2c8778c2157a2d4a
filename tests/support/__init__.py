"""What tests of several parts need: one helper of each kind."""
