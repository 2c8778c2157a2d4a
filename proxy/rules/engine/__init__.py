"""The rules in force: model and request in, decision out; all that the data path imports."""
