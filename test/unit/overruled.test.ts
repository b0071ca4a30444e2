/** A flag that the cluster's settings overrule is named in the log: at a restart, and by a node that has just joined or founded. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { createLog } from '../../node/log.ts'
import { createNode, type RunningNode } from '../../node/node.ts'
import { until, within } from '../support/stand-in-cluster.ts'
import { temporaryDirectory } from '../support/storage.ts'

const overruled = suite('overruled flags')

function starting(data: string, maxVoters: number, lines: string[]): Promise<RunningNode> {
  return createNode(
    {
      topic: 'flags that are overruled',
      data,
      expect: 1,
      maxVoters,
      explicit: new Set(['max-voters']),
      listen: { host: '127.0.0.1', port: 0 },
      dht: 'off',
      lan: false,
      local: false,
    },
    { log: createLog({ format: 'json', level: 'info', write: (line) => lines.push(line) }) },
  )
}

function warnings(lines: readonly string[]): string[] {
  return lines.flatMap((line) => {
    const { event, text } = JSON.parse(line) as { event: string; text?: string }
    return event === 'config.overruled' ? [text ?? ''] : []
  })
}

overruled('a restart with another flag than the cluster has is warned once', async () => {
  const data = temporaryDirectory()
  const lines: string[] = []
  const first = await starting(data, 5, lines)
  await within(
    until(() => first.status().role === 'leader', 'a leader'),
    20_000,
  )
  await first.stop()
  assert.equal(warnings(lines), [])
  lines.length = 0
  const second = await starting(data, 7, lines)
  try {
    await until(() => second.status().role === 'leader', 'a leader again')
    await until(() => warnings(lines).length > 0, 'the warning')
    assert.equal(warnings(lines).length, 1)
    assert.match(warnings(lines)[0] ?? '', /--max-voters 7 is ignored: the cluster has it at 5/)
  } finally {
    await second.stop()
  }
})

overruled.run()
