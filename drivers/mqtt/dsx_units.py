"""Units on the DSX Exchange bus and ours."""

# (engUnit on the bus, our unit) -> (factor, shift)
CONVERSIONS: dict[tuple[str, str], tuple[float, float]] = {
    ("W", "W"): (1.0, 0.0),
    ("kW", "W"): (1e3, 0.0),
    ("MW", "W"): (1e6, 0.0),
    ("VA", "VA"): (1.0, 0.0),
    ("kVA", "VA"): (1e3, 0.0),
    ("MVA", "VA"): (1e6, 0.0),
    ("C", "C"): (1.0, 0.0),
    ("F", "C"): (5.0 / 9.0, -160.0 / 9.0),
    ("LPM", "L/min"): (1.0, 0.0),
    ("GPM", "L/min"): (3.785411784, 0.0),
    ("%", "%"): (1.0, 0.0),
    ("RPM", "rpm"): (1.0, 0.0),
    ("kPa", "kPa"): (1.0, 0.0),
    ("psi", "kPa"): (6.894757, 0.0),
    ("A", "A"): (1.0, 0.0),
    ("V", "V"): (1.0, 0.0),
    ("Hz", "Hz"): (1.0, 0.0),
}


def conversion(bus_unit: object, unit: str) -> tuple[float, float] | None:
    """Factor and shift from the bus to our unit; None where they are not of one kind. A state has no unit."""
    if bus_unit is None or bus_unit == "":
        return None if unit else (1.0, 0.0)
    return CONVERSIONS.get((bus_unit, unit)) if isinstance(bus_unit, str) else None
