"""Tells Headroom of jobs (POST and DELETE /v1/jobs). Python 3.6 or later and nothing else; no failure here fails a job.

Settings, by environment: HEADROOM_URL (http://127.0.0.1:8600), HEADROOM_TOKEN_FILE (/etc/headroom/token; a token of an
operator), HEADROOM_RACKS (/etc/headroom/racks.csv: `host,rack` a line), HEADROOM_CA (a CA file for https).
"""

import csv
import json
import os
import re
import ssl
import urllib.error
import urllib.parse
import urllib.request

WAIT_S = 5.0
BAD = re.compile(r"[^A-Za-z0-9._:/-]")


def racks_of(hosts):
    """Racks of hosts, each once; hosts that the table does not know are left out and returned beside them."""
    with open(os.environ.get("HEADROOM_RACKS", "/etc/headroom/racks.csv"), newline="") as file:
        table = {row[0].strip(): row[1].strip() for row in csv.reader(file) if len(row) >= 2}
    known = [host for host in hosts if host in table]
    return sorted({table[host] for host in known}), [host for host in hosts if host not in table]


def name_of(text):
    """A job's name as Headroom takes it."""
    return BAD.sub("-", text).strip("-._:/")[:128]


def begin(job):
    """Tell of a job that begins or has changed."""
    return _send("POST", "/v1/jobs", job)


def end(name):
    """Tell of a job that is over; one that Headroom does not know is no error."""
    try:
        return _send("DELETE", "/v1/jobs/" + urllib.parse.quote(name, safe=""))
    except urllib.error.HTTPError as error:
        if error.code != 404:
            raise
        return {"ended": name}


def known(source):
    """Ids of the jobs that Headroom has from `source`."""
    return {job["id"] for job in _send("GET", "/v1/jobs")["jobs"] if job["source"] == source}


def _send(method, path, body=None):
    with open(os.environ.get("HEADROOM_TOKEN_FILE", "/etc/headroom/token")) as file:
        token = file.read().strip()
    base = os.environ.get("HEADROOM_URL", "http://127.0.0.1:8600").rstrip("/")
    if not base.startswith(("http://", "https://")):
        raise ValueError("HEADROOM_URL: give http:// or https://")
    request = urllib.request.Request(  # noqa: S310  (the scheme is checked)
        base + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": "Bearer " + token, "Content-Type": "application/json"},
    )
    context = ssl.create_default_context(cafile=os.environ.get("HEADROOM_CA")) if base.startswith("https") else None
    with urllib.request.urlopen(request, timeout=WAIT_S, context=context) as reply:  # noqa: S310
        return json.load(reply)
