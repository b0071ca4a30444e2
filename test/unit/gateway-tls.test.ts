/** The same port with TLS: keys, the clients' WebSocket, peers, and nothing in clear. */
import { get as httpsGet } from 'node:https'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { WebSocket } from 'ws'
import { CERTIFICATE, CERTIFICATE_KEY } from '../support/certificate.ts'
import { closeLabs, eventually, openLab, Wire } from '../support/gateway-lab.ts'

const encrypted = suite('gateway with TLS')
encrypted.after.each(closeLabs)

const tls = { cert: CERTIFICATE, key: CERTIFICATE_KEY }

function status(port: number, headers: Record<string, string> = {}): Promise<number> {
  return new Promise((resolve, reject) => {
    const url = `https://localhost:${port}/v1/status`
    httpsGet(url, { ca: CERTIFICATE, family: 4, headers, agent: false }, (response) => {
      response.resume()
      resolve(response.statusCode ?? 0)
    }).on('error', reject)
  })
}

encrypted('HTTP, with the rules for loopback and origins', async () => {
  const { port } = await openLab({ tls })
  assert.is(await status(port), 200)
  assert.is(await status(port, { origin: `https://localhost:${port}` }), 200)
  assert.is(await status(port, { origin: 'https://evil.example' }), 403)
  // A port that is left out is that of https.
  assert.is(await status(port, { host: 'localhost', origin: 'https://localhost' }), 200)
})

encrypted('WebSockets of clients and of peers', async () => {
  let peers = 0
  const lab = await openLab({
    tls,
    onPeerUpgrade: (_request, socket) => {
      peers++
      socket.destroy()
    },
  })
  const address = `wss://localhost:${lab.port}`
  const options = { ca: CERTIFICATE, family: 4 }
  const client = new WebSocket(`${address}/v1/client`, ['raft-p2p.v1'], options)
  let frames = 0
  client.on('message', () => frames++)
  await eventually('the leader', () => frames > 0)
  const peer = new WebSocket(`${address}/v1/peer`, options)
  peer.on('error', () => {})
  await eventually('the peer', () => peers === 1)
  assert.is(lab.gateway.clientCount, 1)
  client.terminate()
})

encrypted('nothing is served in clear, and no warning is due', async () => {
  const lab = await openLab({ tls }, '0.0.0.0')
  const wire = new Wire(lab.port)
  wire.send('GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n')
  await wire.ended()
  assert.not.match(wire.text, 'clusterId')
  assert.equal(lab.logged, [])
  assert.is(lab.gateway.clientCount, 0)
})

encrypted.run()
