"""The controller: one visible line from wires to wires (see cycle.py)."""
