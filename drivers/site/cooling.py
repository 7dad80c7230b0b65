"""Coolants: what one L/min carries per kelvin."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Coolant:
    """Heat capacity rate of a flow [W/K per L/min], density [kg/L] and cp [J/kg K]."""

    w_per_lpm_k: float
    kg_per_l: float
    cp_j_per_kg_k: float


# FACTS.md C.3: water 69.7, PG25 66.6 W/K per L/min; P.5: PG25 cp 3,944.6 J/kg K, 1,014 kg/m3.
COOLANTS: dict[str, Coolant] = {
    "water": Coolant(69.7, 0.998, 4190.0),
    "pg25": Coolant(66.6, 1.014, 3944.6),
}
