// Eclipse Tahu's client as an edge node: PORT GROUP NODE DEVICE. Says on standard output what it is told.
// Commands on standard input: a number is the device's new power, `gap` loses a message, `stop` dies in order.
const readline = require("readline");
const sparkplug = require("sparkplug-client");

const [port, groupId, edgeNode, device] = process.argv.slice(2);
let power = 60.5;
const client = sparkplug.newClient({
  serverUrl: `tcp://127.0.0.1:${port}`,
  username: "edge", // the client insists on one, and nats-server on one that is not empty
  password: "edge",
  groupId,
  edgeNode,
  clientId: `tahu${process.pid}`,
  version: "spBv1.0",
  publishDeath: true,
});
const metrics = (extra) => [
  { name: "Power/Active", alias: 1, type: "Double", value: power, timestamp: Date.now() },
  ...extra,
];

client.on("birth", birth);
client.on("ncmd", (payload) => {
  const asked = payload.metrics.some((m) => m.name === "Node Control/Rebirth" && m.value === true);
  console.log(asked ? "rebirth" : "other command");
  if (asked) birth();
});
client.on("error", (error) => console.log(`error ${error}`));

function birth() {
  const control = { name: "Node Control/Rebirth", type: "Boolean", value: false };
  client.publishNodeBirth({ timestamp: Date.now(), metrics: [control] });
  const more = [
    { name: "Liquid/Supply Temperature", alias: 2, type: "Float", value: 25.5, timestamp: Date.now() },
    { name: "Liquid/Return Temperature", alias: 3, type: "Int16", value: -3, timestamp: Date.now() },
    { name: "Liquid/Leak", alias: 4, type: "Boolean", value: false, timestamp: Date.now() },
    { name: "Maker", type: "String", value: "Tahu" },
  ];
  client.publishDeviceBirth(device, { timestamp: Date.now(), metrics: metrics(more) });
  console.log("born");
}

readline.createInterface({ input: process.stdin }).on("line", (line) => {
  if (line === "gap") client.incrementSeqNum();
  else if (line === "stop") client.stop();
  else {
    power = Number(line);
    const metric = { alias: 1, type: "Double", value: power, timestamp: Date.now() };
    client.publishDeviceData(device, { timestamp: Date.now(), metrics: [metric] });
  }
});
