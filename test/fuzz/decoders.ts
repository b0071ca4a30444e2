/**
 * Every decoder of the product in one table, and the exports that look like one and are none. `complete.test.ts` fails for an export
 * that stands in neither.
 */

import { ADMIN_DECODERS } from './decoders-admin.ts'
import { ANSWER_DECODERS } from './decoders-answers.ts'
import { CLIENT_DECODERS } from './decoders-client.ts'
import { DISCOVERY_DECODERS } from './decoders-discovery.ts'
import { DISK_DECODERS } from './decoders-disk.ts'
import { GATEWAY_DECODERS } from './decoders-gateway.ts'
import { OPTION_DECODERS } from './decoders-options.ts'
import { PEER_DECODERS } from './decoders-peer.ts'
import { SNAPSHOT_DECODERS } from './decoders-snapshots.ts'
import { STATE_DECODERS } from './decoders-state.ts'
import type { AnyRow } from './rows.ts'

export const DECODERS: readonly AnyRow[] = [
  ...CLIENT_DECODERS,
  ...ANSWER_DECODERS,
  ...PEER_DECODERS,
  ...DISK_DECODERS,
  ...SNAPSHOT_DECODERS,
  ...DISCOVERY_DECODERS,
  ...OPTION_DECODERS,
  ...ADMIN_DECODERS,
  ...GATEWAY_DECODERS,
  ...STATE_DECODERS,
]

/** Why an export with the name of a decoder, or a file that reads JSON or text, needs no row. */
export const EXEMPT: Readonly<Record<string, string>> = {
  // Other tests of this folder.
  'node/storage/recovery.ts#recoverLog': 'whole directories: log-directory.test.ts',
  'client/repl/batch.ts': 'a stream of chunks: line-stream.test.ts',
  // They look something up, or ask the system; nothing is decoded.
  'discovery/addresses.ts#isLoopback': 'compares one text with a pattern',
  'discovery/addresses.ts#isWildcard': 'compares one text with three others',
  'node/founding/rules.ts#isDead': 'a rule over records that were read before',
  'node/gateway/access.ts#isLoopbackAddress': 'compares one text with a pattern',
  'node/gateway/access.ts#isLoopbackHost': 'compares one text with a pattern',
  'node/member-verbs.ts': 'reads what the replica of the same process has written',
  'node/raft/voting.ts#isVoter': 'a question to a configuration that was read before',
  'node/founding/record.ts#isSameMessage': 'compares two messages that were read before',
  'node/reseed.ts#readState': 'puts together what the log and the snapshots have read',
  'node/reseed-directory.ts#isReseedOpen':
    'asks the disk for names, and compares two identities that were read',
  'node/commands/snapshot-save.ts': 'an error answer of a node, shown as it is',
  'node/commands/status.ts#isWaiting': 'a question to a status that was read before',
  'node/raft/change.ts#isJoint': 'a rule over a configuration that was read before',
  'node/raft/configuration.ts#findMember': 'looks up a member of a record that was read before',
  'node/storage/lock.ts#isLocked': 'asks the system for a socket',
  'node/commands/find-cluster.ts#findCluster': 'asks other processes; what they answer has rows',
  'node/commands/with-client.ts#readOptionsOf': 'one flag that commander has read',
  // They read what this very program wrote, or write text for people.
  'client/client.ts':
    'wraps the decoders of client/protocol.ts and JSON.parse, both with a typed error',
  'discovery/dht.ts': "takes this node's own addresses apart, after URL.canParse",
  'node/applied-state.ts': 'adds up two hashes of its own',
  'node/node.ts': "reads the port out of this node's own address",
  'node/storage/snapshot-read.ts#readSnapshot':
    'files: contract tests; their bytes have the row of SnapshotReading',
  'node/storage/hex.ts': 'takes 32 hex digits of an id that was checked before, asserted',
  'node/gateway/kv.ts': 'writes bytes as text where they are text, else as base64',
  'node/commands/items.ts': 'writes bytes as text where they are text',
  'node/commands/join.ts': 'the text of a file, which gatherOptions reads',
  'node/commands/lifeline.ts': 'process ids that the demo wrote itself; anything else is left out',
  'node/commands/demo-cluster.ts': 'log lines of processes that the demo started itself',
}
