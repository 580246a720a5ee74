"""Measurements of speed and memory, each as a ratio to another way to do the same: `python -m bench`."""
