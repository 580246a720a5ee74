"""Fuzzing: what reads other people's bytes, given bytes that nobody would write. `make fuzz` runs it, `make test` replays its corpus."""
