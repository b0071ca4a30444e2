/** The gateway's own session: writes without one are exactly once, and every doubt is told. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import {
  type Command,
  decodeCommand,
  decodeKvResult,
  encodeKvOperation,
} from '../../client/protocol.ts'
import { SessionWriter, type WriteAnswer } from '../../node/gateway/session.ts'
import { Sessions } from '../../node/sessions.ts'
import { bytes, eventually } from '../support/gateway-lab.ts'
import { LocalService } from '../support/local-service.ts'

const session = suite('session writer')

interface Bench {
  readonly service: LocalService
  readonly writer: SessionWriter
  readonly clock: { nowMs: number }
}

function bench(options: Partial<ConstructorParameters<typeof SessionWriter>[1]> = {}): Bench {
  const service = new LocalService()
  const clock = { nowMs: 0 }
  const writer = new SessionWriter(service, {
    pendingMax: 1000,
    openTimeoutMs: 1000,
    now: () => clock.nowMs,
    ...options,
  })
  return { service, writer, clock }
}

function put(key: string, value = 'x'): Uint8Array {
  const condition = { type: 'none' } as const
  return encodeKvOperation({ type: 'put', key: bytes(key), value: bytes(value), condition })
}

function write({ writer }: Bench, operation: Uint8Array, timeoutMs = 5000): Promise<WriteAnswer> {
  return new Promise((resolve) => {
    writer.write({ operation, timeoutMs }, resolve)
  })
}

function commands({ service }: Bench): Command[] {
  return service.seen.flatMap((one) => (one.type === 'command' ? [decodeCommand(one.command)] : []))
}

function kinds(one: Bench): string[] {
  return commands(one).map(({ kind, sequence }) =>
    kind === 'operation' ? `${sequence}` : kind.replace('Session', ''),
  )
}

function codeOf(answer: WriteAnswer): string {
  return answer.ok ? 'ok' : `${answer.error.code}${answer.error.maybeApplied ? ' maybe' : ''}`
}

session('is opened by the first write and shared by all', async () => {
  const one = bench()
  const answers = await Promise.all([write(one, put('a')), write(one, put('b'))])
  assert.equal(answers.map(codeOf), ['ok', 'ok'])
  await write(one, put('c'))
  assert.equal(kinds(one), ['open', '1', '2', '3'])
  const [first] = answers
  if (first?.ok !== true) throw new Error('no answer')
  assert.is(decodeKvResult(first.body).revision, first.index)
})

session('says which answers it has, so that their replies can be forgotten', async () => {
  const one = bench()
  await write(one, put('a'))
  one.service.holding = true
  const pending = [write(one, put('b')), write(one, put('c'))]
  one.service.release()
  await Promise.all(pending)
  await write(one, put('d'))
  const floors = commands(one).map(({ firstOutstanding }) => firstOutstanding)
  assert.equal(floors, [0, 1, 2, 2, 4])
})

session('a write that was given up is refused by the cluster from then on', async () => {
  const one = bench()
  await write(one, put('a'))
  one.service.holding = true
  const giveUp = one.writer.write({ operation: put('b'), timeoutMs: 5000 }, () => {
    throw new Error('an answer after it was given up')
  })
  giveUp()
  giveUp()
  assert.is(one.service.cancelled, 1)
  one.service.release()
  await write(one, put('c'))
  assert.is(commands(one).at(-1)?.firstOutstanding, 3)
})

session('an expired session leaves a doubt, and the next write opens another', async () => {
  const one = bench()
  await write(one, put('a'))
  one.service.sessions = new Sessions()
  assert.is(codeOf(await write(one, put('b'))), 'session-expired maybe')
  assert.is(codeOf(await write(one, put('c'))), 'ok')
  assert.equal(kinds(one), ['open', '1', '2', 'open', '1'])
})

session('an idle one is not trusted any more', async () => {
  const one = bench({ idleMsMax: 60_000 })
  await write(one, put('a'))
  one.clock.nowMs += 59_000
  await write(one, put('b'))
  one.clock.nowMs += 61_000
  await write(one, put('c'))
  assert.equal(kinds(one).sort(), ['open', '1', '2', 'close', 'open', '1'].sort())
  await eventually('one session', () => one.service.sessions.count === 1)
})

session('a full window opens another, and the old one is closed when it has drained', async () => {
  const one = bench({ windowMax: 3 })
  await write(one, put('a'))
  one.service.holding = true
  const early = [write(one, put('b')), write(one, put('c')), write(one, put('d'))]
  const late = [write(one, put('e')), write(one, put('f'))]
  one.service.release()
  const answers = await Promise.all([...early, ...late])
  assert.ok(answers.every((answer) => answer.ok))
  await eventually('the close', () => kinds(one).includes('close'))
  assert.equal(kinds(one).sort(), ['open', '1', '2', '3', '4', 'open', '1', '2', 'close'].sort())
  assert.is(one.service.sessions.count, 1)
})

session('many writes at once each take effect once', async () => {
  const one = bench({ windowMax: 16 })
  const answers = await Promise.all(
    Array.from({ length: 300 }, (_, i) => write(one, put(`k${i}`, `${i}`))),
  )
  assert.is(answers.filter((answer) => answer.ok).length, 300)
  assert.is(one.service.machine.size, 300)
})

session('without a leader nothing was written, and that is certain', async () => {
  const one = bench()
  one.service.failure = {
    code: 'no-leader',
    message: 'why',
    retriable: true,
    maybeApplied: true,
  }
  assert.is(codeOf(await write(one, put('a'))), 'no-leader')
  one.service.failure = null
  assert.is(codeOf(await write(one, put('a'))), 'ok')
})

session('a write whose session is not opened in time was never sent', async () => {
  const one = bench()
  one.service.holding = true
  assert.is(codeOf(await write(one, put('a'), 20)), 'no-leader')
  one.service.release()
  await eventually('the session', () => one.service.sessions.count === 1)
  assert.equal(kinds(one), ['open'])
})

session('opening that timed out is tried again for those that still wait', async () => {
  const one = bench()
  one.service.failure = { code: 'timeout', message: 'why', retriable: true, maybeApplied: true }
  const answer = write(one, put('a'))
  await eventually('an attempt', () => one.service.seen.length > 0)
  one.service.failure = null
  assert.is(codeOf(await answer), 'ok')
})

session('a doubt of the service is handed on', async () => {
  const one = bench()
  await write(one, put('a'))
  one.service.failure = { code: 'timeout', message: 'why', retriable: true, maybeApplied: true }
  assert.is(codeOf(await write(one, put('b'))), 'timeout maybe')
})

session('too many writes without an answer are refused', async () => {
  const one = bench({ pendingMax: 2 })
  one.service.holding = true
  const pending = [write(one, put('a')), write(one, put('b'))]
  assert.is(codeOf(await write(one, put('c'))), 'overloaded')
  one.service.release()
  assert.equal((await Promise.all(pending)).map(codeOf), ['ok', 'ok'])
})

session('closing refuses what was not sent and closes the session', async () => {
  const one = bench()
  await write(one, put('a'))
  one.writer.close()
  one.writer.close()
  assert.is(codeOf(await write(one, put('b'))), 'closing')
  await eventually('the close', () => one.service.sessions.count === 0)
  const other = bench()
  other.service.holding = true
  const waiting = write(other, put('a'))
  other.writer.close()
  assert.is(codeOf(await waiting), 'closing')
  assert.is(other.service.cancelled, 1)
})

session.run()
