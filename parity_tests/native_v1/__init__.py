"""Checkpoints of the native format's version 1: every later release reads them (docs/native-format.md)."""
