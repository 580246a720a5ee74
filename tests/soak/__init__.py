"""A long run of everything at once, with kills: `python -m tests.soak`."""
