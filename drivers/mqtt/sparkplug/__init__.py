"""Sparkplug B 3.0: payloads, the host application that we are, and edge nodes."""
