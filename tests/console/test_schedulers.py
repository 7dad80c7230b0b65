"""What Slurm and Kubernetes say of their jobs arrives; fakes print what the real programs print."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers_console import Served, Stand

from controller.console.accounts import Role
from controller.console.desk import desk
from drivers.clock import RealClock

pytestmark = pytest.mark.usefixtures("warm_kernels")
DEPLOY = Path(__file__).parents[2] / "deploy"
# scontrol show job --oneliner, Slurm 23.11
JOB = (
    "JobId=4711 JobName=llm pre train UserId=ann(1000) GroupId=ann(1000) MCS_label=N/A Priority=4294901757 Nice=0 "
    "Account=research QOS=urgent JobState=CONFIGURING Reason=None Dependency=(null) Requeue=1 Restarts=0 BatchFlag=1 "
    "RunTime=00:00:00 TimeLimit=2-00:00:00 TimeMin=N/A SubmitTime=2026-11-25T12:00:00 Partition=gpu "
    "AllocNode:Sid=login1:1234 ReqNodeList=(null) ExcNodeList=(null) NodeList=gpu[001-003] BatchHost=gpu001 NumNodes=3 "
    "NumCPUs=288 NumTasks=3 CPUs/Task=96 ReqB:S:C:T=0:0:*:* TRES=cpu=288,mem=3T,node=3,billing=288,gres/gpu=24 "
    "Command=/home/ann/train.sh WorkDir=/home/ann Comment=headroom:flexible StdErr=/home/ann/slurm-4711.out Power="
)


class Site:
    """A console, and what a scheduler's machine has: fakes in the path, a token, a table of hosts."""

    def __init__(self, served: Served, folder: Path) -> None:
        self.served, self.folder = served, folder
        self.racks = [r.id for r in served.desk.site.racks]
        table = [("gpu001", 0), ("gpu002", 0), ("gpu003", 1)]
        (folder / "racks.csv").write_text("".join(f"{host},{self.racks[i]}\n" for host, i in table))
        (folder / "token").write_text(served.desk.accounts.new_token("admin", Role.OPERATOR) + "\n")

    def fake(self, name: str, code: str) -> None:
        """A program in the path."""
        path = self.folder / name
        path.write_text(f"#!{sys.executable}\nimport sys\nargs = sys.argv[1:]\n{code}\n")
        path.chmod(0o755)

    def run(self, script: str, **env: str) -> subprocess.CompletedProcess[str]:
        """One of our scripts, as the scheduler runs it."""
        place = {"PATH": f"{self.folder}:{os.environ['PATH']}", "HEADROOM_URL": self.served.url}
        files = {"HEADROOM_TOKEN_FILE": str(self.folder / "token"), "HEADROOM_RACKS": str(self.folder / "racks.csv")}
        command = [sys.executable, str(DEPLOY / script)]
        return subprocess.run(command, env=place | files | env, capture_output=True, text=True, timeout=30, check=False)

    def jobs(self) -> dict[str, dict[str, Any]]:
        """What has arrived."""
        return {job["id"]: job for job in self.served.desk.intake.jobs()}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Stand(tmp_path) as stand:
        at = desk(stand.cycles.site, tmp_path, RealClock())
        at.accounts.first_password()
        with Served(at) as served:
            yield Site(served, tmp_path)


def test_a_job_of_slurm_comes_and_goes(site: Site) -> None:
    site.fake("scontrol", f"print({JOB!r} if args[1] == 'job' else 'gpu001\\ngpu002\\ngpu003')")
    began = site.run("slurm/headroom-slurm", SLURM_JOB_ID="4711", SLURM_SCRIPT_CONTEXT="prolog_slurmctld",
                     HEADROOM_TENANTS="research,products")  # fmt: skip
    assert (began.returncode, began.stderr) == (0, "")
    job = site.jobs()["slurm-4711"]
    assert job["racks"] == sorted(site.racks[:2])
    assert (job["priority"], job["gang"], job["tenant"], job["flexible"]) == (0, True, "research", True)
    site.run("slurm/headroom-slurm", SLURM_JOB_ID="4711", SLURM_SCRIPT_CONTEXT="epilog_slurmctld")
    assert site.jobs() == {}
    again = site.run("slurm/headroom-slurm", SLURM_JOB_ID="4711", SLURM_SCRIPT_CONTEXT="epilog_slurmctld")
    assert (again.returncode, again.stderr) == (0, "")


def test_a_job_of_slurm_runs_whether_headroom_hears_of_it_or_not(site: Site) -> None:
    site.fake("scontrol", "sys.exit('slurm_load_jobs error: Unable to contact slurm controller')")
    dead = site.run("slurm/headroom-slurm", SLURM_JOB_ID="1", SLURM_SCRIPT_CONTEXT="prolog_slurmctld")
    assert dead.returncode == 0
    assert "job 1 was not told" in dead.stderr
    site.fake("scontrol", f"print({JOB!r} if args[1] == 'job' else 'gpu001')")
    away = site.run("slurm/headroom-slurm", SLURM_JOB_ID="4711", HEADROOM_URL="http://127.0.0.1:9")
    assert away.returncode == 0
    assert "was not told" in away.stderr


def test_pods_of_kubernetes_are_jobs_by_their_labels(site: Site) -> None:
    labels = {"headroom/job": "serve", "headroom/priority": "2", "headroom/gang": "false", "app": "x"}
    nodes = [{"metadata": {"name": "n1", "labels": {"headroom/rack": site.racks[5]}}}, {"metadata": {"name": "gpu003"}}]
    pods = [
        {"metadata": {"name": f"p{i}", "namespace": "ml", "labels": labels}, "spec": {"nodeName": node},
         "status": {"phase": "Running"}}
        for i, node in enumerate(("n1", "n1", "gpu003"))
    ]  # fmt: skip
    answer = f"import json; print(json.dumps({{'items': {{'nodes': {nodes!r}}}.get(args[1], {pods!r})}}))"
    site.fake("kubectl", answer)
    told = site.run("kubernetes/headroom-pods")
    assert (told.returncode, told.stderr) == (0, "")
    job = site.jobs()["k8s-ml-serve"]
    assert job["racks"] == sorted([site.racks[1], site.racks[5]])
    assert (job["priority"], job["gang"]) == (2, False)
    site.fake("kubectl", "import json; print(json.dumps({'items': []}))")
    assert site.run("kubernetes/headroom-pods").returncode == 0
    assert site.jobs() == {}
    site.fake("kubectl", "sys.exit('The connection to the server was refused')")
    assert site.run("kubernetes/headroom-pods").returncode == 1
    assert json.loads((site.folder / "jobs.json").read_text()) == {}
