// A Modbus TCP server or client on one of two npm packages, for the tests:
//   modbus.js (jsmodbus|modbus-serial) server HOST PORT ADDR=WORD...        "ready", then serves holding registers
//   modbus.js (jsmodbus|modbus-serial) client HOST PORT UNIT ADDR COUNT [WRITE_ADDR WRITE_WORD]  prints JSON
'use strict'
const net = require('net')
const [, , library, role, host, port, ...rest] = process.argv

function serve (words) {
  if (library === 'jsmodbus') {
    const holding = Buffer.alloc(2 * 65536)
    for (const [addr, word] of words) holding.writeUInt16BE(word, 2 * addr)
    const socket = new net.Server()
    new (require('jsmodbus').server.TCP)(socket, { holding })
    socket.listen(Number(port), host, () => console.log('ready'))
    return
  }
  const held = new Map(words)
  const { ServerTCP } = require('modbus-serial')
  const server = new ServerTCP({
    getHoldingRegister: addr => held.get(addr) || 0,
    setRegister: (addr, word) => { held.set(addr, word) }
  }, { host, port: Number(port), unitID: 255 })
  server.on('initialized', () => console.log('ready'))
}

async function ask (unit, addr, count, writeAddr, writeWord) {
  const write = writeAddr !== undefined
  if (library === 'jsmodbus') {
    const socket = net.connect(Number(port), host)
    const client = new (require('jsmodbus').client.TCP)(socket, unit, 2000)
    await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject))
    try {
      if (write) await client.writeSingleRegister(writeAddr, writeWord)
      return (await client.readHoldingRegisters(addr, count)).response.body.valuesAsArray
    } finally { socket.destroy() }
  }
  const Client = require('modbus-serial')
  const client = new Client()
  await client.connectTCP(host, { port: Number(port) })
  client.setID(unit)
  client.setTimeout(2000)
  try {
    if (write) await client.writeRegister(writeAddr, writeWord)
    return (await client.readHoldingRegisters(addr, count)).data
  } finally { client.close() }
}

if (role === 'server') {
  serve(rest.map(pair => pair.split('=').map(Number)))
} else {
  ask(...rest.map(Number)).then(
    words => console.log(JSON.stringify({ words: Array.from(words) })),
    error => console.log(JSON.stringify({ error: String(error.message || error.err || error) }))
  )
}
