/** Links and addresses of peers: what is remembered of whom, and that it ends somewhere. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { PeerBook } from '../../node/peer-book.ts'
import type { Member } from '../../node/raft/types.ts'
import type { Link } from '../../node/transport/transport.ts'

const book = suite('peer book')

function linkOf(linkId: number): Link {
  const nodeKey = linkId.toString(16).padStart(64, '0')
  const rest = { storageId: '0'.repeat(32), bootId: '0'.repeat(16), bootCounter: 1, name: 'n' }
  const hello = {
    nodeKey,
    ...rest,
    featureLevel: 1,
    clusterId: null,
    urls: [`ws://seen-${linkId}`],
  }
  return { linkId, hello, carrier: 'direct', rttMs: null } as Link
}

function memberOf(linkId: number): Member {
  const { nodeKey, storageId } = linkOf(linkId).hello
  return { memberId: 1, nodeKey, storageId, name: 'n', urls: ['ws://configured'] }
}

book('the addresses of the present are better than those of the configuration', () => {
  const peers = new PeerBook([])
  assert.equal(peers.urlsOf(memberOf(1)), ['ws://configured'])
  assert.is(peers.linkUp(linkOf(1)), true)
  assert.is(peers.linkUp(linkOf(1)), false, 'no news')
  assert.equal(peers.urlsOf(memberOf(1)), ['ws://seen-1'])
})

book('of very many strangers the oldest are forgotten, and nobody who is linked', () => {
  const peers = new PeerBook([])
  peers.linkUp(linkOf(1))
  for (let id = 2; id <= 1000; id++) {
    peers.linkUp(linkOf(id))
    peers.linkDown(linkOf(id))
  }
  const known = Array.from({ length: 1000 }, (_, at) => at + 1).filter(
    (id) => peers.urlsOf(memberOf(id))[0] === `ws://seen-${id}`,
  )
  assert.is(known.length, 256)
  assert.is(known[0], 1)
  assert.is(known.at(-1), 1000)
})

book.run()
