"""What a rule may ask of a request and its response: one class for each key of `match` and `unless`."""
