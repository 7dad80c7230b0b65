"""Record what devices and the broker said, and play it back: as Modbus servers, or into the controller."""
