/** The shell without a terminal: commands from stdin, results, and exit codes. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { eventually } from '../support/gateway-lab.ts'
import { batch, closeShellLabs, openShellLab } from '../support/shell-lab.ts'

const shell = suite('shell without a terminal')
shell.after.each(closeShellLabs)

shell('puts, gets, lists and deletes, in any case', async () => {
  const lab = await openShellLab()
  const { code, out, err } = await batch(
    lab,
    [
      'PUT pizzatoppings pepperoni cheddar',
      'get pizzatoppings',
      'Put "a key"   two  spaces ',
      'GET "a key"',
      '# a remark',
      '',
      'list',
      'LIST pizza LIMIT 1',
      'del "a key"',
      'del "a key"',
      'get pizzatoppings',
    ].join('\n'),
  )
  assert.equal(out.split('\n'), [
    'Success! Set "pizzatoppings" to: "pepperoni cheddar"',
    'pepperoni cheddar',
    'Success! Set "a key" to: "two  spaces "',
    'two  spaces ',
    'a key\ttwo  spaces ',
    'pizzatoppings\tpepperoni cheddar',
    'pizzatoppings\tpepperoni cheddar',
    'Success! Deleted "a key"',
    'There was no "a key"',
    'pepperoni cheddar',
    '',
  ])
  assert.equal([code, err], [0, ''])
})

shell("the exit code is the first failed command's, and all are run", async () => {
  const lab = await openShellLab()
  const { code, out, err } = await batch(lab, 'get missing\nnonsense\nput a 1\nget a\n')
  assert.is(code, 3)
  assert.is(out, 'Success! Set "a" to: "1"\n1\n')
  assert.match(err, /^not found: "missing"\nthere is no command nonsense\n {2}HELP/)
})

shell('compare and set, in its three forms', async () => {
  const lab = await openShellLab()
  const first = await batch(
    lab,
    'cas --absent a one\ncas a one two  words\ncas "a" "two  words" 3\nget a\n',
  )
  assert.equal([first.code, first.out.split('\n').at(-2)], [0, '3'])
  const failed = await batch(lab, 'cas a wrong 4\nget a\n')
  assert.equal([failed.code, failed.out], [3, '3\n'])
  assert.match(failed.err, /nothing was written: "a" holds something else \(revision \d+\)/)
  assert.is((await batch(lab, 'cas --absent a 4\n')).code, 3)
  assert.match((await batch(lab, 'cas b x y\n')).err, /"b" is absent/)
  const item = await lab.client.getItem('a')
  assert.is((await batch(lab, `cas --revision ${item?.revision} a 5\n`)).code, 0)
  assert.is(await lab.client.get('a'), '5')
})

shell('what cannot be meant is a usage error with the usage', async () => {
  const lab = await openShellLab()
  for (const line of [
    'put',
    'put a',
    'get',
    'get a b',
    'get ""',
    'del',
    'list a b',
    'list limit',
    'list limit 0',
    'list limit x',
    'cas a b',
    'cas --revision x a b',
    'status now',
    'get "a',
    '.nonsense',
  ]) {
    const { code, out, err } = await batch(lab, `${line}\n`)
    assert.equal([code, out], [2, ''], line)
    assert.ok(err.split('\n').length >= 2, `${line}: ${err}`)
  }
  const { err } = await batch(lab, 'put a\n')
  assert.match(err, /^PUT needs a key and a value\n {2}Usage: PUT key value\.\.\.\n$/)
})

shell('errors of the cluster have their exit codes and say what to try', async () => {
  const lab = await openShellLab(300)
  const failure = { message: 'why', retriable: false, maybeApplied: false }
  for (const [code, exitCode] of [
    ['unauthorised', 5],
    ['quota', 1],
    ['not-founded', 4],
  ] as const) {
    lab.service.failure = { ...failure, code, retriable: false }
    const one = await batch(lab, 'get a\n')
    assert.is(one.code, exitCode, code)
    assert.match(one.err, /why\n {2}\S/)
  }
})

shell('leaving early, and input that ends without a newline', async () => {
  const lab = await openShellLab()
  const { code, out } = await batch(lab, 'put a 1\nEXIT\nput a 2\n')
  assert.equal([code, out], [0, 'Success! Set "a" to: "1"\n'])
  assert.is((await batch(lab, 'quit')).code, 0)
  assert.is((await batch(lab, ['ge', 't a'])).out, '1\n')
})

shell('any bytes of a value come out as they are', async () => {
  const lab = await openShellLab()
  const value = new Uint8Array([0, 255, 27, 10, 13])
  await lab.client.put('raw', value)
  const got = await batch(lab, 'get raw\n')
  assert.equal(new Uint8Array(got.bytes), new Uint8Array([...value, 10]))
  await lab.client.put(new Uint8Array([0xff, 1]), 'x')
  assert.is((await batch(lab, 'get "\\xff\\x01"\n')).out, 'x\n')
})

shell('a long list comes page by page', async () => {
  const lab = await openShellLab()
  await Promise.all(
    Array.from({ length: 2500 }, (_, i) => lab.client.put(`k${10_000 + i}`, `${i}`)),
  )
  const { out } = await batch(lab, 'list k\n')
  const lines = out.trimEnd().split('\n')
  assert.equal([lines.length, lines[0], lines[2499]], [2500, 'k10000\t0', 'k12499\t2499'])
  assert.is((await batch(lab, 'list k limit 1500\n')).out.trimEnd().split('\n').length, 1500)
})

shell('as JSON, one value for each command', async () => {
  const lab = await openShellLab()
  await lab.client.put(new Uint8Array([255]), new Uint8Array([254]))
  const { code, out, err } = await batch(
    lab,
    'put a 1\nget a\nlist\nget missing\ncas a 9 2\ndel a\nleader\nmembers\nstatus\nhelp\n',
    { json: true },
  )
  const values = out
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
  assert.equal([code, err, values.length], [3, '', 10])
  const revision = values[0].revision
  assert.equal(values[0], { key: 'a', revision })
  assert.equal(values[1], { key: 'a', value: '1', revision })
  assert.equal(values[2].items[1].keyBase64, '/w==')
  assert.is(values[2].items[1].valueBase64, '/g==')
  assert.is(values[3].code, 'not-found')
  assert.equal(values[4], { key: 'a', succeeded: false, revision })
  assert.is(values[5].deleted, true)
  assert.is(values[6].leaderId, 1)
  assert.is(values[8].clusterId, lab.service.clusterId)
})

shell('status, members and leader', async () => {
  const lab = await openShellLab()
  const { out, code } = await batch(lab, 'status\nleader\n')
  assert.is(code, 0)
  assert.match(out, /^cluster {2}c{32}\n/)
  assert.match(out, /\nleader {3}member 1, term 3\n/)
  assert.match(out, /\nmember 1 \(member 1\) at ws:\/\/127.0.0.1:7700, term 3\n$/)
  lab.service.info = { leaderId: null, leaderUrl: null, term: 4 }
  const none = await batch(lab, 'leader\n')
  assert.equal(
    [none.code, none.err.split('\n')[0]],
    [4, 'n1 knows no leader at the moment (term 4)'],
  )
})

shell('commands of its own', async () => {
  const lab = await openShellLab()
  const calls: (readonly string[])[] = []
  const dotCommands = {
    '.kill': {
      help: 'kill a node',
      usage: '.kill leader',
      run: async (args: readonly string[]) => {
        calls.push(args)
        return [`killed ${args[0]}`, 'done']
      },
    },
    quiet: { help: 'nothing', run: async () => {} },
    '.fail': {
      help: 'fails',
      run: async () => {
        throw Object.assign(new Error('no node leads'), { code: 'no-leader', hint: 'wait' })
      },
    },
  }
  const { code, out, err } = await batch(
    lab,
    '.KILL leader "a b"\n.quiet\n.fail\n.help\nhelp\n.get a\n',
    { dotCommands },
  )
  assert.equal(calls, [['leader', 'a b']])
  assert.is(code, 4)
  assert.match(out, /^killed leader\ndone\n/)
  assert.match(out, /\.kill leader +kill a node/)
  assert.match(err, /^no node leads\n {2}wait\nnot found/)
})

shell('a slow command holds back those behind it', async () => {
  const lab = await openShellLab()
  await lab.client.put('a', '0')
  lab.service.holding = true
  const running = batch(lab, 'put a 1\nput a 2\nget a\n')
  await eventually('the first', () => lab.service.held.length === 1)
  await new Promise((resolve) => setImmediate(resolve))
  assert.is(lab.service.held.length, 1)
  lab.service.release()
  assert.is((await running).out.split('\n')[2], '2')
})

shell.run()
