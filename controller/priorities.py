"""Other priorities of jobs than the site file's, while the controller runs: the same plan with other classes."""

from collections.abc import Mapping
from dataclasses import replace

from controller import problem, site_rows
from controller.corrective import compile_kit
from controller.cycle import State
from controller.plan import Plan


def with_priorities(plan: Plan, priority: Mapping[str, int]) -> Plan:
    """The plan with these jobs' classes in place of the site file's, every other as there."""
    _, classes = site_rows.gangs(plan.site)
    for rack, gang in zip(plan.site.racks, plan.gang_of.tolist(), strict=True):
        if rack.job in priority:
            classes[gang] = priority[rack.job]
    return replace(plan, gang_class=classes)


def adopt(plan: Plan, state: State) -> None:
    """Let the stages go on by the classes of `plan`; what they remember of racks and caps stays."""
    structure, kit = problem.compile_structure(plan), compile_kit(plan)
    state.allocate = replace(state.allocate, structure=structure, kit=kit)
