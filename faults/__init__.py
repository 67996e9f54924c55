"""Campaigns that break things on purpose, far longer than the tests: `make faults`."""
