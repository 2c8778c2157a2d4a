"""The running service: start, signals, drain, workers, and the rules file as it changes."""
