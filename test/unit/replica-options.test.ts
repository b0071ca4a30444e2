/** What a replica is made from: the cluster's own times rule, whatever the flags of one node say. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { LIMITS } from '../../node/config.ts'
import { KvMachine } from '../../node/machine/kv.ts'
import { encodeConfigurationRecord } from '../../node/raft/configuration.ts'
import type { ConfigurationRecord, Entry } from '../../node/raft/types.ts'
import { type ReplicaSettings, replicaOptions } from '../../node/replica-options.ts'
import { configurationOf, memberIdentity } from '../support/raft-cluster.ts'

const FLAGS: ReplicaSettings = {
  self: memberIdentity(1),
  machine: new KvMachine(),
  electionMs: 1000,
  heartbeatMs: 100,
  seed: 1,
  autopilot: null,
}

function recordWith(settings: ConfigurationRecord['settings']): ConfigurationRecord {
  const common = { clusterId: '0'.repeat(32), foundingSet: [] }
  return { ...common, settings, configuration: configurationOf(3) }
}

function entryWith(index: number, settings: ConfigurationRecord['settings']): Entry {
  const payload = encodeConfigurationRecord(recordWith(settings))
  return { term: 1, index, kind: 'configuration', payload }
}

/** Heartbeat and election timeout in ticks of 100 ms. */
function ticks(entries: readonly Entry[], snapshot: ConfigurationRecord['settings'] | null = null) {
  const id = { term: 1, index: 1 }
  const file = { sizeBytes: 1, checksum: '0'.repeat(64) }
  const at =
    snapshot === null
      ? null
      : { id, configuration: { index: 1, record: recordWith(snapshot) }, ...file }
  const start = { hardState: null, base: { term: 0, index: 0 }, entries }
  const { raft, tickMs } = replicaOptions(FLAGS, LIMITS, start, { snapshot: at, applied: null })
  assert.is(tickMs, 100)
  return [raft.heartbeatTicks, raft.electionTicks]
}

const options = suite('what a replica is made from')

options('the flags hold where the cluster has set nothing', () => {
  assert.equal(ticks([]), [1, 10])
  assert.equal(ticks([entryWith(1, { expect: 3 })]), [1, 10])
})

options('the newest configuration in the log rules, else that of the snapshot', () => {
  const founded = entryWith(1, { heartbeatMs: 100, electionMs: 1000 })
  const changed = entryWith(2, { heartbeatMs: 200, electionMs: 3000 })
  const noop: Entry = { term: 1, index: 3, kind: 'noop', payload: new Uint8Array(0) }
  assert.equal(ticks([founded, changed, noop]), [2, 30])
  assert.equal(ticks([noop], { heartbeatMs: 300, electionMs: 2000 }), [3, 20])
  assert.equal(ticks([changed], { heartbeatMs: 300, electionMs: 2000 }), [2, 30])
})

options('an election timeout is three heartbeats at least, however coarse the ticks are', () => {
  assert.equal(ticks([entryWith(1, { heartbeatMs: 10, electionMs: 50 })]), [1, 3])
  assert.equal(ticks([entryWith(1, { heartbeatMs: -5, electionMs: 'soon' })]), [1, 10])
})

options.run()
