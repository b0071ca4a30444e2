/** The LAN's records: what a member says is understood, what a stranger sends is dropped and costs little. */
import * as fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import {
  answerOf,
  answersIn,
  asksFor,
  type LanAnswer,
  type LanPacket,
  questionFor,
  serviceNameOf,
} from '../../discovery/lan-packet.ts'

const discoveryKey = Uint8Array.from({ length: 32 }, (_, i) => i)
const service = serviceNameOf(discoveryKey)
const nodeKey = 'ab'.repeat(32)
const self: LanAnswer = { nodeKey, port: 7700, dhtPort: 49_737, tls: false }

const lan = suite('LAN packets')

lan('the service is named after half of the discovery key', () => {
  assert.is(service, '000102030405060708090a0b0c0d0e0f._raft-p2p._tcp.local')
  for (const label of service.split('.')) assert.ok(label.length <= 63)
})

lan('an answer is understood, with and without a DHT node, in any case of letters', () => {
  for (const said of [self, { ...self, dhtPort: null }, { ...self, tls: true }]) {
    assert.equal(answersIn(answerOf(service, said), service), [said])
  }
  const { answers, additionals } = answerOf(service, self)
  const shouted = additionals.map((record) => ({ ...record, name: record.name.toUpperCase() }))
  assert.equal(answersIn({ answers, additionals: shouted }, service), [self])
})

lan('several answers in one packet are kept apart', () => {
  const other = { ...self, nodeKey: 'cd'.repeat(32), port: 7701 }
  const both = [answerOf(service, self), answerOf(service, other)]
  assert.equal(answersIn({ answers: both.flatMap(({ additionals }) => additionals) }, service), [
    self,
    other,
  ])
})

lan('another topic, another key, a missing half: dropped', () => {
  const { answers, additionals } = answerOf(service, self)
  const [srv, txt] = additionals
  assert.ok(srv && txt)
  const elsewhere = serviceNameOf(new Uint8Array(32))
  assert.equal(answersIn({ answers, additionals }, elsewhere), [])
  assert.equal(answersIn({ answers, additionals: [txt] }, service), [])
  assert.equal(answersIn({ answers, additionals: [srv] }, service), [])
  const stolen = { ...txt, data: [Buffer.from(`key=${'cd'.repeat(32)}`)] }
  assert.equal(answersIn({ answers: [srv, stolen] }, service), [])
  for (const port of [0, -1, 65_536, 1.5, '7700', null]) {
    assert.equal(answersIn({ answers: [{ ...srv, data: { port } }, txt] }, service), [])
  }
  const dht = { ...txt, data: [Buffer.from(`key=${nodeKey}`), Buffer.from('dht=99999')] }
  assert.is(answersIn({ answers: [srv, dht] }, service)[0]?.dhtPort, null)
})

lan('questions are recognised', () => {
  assert.ok(asksFor({ questions: questionFor(service) }, service))
  assert.ok(asksFor({ questions: [{ name: service.toUpperCase(), type: 'ANY' }] }, service))
  assert.not(asksFor({ questions: [{ name: service, type: 'A' }] }, service))
  assert.not(asksFor({ questions: questionFor(`x${service}`) }, service))
  assert.not(asksFor({}, service))
})

lan('no packet of any shape throws or yields much', () => {
  const { answers, additionals } = answerOf(service, self)
  const good = [...answers, ...additionals]
  const record = fc.oneof(
    fc.anything(),
    fc.constantFrom(...good),
    fc.record({
      name: fc.constantFrom(service, ...good.map(({ name }) => name)),
      type: fc.constantFrom('SRV', 'TXT', 'PTR'),
      data: fc.oneof(fc.anything(), fc.array(fc.uint8Array()), fc.record({ port: fc.anything() })),
    }),
  )
  const packet = fc.record({
    questions: fc.array(record),
    answers: fc.array(record, { maxLength: 200 }),
    additionals: fc.array(record, { maxLength: 200 }),
  })
  fc.assert(
    fc.property(packet, (one) => {
      asksFor(one as LanPacket, service)
      const found = answersIn(one as LanPacket, service)
      assert.ok(found.length <= 64)
      for (const answer of found) {
        assert.match(answer.nodeKey, /^[0-9a-f]{64}$/)
        assert.ok(answer.port > 0 && answer.port < 65_536)
      }
    }),
  )
})

lan.run()
