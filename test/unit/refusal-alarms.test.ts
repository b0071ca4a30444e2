/** Alarms about refused peers: said once however many are refused and however often, and gone when nobody is any more. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { Alarms } from '../../node/alarms.ts'
import { RefusalAlarms } from '../../node/refusal-alarms.ts'

const refusals = suite('refusal alarms')

function lab() {
  const announced: string[] = []
  const alarms = new Alarms({
    announce: ({ kind, detail }) => announced.push(`${kind}: ${detail}`),
    now: () => new Date(0),
  })
  const rule = new RefusalAlarms(alarms)
  const refused = (reason: string, nodeKey: string | null, detail: string, nowMs: number) =>
    rule.refused({ reason, nodeKey, detail }, nowMs)
  const shown = () => alarms.list.map(({ kind, detail }) => `${kind}: ${detail}`)
  return { alarms, announced, rule, refused, shown }
}

refusals('a second cluster of three nodes is one alarm, announced once', () => {
  const { announced, rule, refused, shown } = lab()
  for (let nowMs = 0; nowMs < 600_000; nowMs += 5000) {
    for (const peer of ['a', 'b', 'c']) {
      refused('wrong-cluster', peer, `${peer} belongs to another cluster`, nowMs)
      refused('wrong-cluster', peer, 'the other side refused this link', nowMs)
    }
    rule.tick(nowMs)
    assert.equal(shown(), ['second-cluster: a belongs to another cluster'])
  }
  assert.equal(announced, ['second-cluster: a belongs to another cluster'])
})

refusals(
  'it goes when nobody is refused any more: by silence, or because the peer is linked',
  () => {
    const { rule, refused, shown } = lab()
    refused('wrong-cluster', 'a', 'of a', 0)
    refused('wrong-cluster', 'b', 'of b', 1000)
    rule.linked('c')
    assert.equal(shown(), ['second-cluster: of a'])
    rule.linked('a')
    assert.equal(shown(), ['second-cluster: of b'], 'the other one still is')
    rule.tick(60_999)
    assert.equal(shown(), ['second-cluster: of b'])
    rule.tick(61_000)
    assert.equal(shown(), [])
  },
)

refusals('a copy is not gone because the original is linked', () => {
  const { rule, refused, shown } = lab()
  refused('clone', 'a', 'two of a', 0)
  rule.linked('a')
  assert.equal(shown(), ['clone: two of a'])
  rule.tick(60_000)
  assert.equal(shown(), [])
})

refusals('other reasons raise nothing, and alarms of others stay', () => {
  const { alarms, rule, refused, shown } = lab()
  refused('wrong-topic', 'a', 'knows no topic', 0)
  refused('handshake-timeout', null, 'slow', 0)
  assert.equal(shown(), [])
  refused('clone', 'a', 'two of a', 0)
  alarms.raise('clone', 'said by founding')
  rule.tick(60_000)
  assert.equal(shown(), ['clone: said by founding'])
})

refusals('however many there are, it keeps a bounded number', () => {
  const { rule, refused, shown } = lab()
  for (let i = 0; i < 1000; i++) refused('version', `key ${i}`, `of ${i}`, i)
  rule.tick(60_063)
  assert.equal(shown(), [], 'those beyond the limit were not remembered')
})

refusals.run()
