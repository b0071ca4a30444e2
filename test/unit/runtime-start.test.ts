/** The start of a runtime: what its disk refuses, it refuses, so that whoever starts it can say so. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { newKeyPair } from '../../node/key-pair.ts'
import { KvMachine } from '../../node/machine/kv.ts'
import { Runtime, type RuntimeParts } from '../../node/runtime.ts'
import { openIdentity } from '../../node/storage/identity.ts'
import { nodeDisk } from '../../node/storage/node-disk.ts'
import { type LogStorage, StorageError } from '../../node/storage/storage.ts'
import { temporaryDirectory } from '../support/storage.ts'

const start = suite('start of a runtime')

/** Admitted to a cluster, and stopped before there was a log. */
function admitted(openLog: RuntimeParts['openLog']) {
  const clusterId = 'c'.repeat(32)
  const identity = openIdentity(nodeDisk, temporaryDirectory(), { makeKeyPair: newKeyPair })
  const bound = { clusterId, foundingSet: ['a'.repeat(64)], how: 'joined' } as const
  identity.update({ clusterId, founding: { seq: 1, floor: 0, pledge: null, bound } })
  const fatal: string[] = []
  const parts: RuntimeParts = {
    identity,
    transport: { links: [], keep: () => {} } as unknown as RuntimeParts['transport'],
    openLog,
    openSnapshots: () => {
      throw new Error('there is nothing to open yet')
    },
    machine: new KvMachine(),
    founding: {
      bootId: 'b'.repeat(16),
      expect: 3,
      founders: null,
      mayFound: true,
      inviteClusterId: null,
      settings: {},
      random: () => 0,
      randomId: () => 'd'.repeat(32),
    },
    urls: () => [],
    heartbeatMs: 100,
    electionMs: 1000,
    seed: 1,
    autopilot: null,
    defer: () => {},
    wakeIn: () => () => {},
    turn: () => {},
    nowMs: () => 0,
    wallClock: () => new Date(0),
    log: () => {},
    fatal: (code) => fatal.push(code),
    admin: () => Promise.resolve(null),
    shown: { version: '0', runtime: 'test', topic: 'test' },
  }
  return { parts, fatal, identity }
}

const noRoom = new StorageError('disk-full', 'no room', { path: 'wal' })

start('who was admitted, and finds no room for a log, does not start', () => {
  const { parts, fatal } = admitted(() => {
    throw noRoom
  })
  // Nobody who hears of `fatal` could stop what is not made yet.
  assert.throws(
    () => new Runtime(parts),
    (error: unknown) => error instanceof StorageError && error.code === 'disk-full',
  )
  assert.equal(fatal, [])
})

start('a log whose first batch is not durable counts as not made', () => {
  let saved: Parameters<LogStorage['save']>[1] = () => {}
  const log = { save: (_batch, done) => (saved = done) } as Partial<LogStorage> as LogStorage
  const { parts, fatal, identity } = admitted(() => log)
  assert.is(new Runtime(parts).status().role, 'learner')
  assert.is(identity.record.logCreated, false)
  saved(noRoom)
  assert.equal(fatal, ['disk-full'])
  assert.is(identity.record.logCreated, false)
})

start.run()
