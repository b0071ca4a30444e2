/** One event, one line, in both formats; nothing a peer says can forge a line or break the log. */
import { test } from 'uvu'
import * as assert from 'uvu/assert'
import type { LogFormat, LogLevel } from '../../node/config.ts'
import { createLog, type Log } from '../../node/log.ts'

function recorded(format: LogFormat, level: LogLevel = 'info', color = false): [Log, string[]] {
  const lines: string[] = []
  const log = createLog({
    format,
    level,
    color,
    write: (line) => lines.push(line),
    now: () => Date.UTC(2026, 10, 20, 14, 3, 22, 45),
  })
  return [log, lines]
}

test('json: one object a line with the common fields first', () => {
  const [log, lines] = recorded('json')
  log('info', 'cluster.waiting', { have: 2, need: 3 })
  log.identify(() => ({ node: 'n1', clusterId: 'ab', term: 4 }))
  log('warn', 'alarm.raised', {
    kind: 'clone',
    error: new Error('twice'),
    key: new Uint8Array([1]),
  })
  assert.is(lines.length, 2)
  assert.is(
    lines[0],
    '{"time":"2026-11-20T14:03:22.045Z","level":"info","event":"cluster.waiting",' +
      '"node":"-","clusterId":null,"term":0,"have":2,"need":3}\n',
  )
  assert.equal(JSON.parse(lines[1] as string), {
    time: '2026-11-20T14:03:22.045Z',
    level: 'warn',
    event: 'alarm.raised',
    node: 'n1',
    clusterId: 'ab',
    term: 4,
    kind: 'clone',
    error: 'twice',
    key: '01',
  })
})

test('the fields of an event cannot overwrite the common ones', () => {
  const [log, lines] = recorded('json')
  log('info', 'link.up', { event: 'forged', node: 'forged', peer: 'n2' })
  const line = JSON.parse(lines[0] as string)
  assert.is(line.event, 'link.up')
  assert.is(line.node, '-')
  assert.is(line.peer, 'n2')
})

test('levels below the wanted one are not written', () => {
  const [log, lines] = recorded('json', 'warn')
  for (const level of ['debug', 'info', 'warn', 'error'] as const) log(level, 'role.changed')
  assert.equal(
    lines.map((line) => JSON.parse(line).level),
    ['warn', 'error'],
  )
  assert.is(log.enabled('info'), false)
  assert.is(log.enabled('error'), true)
})

test('pretty: time, node, event, term and fields on one line, without colour', () => {
  const [log, lines] = recorded('pretty')
  log.identify(() => ({ node: 'n1', clusterId: 'ab', term: 4 }))
  log('info', 'leader.changed', { leaderId: 2, why: 'a b', nothing: undefined })
  assert.is(lines[0], '14:03:22.045 n1 leader.changed     term=4 leaderId=2 why="a b"\n')
  // As in JSON: one of a name.
  log('info', 'vote.granted', { term: 4, candidate: 3 })
  assert.is(lines[1], '14:03:22.045 n1 vote.granted       term=4 candidate=3\n')
})

test('pretty: coloured by event', () => {
  const [log, lines] = recorded('pretty', 'info', true)
  log('info', 'leader.changed')
  log('info', 'alarm.raised')
  assert.match(lines[0] as string, '\u001b[32mleader.changed')
  assert.match(lines[1] as string, '\u001b[31malarm.raised')
})

test('text from a peer stays on its line and cannot drive the terminal', () => {
  const hostile = 'n9\n14:00 n1 leader.changed\u001b[2J\u009b31m\u2028'
  for (const format of ['pretty', 'json'] as const) {
    const [log, lines] = recorded(format)
    log('info', 'link.up', { peer: hostile, list: [hostile] })
    assert.is(lines.length, 1)
    assert.match(lines[0] as string, /^[\u0020-\u007e]*\n$/)
  }
})

test('a field that cannot be printed does not end the node', () => {
  const loop: Record<string, unknown> = {}
  loop.self = loop
  for (const format of ['pretty', 'json'] as const) {
    const [log, lines] = recorded(format)
    log('info', 'link.up', { loop, big: 10n })
    assert.is(lines.length, 1)
    assert.match(lines[0] as string, 'not printable')
  }
})

test.run()
