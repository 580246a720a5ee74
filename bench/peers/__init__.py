"""Other importers, each measured on the same rows in the way that its own documentation shows."""
