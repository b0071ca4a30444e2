/** The shell on a terminal: prompt, history, completion, Ctrl-C. */
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { complete } from '../../client/repl/completion.ts'
import { HISTORY_LINES_MAX, History } from '../../client/repl/history.ts'
import { eventually } from '../support/gateway-lab.ts'
import { closeShellLabs, FakeTerminal, openShellLab } from '../support/shell-lab.ts'

const CTRL_C = '\u0003'
const CTRL_D = '\u0004'
const TAB = '\t'
const UP = '\u001b[A'
const LEFT = '\u001b[D'

const terminal = suite('shell on a terminal')
terminal.after.each(closeShellLabs)

terminal('shows results, with the leader in the prompt, and leaves on Ctrl-D', async () => {
  const lab = await openShellLab()
  const screen = new FakeTerminal(lab)
  await screen.shows(/demo member 1@t3> $/)
  screen.types('PUT pizzatoppings pepperoni cheddar\r')
  await screen.shows(/Success! Set "pizzatoppings" to: "pepperoni cheddar"\n/)
  await screen.shows(/demo member 1@t3> $/)
  screen.types('get pizzatoppings\r')
  await screen.shows(/\npepperoni cheddar\n.*> $/)
  screen.types('get missing\r')
  await screen.shows(/not found: "missing"\n/)
  screen.types('list\r')
  await screen.shows(/KEY .* VALUE .* REVISION[\s\S]*pizzatoppings[\s\S]*> $/)
  screen.types(CTRL_D)
  assert.is(await screen.left(), 0)
})

terminal('a new leader changes the prompt and not the line being typed', async () => {
  const lab = await openShellLab()
  const screen = new FakeTerminal(lab)
  await screen.shows(/demo member 1@t3> $/)
  screen.types('put a oe')
  await screen.shows(/put a oe$/)
  screen.types(LEFT)
  lab.service.elect({ leaderId: 2, leaderUrl: null, term: 4 })
  await screen.shows(/demo (#2|member 2)@t4> put a oe/)
  screen.types('n')
  await screen.shows(/put a one/)
  screen.types('\r')
  await screen.shows(/Set "a" to: "one"/)
  lab.service.elect({ leaderId: null, leaderUrl: null, term: 5 })
  await screen.shows(/demo no leader@t5> /)
  screen.types('exit\r')
  assert.is(await screen.left(), 0)
})

terminal('Ctrl-C clears the line, and on an empty line leaves', async () => {
  const lab = await openShellLab()
  const screen = new FakeTerminal(lab)
  await screen.shows(/> $/)
  screen.types('put a 1')
  await screen.shows(/put a 1$/)
  screen.types(CTRL_C)
  await screen.shows(/\^C\n[\s\S]*> $/)
  screen.types('get a\r')
  await screen.shows(/not found: "a"\n[\s\S]*> $/)
  assert.is(screen.code, null)
  screen.types(CTRL_C)
  assert.is(await screen.left(), 0)
})

terminal('Ctrl-C cancels the command that runs, a second one leaves', async () => {
  const lab = await openShellLab()
  await lab.client.put('a', '0')
  const screen = new FakeTerminal(lab)
  await screen.shows(/> $/)
  lab.service.holding = true
  screen.types('put a 1\r')
  await eventually('the request', () => lab.service.held.length >= 1)
  screen.types(CTRL_C)
  await screen.shows(/cancelled\. It may have been applied[\s\S]*> $/)
  assert.is(screen.code, null)
  screen.types(CTRL_C)
  assert.is(await screen.left(), 0)
})

terminal('lines typed ahead are run in their order', async () => {
  const lab = await openShellLab()
  const screen = new FakeTerminal(lab)
  await screen.shows(/> $/)
  screen.types('put a 1\rput a 2\rget a\rexit\r')
  assert.is(await screen.left(), 0)
  assert.match(screen.text, /to: "1"\n[\s\S]*to: "2"\n2\n/)
})

terminal('what a value holds does not drive the terminal', async () => {
  const lab = await openShellLab()
  await lab.client.put('evil', '\u001b]0;title\u0007\u001b[2J')
  const screen = new FakeTerminal(lab)
  await screen.shows(/> $/)
  const before = screen.raw.length
  screen.types('get evil\rlist evil\r')
  await screen.shows(/REVISION[\s\S]*title[\s\S]*> $/)
  assert.not.match(screen.raw.slice(before), '\u001b]0;title')
  assert.not.match(screen.raw.slice(before), '\u001b[2J')
  screen.types('exit\r')
  await screen.left()
})

terminal('Tab completes commands and keys', async () => {
  const lab = await openShellLab()
  await lab.client.put('pizzatoppings', 'x')
  const screen = new FakeTerminal(lab)
  await screen.shows(/> $/)
  screen.types(`ge${TAB}`)
  await screen.shows(/get $/)
  screen.types(`piz${TAB}`)
  await screen.shows(/pizzatoppings/)
  screen.types('\r')
  await screen.shows(/\nx\n[\s\S]*> $/)
  screen.types('exit\r')
  await screen.left()
})

terminal('completion knows quotes, positions and its limits', async () => {
  const lab = await openShellLab()
  for (const key of ['ab', 'a b', 'a"c', 'b']) await lab.client.put(key, '1')
  await Promise.all(Array.from({ length: 30 }, (_, i) => lab.client.put(`k${10 + i}`, '1')))
  const kill = { help: '', run: async () => {}, complete: () => ['leader', 'n1', 'n2'] }
  const dotCommands = new Map([['.kill', kill]])
  const ask = (line: string) => complete(line, { client: lab.client, dotCommands })
  assert.equal((await ask('')).hits.includes('PUT '), true)
  assert.equal(await ask('le'), { hits: ['leader '], partial: 'le' })
  assert.equal(await ask('LE'), { hits: ['LEADER '], partial: 'LE' })
  assert.equal((await ask('.k')).hits, ['.kill '])
  assert.equal((await ask('.he')).hits, ['.help '])
  assert.equal(await ask('.kill n'), { hits: ['n1', 'n2'], partial: 'n' })
  assert.equal(await ask('get a'), { hits: ['ab'], partial: 'a' })
  assert.equal(await ask('get "a'), { hits: ['"a b"', '"a\\"c"', '"ab"'], partial: '"a' })
  assert.is((await ask('get k')).hits.length, 20)
  for (const line of ['put ab c', 'put "ab" ', 'status a', 'nonsense a', 'get "\\q']) {
    assert.equal((await ask(line)).hits, [], line)
  }
  lab.service.holding = true
  assert.equal((await ask('get a')).hits, [])
})

terminal('lines are kept for the next time, by their owner alone', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'rp2p-shell-'))
  const historyFile = join(folder, 'deeper', 'history')
  const lab = await openShellLab()
  const first = new FakeTerminal(lab, { historyFile })
  await first.shows(/> $/)
  first.types('put a 1\rput a 1\rget a\rexit\r')
  await first.left()
  assert.is(readFileSync(historyFile, 'utf8'), 'put a 1\nget a\nexit\n')
  assert.is(statSync(historyFile).mode & 0o777, 0o600)
  const second = new FakeTerminal(lab, { historyFile })
  await second.shows(/> $/)
  second.types(`${UP}${UP}`)
  await second.shows(/get a$/)
  second.types('\r')
  await second.shows(/\n1\n/)
  second.types('exit\r')
  await second.left()
  writeFileSync(historyFile, 'x\n'.repeat(3000))
  const history = new History(historyFile)
  history.add('newest')
  assert.is(history.newestFirst.length, HISTORY_LINES_MAX)
  assert.is(readFileSync(historyFile, 'utf8').split('\n').length, HISTORY_LINES_MAX + 1)
  new History(null).add('nowhere')
  new History(join(folder, 'deeper', 'history', 'impossible')).add('no failure')
  rmSync(folder, { recursive: true })
})

terminal('colours only where they are wanted', async () => {
  const lab = await openShellLab()
  const plain = new FakeTerminal(lab)
  await plain.shows(/member 1@t3> $/)
  plain.types('put a 1\rlist\rexit\r')
  await plain.left()
  const color = new RegExp(`${String.fromCharCode(27)}\\[[0-9;]*m`)
  assert.not.match(plain.raw, color)
  const coloured = new FakeTerminal(lab, { color: true })
  await coloured.shows(/member 1@t3> $/)
  coloured.types('exit\r')
  await coloured.left()
  assert.match(coloured.raw, color)
})

terminal.run()
