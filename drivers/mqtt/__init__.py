"""MQTT: sessions, cap leases and DSX Exchange points."""
