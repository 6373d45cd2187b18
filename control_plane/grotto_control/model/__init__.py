"""Frozen values and errors. Owns no behaviour that does I/O and imports no other layer."""
