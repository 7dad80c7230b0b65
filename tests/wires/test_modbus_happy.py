"""The reader against the plant's servers over real sockets: every profile, own connections and gateways."""

import numpy as np
from helpers_modbus import CLOCK, PROFILES, modbus_site, own_device, reader_for, sample, unit_device, until
from helpers_programs import free_port

from drivers.points import Quality
from drivers.site.model import Gateway
from sim.serve.modbus import ModbusPlant

OWN = ("delta_rpu_orv3", "janitza_umg96rm", "schneider_pm5560", "sunspec_battery")


async def test_every_profile_is_read_as_served() -> None:
    port = free_port()
    devices = [own_device(f"{p}-{i}", p, f"127.9.{k}.{i}", port) for k, p in enumerate(OWN) for i in (1, 2)]
    gateway = Gateway(id="gw", host="127.9.9.1", port=port, service_ms=2, in_flight=2, fed_from=())
    devices += [unit_device(f"pdu{u}", "gw", u) for u in range(1, 36)]
    site = modbus_site(tuple(devices), (gateway,))
    plant = ModbusPlant(site, PROFILES)
    reader, inventory, table = reader_for(site)
    sent = {slab.name: sample(slab.rows, slab.name) for slab in inventory.slabs if slab.profile}
    for name, value in sent.items():
        assert plant.rows(name) == next(s.devices for s in inventory.slabs if s.name == name)
        plant.update(name, value)
    await plant.start()
    await reader.start()
    try:
        modbus = slice(0, sum(s.size for s in inventory.slabs if s.profile))

        def all_good() -> bool:
            reader.collect(CLOCK.now_s())
            return bool((table.quality[modbus] == Quality.GOOD).all())

        await until(all_good)
        for slab in inventory.slabs:
            if slab.profile:
                np.testing.assert_allclose(slab.view(table.value), sent[slab.name], rtol=1e-6, atol=0.051)
        assert reader.counters.garbage == reader.counters.exceptions == 0
        assert all(h.up and not h.devices_silent for h in reader.health())
        assert {h.name for h in reader.health()} == {"modbus gateway gw", *(f"modbus {p}" for p in OWN)}
    finally:
        await reader.stop()
        await plant.stop()
