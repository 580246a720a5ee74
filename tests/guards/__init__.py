"""Every guard taken out once: `python -m tests.guards` shows that a test fails without it."""
