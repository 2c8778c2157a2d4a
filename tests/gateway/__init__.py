"""Tests of `proxy.gateway`, one file a module."""
