"""The rules: read, checked, compiled and asked. Pure: no socket, no clock."""
