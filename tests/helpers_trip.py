"""A small site whose UPS have trip curves, for tests of the time-current limits."""

from helpers_control import Wiring

from drivers.site.model import Site

UNITS = ((0, 160.0, "A"), (0, 100e3, "VA"), (0, 65e3, "W"))
CORDS = ((0, 1), (1, 2), (2, 0), (0, 1))


def site(curve: str = "ups_apc", **control: float) -> Site:
    """Three UPS with a curve, rated in A, VA and W."""
    plain = Wiring(ups=UNITS, cords=CORDS).site()
    nodes = tuple(n.model_copy(update={"trip_curve": curve if n.kind == "ups" else ""}) for n in plain.nodes)
    return plain.model_copy(update={"nodes": nodes, "control": plain.control.model_copy(update=control)})
