"""Coolants: what one L/min carries per kelvin."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Coolant:
    """Heat capacity rate of a flow [W/K per L/min] and cp [J/kg K]."""

    w_per_lpm_k: float
    cp_j_per_kg_k: float


# FACTS.md C.3: water 69.7, PG25 66.6 W/K per L/min; P.5: PG25 cp 3,944.6 J/kg K.
COOLANTS: dict[str, Coolant] = {
    "water": Coolant(69.7, 4190.0),
    "pg25": Coolant(66.6, 3944.6),
}
