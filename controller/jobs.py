"""Jobs as schedulers tell of them and priorities as operators do, while the controller runs: other gangs, same plan.

What a tenant may have stays with the racks of the site file, as its rows are built once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from controller import problem, site_rows
from controller.corrective import compile_kit
from controller.cycle import State
from controller.frames import JobTold
from controller.plan import Plan
from drivers.site.model import Job, Site


def with_jobs(plan: Plan, told: Sequence[JobTold], priority: Mapping[str, int]) -> Plan:
    """The plan with the told jobs on their racks and some jobs' priorities in place of the site file's.

    A flexible job stands right behind the others of its priority. A rack that is told of nowhere stays as in `plan`.
    """
    site = _site(plan.site, told)
    gang_of, classes = site_rows.gangs(site)
    flexible = {job.id for job in told if job.flexible}
    behind = np.zeros(len(classes), dtype=np.int64)
    for rack, gang in zip(site.racks, gang_of.tolist(), strict=True):
        if rack.job in priority:
            classes[gang] = priority[rack.job]
        behind[gang] = rack.job in flexible
    return replace(plan, site=site, gang_of=gang_of, gang_class=2 * classes + behind if flexible else classes)


def _site(site: Site, told: Sequence[JobTold]) -> Site:
    if not told:
        return site
    racks = list(site.racks)
    for job in told:
        for name in job.racks:
            at = site.rack_index[name]
            racks[at] = racks[at].model_copy(update={"job": job.id, "priority": job.priority})
    new = {job.id: Job(id=job.id, kind="training" if job.gang else "inference", tenant=job.tenant) for job in told}
    jobs = (*(j for j in site.jobs if j.id not in new), *new.values())
    return site.model_copy(update={"racks": tuple(racks), "jobs": jobs})


def adopt(plan: Plan, state: State) -> None:
    """Let the stages go on by the gangs of `plan`; what they remember of racks and caps stays."""
    structure, kit = problem.compile_structure(plan), compile_kit(plan)
    state.allocate = replace(state.allocate, structure=structure, kit=kit)
