/** The identity file: made once, counted at each boot, replaced as a whole, and refused when anything about it is wrong. */
import fs from 'node:fs'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import type { Disk } from '../../node/storage/disk.ts'
import { openIdentity, readIdentity } from '../../node/storage/identity.ts'
import { nodeDisk } from '../../node/storage/node-disk.ts'
import { StorageError } from '../../node/storage/storage.ts'
import { refusal, temporaryDirectory } from '../support/storage.ts'

const identity = suite('identity')
let keys = 0

function makeKeyPair() {
  const publicKey = new Uint8Array(32).fill(++keys)
  const secretKey = new Uint8Array(64).fill(200)
  secretKey.set(publicKey, 32)
  return { publicKey, secretKey }
}

function member(memberId: number) {
  const nodeKey = 'e'.repeat(64)
  return { memberId, nodeKey, storageId: 'f'.repeat(32), name: 'n', urls: ['ws://h:1'] }
}

identity('is made when absent, and each later opening raises the boot counter', () => {
  const directory = `${temporaryDirectory()}/new`
  assert.is(readIdentity(nodeDisk, directory), null)
  const first = openIdentity(nodeDisk, directory, { makeKeyPair })
  const made = first.record
  assert.is(made.bootCounter, 1)
  assert.is(made.publicKey.length, 64)
  assert.match(made.storageId, /^[0-9a-f]{32}$/)
  assert.is(made.name, `n-${made.publicKey.slice(0, 6)}`)
  assert.equal(made.founding, { seq: 0, floor: 0, pledge: null, bound: null })
  assert.is(fs.statSync(`${directory}/identity.json`).mode & 0o777, 0o600)
  const second = openIdentity(nodeDisk, directory, { makeKeyPair, name: 'alpha' })
  assert.equal(second.record, { ...made, bootCounter: 2, name: 'alpha' })
  assert.equal(openIdentity(nodeDisk, directory, { makeKeyPair }).record.name, 'alpha')
  assert.is(readIdentity(nodeDisk, directory)?.bootCounter, 3)
  assert.equal(fs.readdirSync(directory), ['identity.json'])
})

identity('keeps what it is told', () => {
  const directory = temporaryDirectory()
  const storageId = 'ab'.repeat(16)
  const opened = openIdentity(nodeDisk, directory, {
    makeKeyPair,
    makeStorageId: () => new Uint8Array(16).fill(0xab),
  })
  assert.is(opened.record.storageId, storageId)
  const founding = { seq: 4, floor: 2, pledge: null, bound: null }
  opened.update({ founding, members: [member(1), member(2)] })
  opened.update({ clusterId: 'c'.repeat(32), memberId: 2 })
  const found = readIdentity(nodeDisk, directory)
  assert.equal(found, opened.record)
  assert.equal(found?.founding, founding)
  assert.equal([found?.members.length, found?.memberId], [2, 2])
})

identity('a write that fails changes nothing, on disk or in memory', () => {
  const directory = temporaryDirectory()
  let broken = false
  const disk: Disk = {
    ...nodeDisk,
    replace(path, bytes) {
      if (!broken) return nodeDisk.replace(path, bytes)
      // As a crash before the rename would leave it.
      fs.writeFileSync(`${path}.tmp`, bytes.subarray(0, 20))
      throw new StorageError('disk-full', 'injected')
    },
  }
  const opened = openIdentity(disk, directory, { makeKeyPair })
  const before = opened.record
  broken = true
  assert.is(refusal(() => opened.update({ name: 'beta' })).code, 'disk-full')
  assert.is(refusal(() => openIdentity(disk, directory, { makeKeyPair })).code, 'disk-full')
  assert.equal(opened.record, before)
  assert.equal(readIdentity(nodeDisk, directory), before)
  assert.is(openIdentity(nodeDisk, directory, { makeKeyPair }).record.bootCounter, 2)
})

identity('what could not be read back is a bug, and is not written', () => {
  const directory = temporaryDirectory()
  const opened = openIdentity(nodeDisk, directory, { makeKeyPair })
  const before = fs.readFileSync(`${directory}/identity.json`, 'utf8')
  assert.throws(() => opened.update({ clusterId: 'short' }), /bug/)
  assert.throws(() => opened.update({ name: '' }), /bug/)
  assert.throws(
    () => openIdentity(nodeDisk, directory, { makeKeyPair, name: 'x'.repeat(65) }),
    /bug/,
  )
  assert.is(fs.readFileSync(`${directory}/identity.json`, 'utf8'), before)
})

identity('any flipped bit, cut or foreign text is refused and left as it is', () => {
  const directory = temporaryDirectory()
  const path = `${directory}/identity.json`
  const opened = openIdentity(nodeDisk, directory, { makeKeyPair })
  opened.update({ members: [member(3)], clusterId: 'd'.repeat(32), memberId: 1 })
  const whole = fs.readFileSync(path)
  const refused = (bytes: Uint8Array) => {
    fs.writeFileSync(path, bytes)
    const error = refusal(() => openIdentity(nodeDisk, directory, { makeKeyPair }))
    assert.is(error.code, 'storage-lost')
    assert.is(error.path, path)
    assert.ok(fs.readFileSync(path).equals(bytes))
  }
  let harmless = 0
  for (let bit = 0; bit < whole.length * 8; bit++) {
    const bytes = Buffer.from(whole)
    bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7))
    // White space between the values carries nothing.
    if (bytes.toString().replace(/\s/g, '') === whole.toString().replace(/\s/g, '')) harmless++
    else if (isSameJson(bytes, whole)) harmless++
    else refused(bytes)
  }
  assert.ok(harmless < 100, `${harmless} flips make no difference`)
  for (const text of ['', '{}', 'null', '[]', '{"format":2}', whole.subarray(0, 200).toString()]) {
    refused(Buffer.from(text))
  }
})

function isSameJson(a: Uint8Array, b: Uint8Array): boolean {
  try {
    return JSON.stringify(JSON.parse(a.toString())) === JSON.stringify(JSON.parse(b.toString()))
  } catch {
    return false
  }
}

identity('is not made anew beside a log', () => {
  const directory = temporaryDirectory()
  fs.mkdirSync(`${directory}/wal`)
  fs.writeFileSync(`${directory}/wal/0000000001.wal`, 'log')
  const error = refusal(() => openIdentity(nodeDisk, directory, { makeKeyPair }))
  assert.is(error.code, 'storage-lost')
  assert.equal(fs.readdirSync(directory), ['wal'])
})

identity.run()
