/** What `raft-p2p/testing` promises to those who test their own state machine with it. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import {
  SimulatedCluster,
  SimulatedRequestError,
  StorageError,
} from '../../node/testing/testing.ts'
import { Counter } from '../support/counter.ts'

function cluster(options: { readonly seed?: number; readonly nodes?: number } = {}) {
  const made = new SimulatedCluster({ machine: () => new Counter(), ...options })
  made.untilReady()
  return made
}

const test = suite('a simulated cluster')

test('applies an application through any node, and every node has the same state', () => {
  const three = cluster()
  for (const node of [0, 1, 2])
    assert.equal(three.apply(node, Uint8Array.of(1)), Uint8Array.of(node + 1))
  for (const node of [0, 1, 2]) assert.equal(three.query(node, new Uint8Array(0)), Uint8Array.of(3))
  three.run(2000)
  assert.equal(three.stateHash(0), three.stateHash(1))
  assert.equal(three.stateHash(0), three.stateHash(2))
})

test('goes on without its leader, and has everything when the leader is back', () => {
  const three = cluster()
  three.apply(0, Uint8Array.of(5))
  const old = three.leader as number
  const others = [0, 1, 2].filter((node) => node !== old)
  three.powerCut(old)
  three.until(() => three.leader !== null)
  assert.equal(three.apply(others[0] as number, Uint8Array.of(2)), Uint8Array.of(7))
  assert.is(three.status(old), null)
  three.start(old)
  three.untilReady()
  assert.equal(three.query(old, new Uint8Array(0)), Uint8Array.of(7))
})

test('comes back from its disks when all have lost their power', () => {
  const three = cluster()
  three.apply(1, Uint8Array.of(9))
  for (const node of [0, 1, 2]) three.powerCut(node)
  three.run(1000)
  for (const node of [0, 1, 2]) three.start(node)
  three.untilReady()
  assert.equal(three.query(2, new Uint8Array(0)), Uint8Array.of(9))
})

test('a node that is cut off answers neither writes nor reads, and joins again', () => {
  const three = cluster()
  const old = three.leader as number
  three.isolate(old)
  const refused = (work: () => unknown): SimulatedRequestError => {
    try {
      work()
    } catch (error) {
      if (error instanceof SimulatedRequestError) return error
      throw error
    }
    throw new Error('it was answered')
  }
  assert.is(
    refused(() => three.query(old, new Uint8Array(0), 'linearizable', 4000)).code,
    'timeout',
  )
  assert.equal(three.query(old, new Uint8Array(0), 'stale'), Uint8Array.of(0))
  three.heal()
  three.untilReady()
  assert.equal(three.query(old, new Uint8Array(0)), Uint8Array.of(0))
})

test('a request to a node that is down fails at once, without a doubt', () => {
  const three = cluster()
  three.kill(1)
  try {
    three.apply(1, Uint8Array.of(1))
    assert.unreachable()
  } catch (error) {
    assert.instance(error, SimulatedRequestError)
    assert.is((error as SimulatedRequestError).code, 'no-answer')
    assert.is((error as SimulatedRequestError).maybeApplied, false)
  }
})

test('the same seed tells the same story, another one another', () => {
  const story = (seed: number) => {
    const three = cluster({ seed })
    three.apply(0, Uint8Array.of(1))
    three.kill(three.leader as number)
    three.until(() => three.leader !== null)
    return [three.nowMs, three.leader, three.stateHash(three.leader as number)]
  }
  assert.equal(story(3), story(3))
  assert.not.equal(story(3), story(4))
})

test('an exception of the application ends the run', () => {
  class Bad extends Counter {
    override apply(): Uint8Array {
      throw new Error('not today')
    }
  }
  const three = new SimulatedCluster({ machine: () => new Bad() })
  three.untilReady()
  assert.throws(() => three.apply(0, Uint8Array.of(1)), /not today/)
})

test('names its errors', () => {
  assert.instance(new StorageError('io', 'x'), Error)
  assert.throws(() => cluster().kill(7), /there is no node 7/)
})

test.run()
