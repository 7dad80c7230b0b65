// A host application of mqtt.js and Eclipse Tahu's payload library: PORT GROUP. Prints every message as JSON.
// On standard input: the name of a node that is to be born again.
const readline = require("readline");
const mqtt = require("mqtt");
const payloads = require("sparkplug-payload").get("spBv1.0");

const [port, group] = process.argv.slice(2);
const client = mqtt.connect(`mqtt://127.0.0.1:${port}`);
client.on("connect", () => client.subscribe("spBv1.0/#", () => console.log(JSON.stringify({ topic: "ready" }))));
client.on("message", (topic, payload) => {
  const body = topic.includes("/STATE/") ? JSON.parse(payload.toString()) : payloads.decodePayload(payload);
  console.log(JSON.stringify({ topic, body }, (_, value) => (value && value.toNumber ? value.toNumber() : value)));
});
readline.createInterface({ input: process.stdin }).on("line", (node) => {
  const metric = { name: "Node Control/Rebirth", type: "Boolean", value: true };
  const body = { timestamp: Date.now(), metrics: [metric] };
  client.publish(`spBv1.0/${group}/NCMD/${node}`, Buffer.from(payloads.encodePayload(body)));
});
