"""Coolants: what one L/min carries per kelvin, and how well heat gets into it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Coolant:
    """Heat capacity rate of a flow [W/K per L/min], cp [J/kg K] and film coefficient at equal flow, water is 1."""

    w_per_lpm_k: float
    cp_j_per_kg_k: float
    film: float


# FACTS.md C.3: water 69.7, PG25 66.6 W/K per L/min; P.5: PG25 cp 3,944.6 J/kg K. Film: k (rho / mu)^0.8 Pr^(1/3), and
# PG20 and PG40 whole, at 42 C from the correlations of Melinder (2010), glycol by volume.
COOLANTS: dict[str, Coolant] = {
    "water": Coolant(69.7, 4190.0, 1.0),
    "pg20": Coolant(67.3, 4015.2, 0.652),
    "pg25": Coolant(66.6, 3944.6, 0.586),
    "pg40": Coolant(63.8, 3757.6, 0.420),
}
