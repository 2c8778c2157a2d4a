"""Tools for the author of a rules file: tests, explanations, warnings, and the commands that print them."""
