/** What a node remembers of the members: on a machine with many addresses too. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { newKeyPair } from '../../node/key-pair.ts'
import { MemberMemory } from '../../node/member-memory.ts'
import { PeerBook } from '../../node/peer-book.ts'
import type { ConfigurationRecord } from '../../node/raft/types.ts'
import { openIdentity, readIdentity } from '../../node/storage/identity.ts'
import { nodeDisk } from '../../node/storage/node-disk.ts'
import type { Transport } from '../../node/transport/transport.ts'
import { temporaryDirectory } from '../support/storage.ts'

const memory = suite('member memory')

memory('a node with more addresses than anybody keeps remembers the members and itself', () => {
  const directory = temporaryDirectory()
  const identity = openIdentity(nodeDisk, directory, { makeKeyPair: newKeyPair })
  const { publicKey: nodeKey, storageId } = identity.record
  const self = { nodeKey, storageId }
  // A machine with a bridge for each of many networks of containers has such a list.
  const urls = Array.from({ length: 40 }, (_, i) => `ws://10.0.${i}.1:7700`)
  const failures: string[] = []
  const remembering = new MemberMemory({
    self,
    identity,
    transport: { keep: () => {} } as unknown as Transport,
    peers: new PeerBook([]),
    urls: () => urls,
    failed: (reason) => failures.push(reason),
  })
  const other = {
    nodeKey: 'e'.repeat(64),
    storageId: 'f'.repeat(32),
    name: 'n',
    urls: ['ws://h:1'],
  }
  const record: ConfigurationRecord = {
    clusterId: 'c'.repeat(32),
    foundingSet: [],
    configuration: {
      members: [
        { memberId: 1, ...self, name: 'me', urls: urls.slice(0, 4) },
        { memberId: 2, ...other },
      ],
      voters: [1, 2],
      votersOutgoing: [],
      learners: [],
      nextMemberId: 3,
    },
    settings: {},
  }
  remembering.remember(record)
  assert.equal(failures, [])
  const found = readIdentity(nodeDisk, directory)
  assert.is(found?.memberId, 1)
  assert.equal(
    found?.members.map((member) => member.urls),
    [urls.slice(0, 16), ['ws://h:1']],
  )
})

memory.run()
