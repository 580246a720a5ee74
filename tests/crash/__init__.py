"""Crashes on purpose: a worker killed at every call that it makes, stopped, cut off from its servers; nothing of that may show."""
