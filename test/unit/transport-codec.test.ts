/** The bytes between nodes: every frame survives the trip, and nothing a peer can send does worse than a MalformedFrame. */
import fc from 'fast-check'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { encodeConfigurationRecord, foundingConfiguration } from '../../node/raft/configuration.ts'
import type { RaftMessage } from '../../node/raft/messages.ts'
import { type Entry, TERM_MAX } from '../../node/raft/types.ts'
import {
  BATCH_HEADER_BYTES,
  decodeBatch,
  encodeBatch,
  FRAMES_MAX,
  frameBytes,
  MalformedFrame,
  type WireFrame,
} from '../../node/transport/codec.ts'

const codec = suite('transport codec')

const u64 = fc.maxSafeNat()
/** Later ones are refused. */
const term = fc.nat(TERM_MAX)
const u32 = fc.nat(0xffff_ffff)
const body = fc.uint8Array({ maxLength: 200 })
const hex = (digits: number) =>
  fc
    .array(fc.constantFrom(...'0123456789abcdef'), { minLength: digits, maxLength: digits })
    .map((all) => all.join(''))
const clusterId = fc.option(hex(32).filter((id) => !/^0+$/.test(id)))

const CONFIGURATION = encodeConfigurationRecord({
  clusterId: 'c'.repeat(32),
  foundingSet: [],
  settings: {},
  configuration: foundingConfiguration([
    { nodeKey: 'a'.repeat(64), storageId: 'b'.repeat(32), name: 'a', urls: [] },
  ]),
})

/** An Append as a leader may send it: entries follow prevIndex, terms rise up to the leader's. */
const append = fc
  .record({
    prevIndex: fc.nat(2 ** 48),
    prevTerm: fc.nat(2 ** 40),
    commit: u64,
    steps: fc.array(
      fc.record({
        rise: fc.nat(3),
        what: fc.oneof(
          fc.record({ kind: fc.constantFrom('command' as const, 'noop' as const), payload: body }),
          fc.constant({ kind: 'configuration' as const, payload: CONFIGURATION }),
        ),
      }),
      { maxLength: 20 },
    ),
    lead: fc.nat(5),
  })
  .map(({ prevIndex, prevTerm, commit, steps, lead }): RaftMessage => {
    let term = prevTerm
    const entries = steps.map(({ rise, what: { kind, payload } }, i): Entry => {
      term += rise
      return { term, index: prevIndex + 1 + i, kind, payload }
    })
    return { type: 'append', term: term + lead, prevIndex, prevTerm, commit, entries }
  })

const message: fc.Arbitrary<RaftMessage> = fc.oneof(
  fc.record({ type: fc.constant('preVote' as const), term, lastIndex: u64, lastTerm: u64 }),
  fc
    .record({ term, askedTerm: u64, answer: fc.constantFrom('granted', 'refused', 'leader-alive') })
    .map(({ answer, ...terms }) => ({
      type: 'preVoteResponse' as const,
      ...terms,
      granted: answer === 'granted',
      leaderAlive: answer === 'leader-alive',
    })),
  fc.record({
    type: fc.constant('requestVote' as const),
    term,
    lastIndex: u64,
    lastTerm: u64,
    transfer: fc.boolean(),
  }),
  fc.record({ type: fc.constant('voteResponse' as const), term, granted: fc.boolean() }),
  append,
  fc.record({
    type: fc.constant('appendResponse' as const),
    term,
    accepted: fc.constant(true as const),
    matchIndex: u64,
  }),
  fc.record({
    type: fc.constant('appendResponse' as const),
    term,
    accepted: fc.constant(false as const),
    rejectedIndex: u64,
    hintIndex: u64,
    hintTerm: u64,
  }),
  fc.record({ type: fc.constant('heartbeat' as const), term, commit: u64, readRound: u64 }),
  fc.record({ type: fc.constant('heartbeatResponse' as const), term, readRound: u64 }),
  fc.record({ type: fc.constant('timeoutNow' as const), term }),
  fc.record({ type: fc.constant('resigned' as const), term }),
  fc
    .record({ older: term, newer: term, lastIncludedIndex: u64, sizeBytes: u64, checksum: hex(64) })
    .map(({ older, newer, ...rest }) => ({
      type: 'installSnapshot' as const,
      term: Math.max(older, newer),
      lastIncludedTerm: Math.min(older, newer),
      ...rest,
    })),
)

const frame: fc.Arbitrary<WireFrame> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ type: fc.constant('raft' as const), message }) },
  fc.record({ type: fc.constant('proof' as const), mac: body }),
  fc.record({ type: fc.constant('hello' as const), body }),
  fc.record({ type: fc.constant('founding' as const), body }),
  fc.record({ type: fc.constantFrom('ping' as const, 'pong' as const), nonce: u32 }),
  fc.record({
    type: fc.constant('goodbye' as const),
    reason: fc.constantFrom(
      'wrong-topic' as const,
      'wrong-key' as const,
      'wrong-cluster' as const,
      'handshake-timeout' as const,
      'malformed' as const,
      'clone' as const,
      'version' as const,
    ),
  }),
  fc.record({
    type: fc.constant('forward' as const),
    requestId: u64,
    operation: fc.constantFrom('command' as const, 'readIndex' as const, 'change' as const),
    body,
  }),
  fc.record({
    type: fc.constant('forwardReply' as const),
    requestId: u64,
    outcome: fc.constantFrom(
      'done' as const,
      'not-leader' as const,
      'overloaded' as const,
      'disk-full' as const,
      'closing' as const,
      'bad-request' as const,
    ),
    index: u64,
    body,
  }),
  fc.record({ type: fc.constant('leaderView' as const), term, body }),
  fc.record({
    type: fc.constant('stateHash' as const),
    index: u64,
    hashVersion: u32,
    hash: hex(16),
  }),
  fc.record({ type: fc.constant('reach' as const), term, body }),
  fc.record({ type: fc.constant('removed' as const) }),
  fc.record({
    type: fc.constant('snapshotPull' as const),
    checksum: hex(64),
    offset: u64,
    lengthBytes: u32,
  }),
  fc.record({
    type: fc.constant('snapshotChunk' as const),
    checksum: hex(64),
    offset: u64,
    bytes: body,
  }),
)

const batch = fc
  .record({ clusterId, frames: fc.array(frame, { maxLength: 12 }) })
  // fast-check makes objects without a prototype now and then; equality would see the difference.
  .map((made) => structuredClone(made))

/** Either a batch or a MalformedFrame; anything else fails the test. */
function tryDecode(bytes: Uint8Array): ReturnType<typeof decodeBatch> | null {
  try {
    return decodeBatch(bytes)
  } catch (error) {
    if (error instanceof MalformedFrame) return null
    throw error
  }
}

codec('a batch comes back as it was', () => {
  const seen = new Set<string>()
  fc.assert(
    fc.property(batch, ({ clusterId, frames }) => {
      const bytes = encodeBatch(clusterId, frames)
      const size = frames.reduce((sum, frame) => sum + frameBytes(frame), BATCH_HEADER_BYTES)
      assert.is(bytes.length, size)
      assert.equal(decodeBatch(bytes), { clusterId, frames })
      for (const frame of frames) {
        seen.add(frame.type === 'raft' ? frame.message.type : frame.type)
      }
    }),
    { numRuns: 500 },
  )
  assert.is(seen.size, 25, `every kind of frame was tried: ${[...seen]}`)
})

codec('a decoded batch stands at any offset of its buffer', () => {
  fc.assert(
    fc.property(batch, fc.nat(40), ({ clusterId, frames }, offset) => {
      const bytes = encodeBatch(clusterId, frames)
      const shifted = new Uint8Array(bytes.length + offset + 7).fill(255)
      shifted.set(bytes, offset)
      const view = shifted.subarray(offset, offset + bytes.length)
      assert.equal(decodeBatch(view), { clusterId, frames })
    }),
  )
})

codec('payloads are views of the input: a kept one must not be written to', () => {
  const payload = new Uint8Array([1, 2, 3])
  const bytes = encodeBatch(null, [{ type: 'founding', body: payload }])
  payload[0] = 9
  const [frame] = decodeBatch(bytes).frames
  assert.ok(frame?.type === 'founding')
  assert.equal(frame.body, new Uint8Array([1, 2, 3]), 'encoding copies')
  bytes[bytes.length - 1] = 7
  assert.equal(frame.body, new Uint8Array([1, 2, 7]), 'decoding does not')
})

codec('a clusterId between two others', () => {
  const [a, b] = ['ab'.repeat(16), `${'00'.repeat(15)}01`]
  for (const id of [a, b, null, a, a, b, null]) {
    assert.is(decodeBatch(encodeBatch(id, [])).clusterId, id)
  }
})

codec('random bytes', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), fc.boolean(), (bytes, hasVersion) => {
      if (hasVersion && bytes.length > 0) bytes[0] = 1
      tryDecode(bytes)
    }),
    { numRuns: 2000 },
  )
})

codec('mutated batches', () => {
  const change = fc.record({ at: fc.nat(), byte: fc.nat(255) })
  fc.assert(
    fc.property(
      batch,
      fc.array(change, { minLength: 1, maxLength: 4 }),
      fc.nat(),
      ({ clusterId, frames }, changes, cut) => {
        const bytes = encodeBatch(clusterId, frames)
        for (const { at, byte } of changes) bytes[at % bytes.length] = byte
        const decoded = tryDecode(bytes)
        // What is accepted is canonical: nothing hides in it that another reader would see differently.
        if (decoded !== null) {
          assert.equal(encodeBatch(decoded.clusterId, decoded.frames), bytes)
        }
        tryDecode(bytes.subarray(0, cut % bytes.length))
      },
    ),
    { numRuns: 2000 },
  )
})

codec('every truncation of a frame is malformed', () => {
  fc.assert(
    fc.property(clusterId, frame, (id, one) => {
      const bytes = encodeBatch(id, [one])
      for (let length = BATCH_HEADER_BYTES + 1; length < bytes.length; length++) {
        assert.is(tryDecode(bytes.subarray(0, length)), null)
      }
    }),
    { numRuns: 200 },
  )
})

function appendOf(entries: readonly Entry[], term = 5): Uint8Array {
  const message = {
    type: 'append',
    term,
    prevIndex: 10,
    prevTerm: 3,
    commit: 10,
    entries,
  } as const
  return encodeBatch('ab'.repeat(16), [{ type: 'raft', message }])
}

function entry(index: number, term: number): Entry {
  return { index, term, kind: 'command', payload: new Uint8Array([1]) }
}

codec('entries out of order are refused', () => {
  assert.ok(tryDecode(appendOf([entry(11, 3), entry(12, 5)])))
  for (const [what, entries] of [
    ['a gap before the first', [entry(12, 3)]],
    ['an entry at prevIndex', [entry(10, 3)]],
    ['a gap', [entry(11, 3), entry(13, 3)]],
    ['the same index twice', [entry(11, 3), entry(11, 3)]],
    ['a term before prevTerm', [entry(11, 2)]],
    ['a falling term', [entry(11, 4), entry(12, 3)]],
    ['a term after the leader’s', [entry(11, 6)]],
  ] as const) {
    assert.is(tryDecode(appendOf(entries)), null, what)
  }
})

codec('numbers that do not fit, choices that do not exist', () => {
  const bytes = encodeBatch(null, [{ type: 'raft', message: { type: 'timeoutNow', term: 1 } }])
  bytes[BATCH_HEADER_BYTES + 5] = 0x20
  assert.throws(() => decodeBatch(bytes), /larger than 2\^53/)
  const forward = encodeBatch(null, [
    { type: 'forward', requestId: 1, operation: 'command', body: new Uint8Array() },
  ])
  forward[forward.length - 1] = 3
  assert.throws(() => decodeBatch(forward), /out of range/)
  for (let type = 0; type < 256; type++) {
    const unknown = new Uint8Array(BATCH_HEADER_BYTES + 5)
    unknown[0] = 1
    unknown[BATCH_HEADER_BYTES] = type
    tryDecode(unknown)
  }
})

codec('another version says so', () => {
  const bytes = encodeBatch(null, [])
  bytes[0] = 2
  try {
    decodeBatch(bytes)
    assert.unreachable()
  } catch (error) {
    assert.instance(error, MalformedFrame)
    assert.is((error as MalformedFrame).reason, 'version')
  }
})

codec('announced counts and lengths allocate nothing', () => {
  const bytes = appendOf([entry(11, 3)])
  const view = new DataView(bytes.buffer)
  const countAt = BATCH_HEADER_BYTES + 5 + 32
  assert.is(view.getUint32(countAt), 1)
  view.setUint32(countAt, 0xffff_ffff)
  assert.throws(() => decodeBatch(bytes), /more entries announced than fit/)
  const long = encodeBatch(null, [{ type: 'ping', nonce: 1 }])
  new DataView(long.buffer).setUint32(BATCH_HEADER_BYTES + 1, 0xffff_ffff)
  assert.throws(() => decodeBatch(long), /longer than its batch/)
})

codec('a batch of countless empty frames is refused', () => {
  const empty = { type: 'hello', body: new Uint8Array() } as const
  assert.is(decodeBatch(encodeBatch(null, Array(FRAMES_MAX).fill(empty))).frames.length, FRAMES_MAX)
  const bytes = encodeBatch(null, Array(FRAMES_MAX + 1).fill(empty))
  assert.throws(() => decodeBatch(bytes), /too many frames/)
})

codec('a term that no election reaches is refused', () => {
  const heartbeat = (term: number): Uint8Array =>
    encodeBatch(null, [
      { type: 'raft', message: { type: 'heartbeat', term, commit: 0, readRound: 0 } },
    ])
  assert.ok(tryDecode(heartbeat(TERM_MAX)))
  assert.is(tryDecode(heartbeat(TERM_MAX + 1)), null)
  assert.is(tryDecode(heartbeat(Number.MAX_SAFE_INTEGER)), null)
})

codec(
  'a configuration entry that is none is refused, before the core would have to stop over it',
  () => {
    const configuration = (payload: Uint8Array): Entry => ({
      ...entry(11, 3),
      kind: 'configuration',
      payload,
    })
    assert.ok(tryDecode(appendOf([configuration(CONFIGURATION)])))
    assert.is(tryDecode(appendOf([configuration(new Uint8Array([123, 125]))])), null)
  },
)

codec.run()
