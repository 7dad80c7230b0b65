"""Plant physics. Its equations are its own: it shares no kernel with the controller."""
