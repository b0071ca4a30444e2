// timeout: 180 s
/** A node that was away for longer than the others keep their logs fetches a snapshot, over real links, and stands on it after a restart. */
import { readdirSync } from 'node:fs'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import {
  agreed,
  cleanUp,
  eventually,
  get,
  leaderOf,
  NodeProcess,
  putUntilAcknowledged,
  QUICK_ELECTIONS,
  statusOf,
  temporaryDirectory,
} from './harness.ts'

const snapshots = suite('snapshots')
snapshots.after(cleanUp)

/** Large, so that a few of them are more than the tail of the log that stays for followers. */
const VALUE = 'v'.repeat(900_000)
const WRITES = 40

function started(data: string, root: string): NodeProcess {
  const args = ['--no-lan', ...QUICK_ELECTIONS, '--snapshot-entries', '10']
  return new NodeProcess({ data, args, env: { RAFT_P2P_DATA_ROOT: root } })
}

snapshots('whoever was away for long gets a snapshot, and keeps it', async () => {
  const root = temporaryDirectory()
  const folders = [temporaryDirectory(), temporaryDirectory(), temporaryDirectory()]
  const nodes = folders.map((data) => started(data, root))
  await agreed(nodes)
  const leader = await leaderOf(nodes)
  const at = nodes.findIndex((node) => node !== leader)
  const away = nodes[at] as NodeProcess
  const data = folders[at] as string
  await away.kill()
  const url = await leader.url()
  for (let i = 0; i < WRITES; i++) await putUntilAcknowledged(url, `key-${i}`, `${i} ${VALUE}`)
  const ahead = await eventually('the leader has let go of its log', async () => {
    const status = await statusOf(url)
    return status.firstIndex > 10 && status.snapshotIndex >= status.firstIndex - 1 && status
  })

  const back = started(data, root)
  const backUrl = await back.ready()
  const installed = await back.running.waitForEvent('snapshot.installed')
  assert.ok((installed.index as number) >= ahead.firstIndex - 1, 'it begins behind a snapshot')
  for (const i of [0, 1, WRITES - 1]) assert.is(await get(backUrl, `key-${i}`), `${i} ${VALUE}`)
  const files = readdirSync(`${data}/snapshots`)
  assert.is(files.filter((name) => name.endsWith('.snapshot')).length, 1, files.join())

  await back.kill()
  const again = started(data, root)
  const againUrl = await again.ready()
  for (const i of [0, 1, WRITES - 1]) assert.is(await get(againUrl, `key-${i}`), `${i} ${VALUE}`)
  const { snapshotIndex, snapshot } = await statusOf(againUrl)
  assert.ok(snapshotIndex >= (installed.index as number))
  assert.is(snapshot?.state, 'idle')
})

snapshots.run()
