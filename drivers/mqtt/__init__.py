"""MQTT: sessions, cap leases, DSX Exchange and its stream of values, Sparkplug B."""
