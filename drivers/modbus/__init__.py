"""Modbus: the hot reader, the one register writer, identification."""
