"""Tests of `proxy.message`, one file a module."""
