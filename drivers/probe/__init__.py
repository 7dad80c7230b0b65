"""Technician's tools: every point of a device with its raw words and a verdict, and who answers at an address."""
