"""The plant on real wires: Modbus TCP units and MQTT."""
