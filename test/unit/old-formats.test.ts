/**
 * What earlier versions have written (test/fixtures/v1, docs/upgrades.md) is read by this one, and whatever they could read this one
 * writes byte by byte as they did: a change of either would lock them out of the cluster or their users out of their data.
 */
import { cpSync, mkdirSync, readdirSync, readFileSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { ByteWriter } from '../../client/bytes.ts'
import * as protocol from '../../client/protocol.ts'
import { KvMachine } from '../../node/machine/kv.ts'
import { Random } from '../../node/raft/random.ts'
import { peerIdOf } from '../../node/raft/types.ts'
import { Replica } from '../../node/replica.ts'
import { openIdentity } from '../../node/storage/identity.ts'
import { nodeDisk } from '../../node/storage/node-disk.ts'
import { openWal } from '../../node/storage/wal.ts'
import { decodeBatch, encodeBatch, type WireFrame } from '../../node/transport/codec.ts'
import { decodeHello } from '../../node/transport/hello.ts'
import { close, temporaryDirectory } from '../support/storage.ts'

const FIXTURES = fileURLToPath(new URL('../fixtures/v1/', import.meta.url))
const old = suite('formats of version 1')

function fixture<T>(name: string): T {
  return JSON.parse(readFileSync(join(FIXTURES, name), 'utf8')) as T
}

function bytesOf(hex: string): Uint8Array {
  return new Uint8Array(Buffer.from(hex, 'hex'))
}

/** `{hex}` stands for bytes. */
function revived(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(revived)
  if (typeof value !== 'object' || value === null) return value
  const keys = Object.keys(value)
  if (keys.length === 1 && keys[0] === 'hex') return bytesOf((value as { hex: string }).hex)
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, revived(one)]))
}

/** A copy that may be written to, with the names of the time. */
function dataDirectory(): string {
  const directory = join(temporaryDirectory(), 'data')
  mkdirSync(directory)
  cpSync(join(FIXTURES, 'data'), directory, { recursive: true })
  const wal = join(directory, 'wal')
  for (const name of readdirSync(wal)) renameSync(join(wal, name), join(wal, name.slice(0, -4)))
  return directory
}

interface Data {
  readonly lastIndex: number
  readonly term: number
  readonly session: number
  readonly keys: number
  readonly stateHash: { readonly index: number; readonly hash: string }
  readonly [key: string]: unknown
}

old('a data directory: identity, log, and the state that follows from it', async () => {
  const directory = dataDirectory()
  const identity = openIdentity(nodeDisk, directory, {
    makeKeyPair: () => {
      throw new Error('there is an identity')
    },
  })
  const { record } = identity
  assert.equal([record.name, record.bootCounter, record.memberId], ['old node', 2, 1])
  assert.is(record.founding.bound?.how, 'founded')
  assert.is(record.founding.pledge?.clusterId, record.clusterId)
  const log = openWal({
    disk: nodeDisk,
    directory: join(directory, 'wal'),
    storageId: record.storageId,
  })
  const expected = fixture<Data>('data.json')
  const { hardState, entries, base } = log.recovered
  assert.equal(base, { term: 0, index: 0 })
  assert.is(entries.at(-1)?.index, expected.lastIndex)
  assert.is(hardState?.term, expected.term)

  const replica = new Replica({
    raft: {
      self: peerIdOf({ nodeKey: record.publicKey, storageId: record.storageId }),
      hardState,
      entries,
      snapshot: null,
      electionTicks: 10,
      heartbeatTicks: 1,
      tickMs: 10,
      random: new Random(1),
      window: { messagesMax: 8, bytesMax: 1 << 20 },
      appendBytesMax: 1 << 16,
      saveBytesMax: 1 << 20,
      uncommittedBytesMax: 1 << 20,
      applyCountMax: 64,
    },
    machine: new KvMachine(),
    autopilot: null,
    tickMs: 10,
    pendingRequestsMax: 100,
    pendingRequestBytesMax: 1 << 20,
    leaderViewTicks: 5,
    hashEveryEntries: 1,
    hashesKept: 16,
  })
  const values = new Map<string, string | null>()
  const wanted = ['key 0', 'key 5', 'key 6']
  for (const [i, key] of wanted.entries()) {
    const query = protocol.encodeKvQuery({ type: 'get', key: new TextEncoder().encode(key) })
    replica.request(i, { type: 'query', query, consistency: 'linearizable', timeoutMs: 10_000 })
  }
  for (let i = 0; i < 100; i++) {
    replica.tick()
    const { save, answers } = replica.drain()
    if (save !== null) {
      await new Promise<void>((resolve) => log.save(save, () => resolve()))
      replica.saved()
    }
    for (const { requestId, answer } of answers) {
      assert.ok(answer.ok)
      const got = protocol.decodeKvGot(answer.body)
      const value = got === null ? null : new TextDecoder().decode(got.value)
      values.set(wanted[requestId] as string, value)
    }
  }
  for (const key of wanted) {
    const value = expected[key] as string | null
    assert.is(values.get(key)?.slice(0, value?.length) ?? null, value, key)
  }
  // Equal hashes of equal states are what HASH_VERSION promises to the members of mixed versions.
  const { index, hash } = expected.stateHash
  assert.is(replica.stateHashes.find((noted) => noted.index === index)?.hash, hash)
  await close(log)
})

interface Frames {
  readonly clusterId: string
  readonly frames: readonly { readonly frame: unknown; readonly batch: string }[]
}

old('every frame between nodes', () => {
  const { clusterId, frames } = fixture<Frames>('frames.json')
  assert.ok(frames.length >= 24)
  for (const { frame, batch } of frames) {
    const bytes = bytesOf(batch)
    const decoded = decodeBatch(bytes)
    assert.is(decoded.clusterId, clusterId)
    const [found] = decoded.frames as [WireFrame]
    // What is new in a frame has a value that says what its absence said.
    assert.equal({ ...flat(found), ...flat(revived(frame)) }, flat(found))
    assert.equal(encodeBatch(clusterId, [found]), bytes, `${found.type} is written as it was`)
  }
})

function flat(frame: unknown): object {
  const { message, ...rest } = frame as { message?: object }
  return { ...rest, ...message }
}

old('the hello of a node that says nothing of feature levels', () => {
  const { frames } = fixture<Frames>('frames.json')
  const hellos = frames.flatMap(({ batch }) =>
    decodeBatch(bytesOf(batch)).frames.flatMap((frame) =>
      frame.type === 'hello' ? [decodeHello(frame.body, 'a'.repeat(64))] : [],
    ),
  )
  assert.is(hellos.length, 1)
  assert.is(hellos[0]?.featureLevel, 1)
  assert.is(hellos[0]?.name, 'old node')
})

interface ClientBytes {
  readonly codec: string
  readonly value: unknown
  readonly bytes: string
}

function written<T>(write: (writer: ByteWriter, one: T) => void): (list: T[]) => Uint8Array {
  return (list) => {
    const writer = new ByteWriter()
    for (const one of list) write(writer, one)
    return writer.finish()
  }
}

const CODECS: Readonly<
  Record<string, readonly [(bytes: Uint8Array) => unknown, (value: never) => Uint8Array]>
> = {
  KvOperation: [protocol.decodeKvOperation, protocol.encodeKvOperation],
  KvQuery: [protocol.decodeKvQuery, protocol.encodeKvQuery],
  Command: [protocol.decodeCommand, protocol.encodeCommand],
  Outcome: [protocol.decodeOutcome, protocol.encodeOutcome],
  KvResult: [protocol.decodeKvResult, protocol.encodeKvResult],
  KvGot: [protocol.decodeKvGot, protocol.encodeKvGot],
  KvList: [protocol.decodeKvList, protocol.encodeKvList],
  requests: [protocol.readRequests, written(protocol.writeRequest)],
  answers: [protocol.readAnswers, written(protocol.writeAnswer)],
}

old('the client protocol, in both directions', () => {
  const all = fixture<readonly ClientBytes[]>('client.json')
  assert.equal([...new Set(all.map(({ codec }) => codec))].sort(), Object.keys(CODECS).sort())
  for (const { codec, value, bytes } of all) {
    const [decode, encode] = CODECS[codec] as (typeof CODECS)[string]
    const meant = revived(value)
    assert.equal(encode(meant as never), bytesOf(bytes), `${codec} is written as it was`)
    const read = decode(bytesOf(bytes))
    // The answer to a get does not repeat the key.
    if (codec !== 'KvGot' || meant === null) assert.equal(read, meant)
  }
})

old.run()
