/** Which nodes of this machine a command asks, and in which order. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { derive, findCluster } from '../../node/commands/find-cluster.ts'
import { newKeyPair } from '../../node/key-pair.ts'
import { takeDirectory, writeEndpoint } from '../../node/storage/directory.ts'
import { openIdentity } from '../../node/storage/identity.ts'
import { nodeDisk } from '../../node/storage/node-disk.ts'
import { randomTopic } from '../../node/topic.ts'
import { temporaryDirectory } from '../support/storage.ts'

const finding = suite('finding the cluster on this machine')

finding('members are asked before one that waits for admission, whatever its slot', async () => {
  const dataRoot = temporaryDirectory()
  const env = { RAFT_P2P_DATA_ROOT: dataRoot }
  const topic = randomTopic()
  const discoveryKey = Buffer.from((await derive(topic, env)).discoveryKey).toString('hex')
  const taken = []
  for (const memberId of [null, 2, null, 1]) {
    const directory = await takeDirectory(nodeDisk, { dataRoot, discoveryKey })
    taken.push(directory)
    const { path, slot } = directory
    const identity = openIdentity(nodeDisk, path, { makeKeyPair: newKeyPair })
    identity.update({ memberId })
    const { publicKey: nodeKey } = identity.record
    writeEndpoint(nodeDisk, path, { url: `ws://127.0.0.1:${7000 + (slot ?? 0)}`, nodeKey, pid: 1 })
  }
  const nothing = { connect: null, topicFile: null, data: null, token: null }
  const { urls } = await findCluster({ ...nothing, topic, env })
  assert.equal(
    urls.map((url) => new URL(url).port),
    ['7002', '7004', '7001', '7003'],
  )
  for (const { lock } of taken) await lock.release()
})

finding.run()
