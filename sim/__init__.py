"""The simulated plant: physics, scenarios, servers; only sim.lab may import the controller."""
