"""The web pages: made on the server, under `/`. They call what the routes call, and have no logic of their own."""
