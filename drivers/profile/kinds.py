"""What a device is to a site: an instrument whose readings control goes by, or one that stands beside them."""

from drivers.profile.model import Profile

DSX_KINDS = {"drycooler": "dry_cooler", "powermeter": "node"}  # end of a profile's name -> kind, where they differ
STANDS_AT: dict[str, tuple[str, ...]] = {  # role of a profile -> kinds of things that it may stand at
    "valve": ("cdu", "loop"),
    "genset": ("node",),
    "transfer_switch": ("switch",),
    "power_shelf": ("rack",),
    "battery_shelf": ("rack",),
    "ups": ("node",),
    "drive": ("pump", "chiller", "dry_cooler", "tower"),
    "cooler": ("rack", "cdu", "loop"),
    "chiller": ("chiller",),
}


def measured_kind(profile: Profile) -> str:
    """What a profile's readings are of, for control: node, cdu, storage, rack, loop, a kind of cooling unit.

    Empty for one that stands beside the instruments, and for one that polls too little to be any.
    """
    if profile.role:
        return "chiller" if profile.role == "chiller" else ""
    if profile.protocol == "dsx":
        kind = profile.name.removeprefix("dsx_")
        return DSX_KINDS.get(kind, kind)
    names = {p.name for p in profile.polled()}
    if profile.protocol == "sparkplug" and "rack" in profile.name.split("_"):
        return "rack"
    if "soc_pct" in names:
        return "storage"
    if {"flow_lpm", "supply_c"} <= names:
        return "cdu"
    return "node" if "power_w" in names else ""
