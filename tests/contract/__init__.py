"""The running service held to its description: Schemathesis makes requests from it, good and bad, and looks at the replies."""
