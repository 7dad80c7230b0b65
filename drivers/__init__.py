"""The building as built: site model, device profiles, wires. Knows nothing of control."""
