/** The judge of histories on small ones that anybody can judge by hand, the way it explains itself, and the file format. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { HistoryError, type Operation, readHistory, writeHistory } from './history.ts'
import { Memo } from './linear-memo.ts'
import { checkLinearizable, explain } from './linearizable.ts'

/**
 * `client op what call..return`, on the key k unless the client is written `client@key`. What: the value of a put or append, `=value`
 * for a get, `expected>value` for a cas; `-` is absent and `""` empty. A return of `?` is an unknown outcome; `fail` may follow.
 */
function operationOf(line: string): Operation {
  const words = line.trim().split(/\s+/)
  const [client, key = 'k'] = (words.shift() ?? '').split('@')
  const op = words.shift() as Operation['op']
  const what = op === 'delete' || /\.\./.test(words[0] ?? '') ? '-' : (words.shift() ?? '')
  const [callUs, returnUs] = (words.shift() ?? '').split('..')
  const isUnknown = returnUs === '?'
  const [first, second] = what.split(/[>=]/).map((text) => (text === '-' ? null : text))
  const value = op === 'cas' ? second : op === 'get' ? null : first
  return {
    client: Number(client),
    op,
    key,
    value: value === '""' ? '' : (value ?? null),
    expected: op === 'cas' ? (first ?? null) : null,
    callUs: Number(callUs),
    returnUs: isUnknown ? null : Number(returnUs),
    status: isUnknown ? 'unknown' : ((words.shift() as Operation['status'] | undefined) ?? 'ok'),
    output: op === 'get' && !isUnknown ? (second === '""' ? '' : (second ?? null)) : null,
  }
}

function history(text: string): Operation[] {
  return text.split(';').map(operationOf)
}

/** [what it shows, the history]. Each bad one has a good neighbour that differs in the point. */
const GOOD: readonly (readonly [string, string])[] = [
  ['nothing at all was done to a key', '1 get =- 0..1'],
  ['a read of what was written', '1 put a 0..1; 2 get =a 2..3'],
  ['a read beside a write sees the old value', '1 put a 0..9; 2 get =- 1..2; 2 get =a 3..4'],
  ['two reads beside a write, the new value last', '1 put a 0..9; 2 get =- 1..3; 3 get =a 2..4'],
  [
    'concurrent writes in the other order',
    '1 put a 0..9; 2 put b 0..9; 3 get =b 10..11; 3 get =b 12..13',
  ],
  ['a stale value beside the write that ends it', '1 put a 0..1; 1 put b 2..9; 2 get =a 5..6'],
  ['meeting in one microsecond is concurrent', '1 put a 0..5; 2 get =- 5..6'],
  ['so is a whole operation in one microsecond', '1 put a 3..3; 2 get =- 3..3'],
  ['the same value written twice', '1 put a 0..1; 1 put b 2..3; 2 put a 4..5; 3 get =a 6..7'],
  ['a delete', '1 put a 0..1; 1 delete 2..3; 2 get =- 4..5'],
  ['a delete of what is absent', '1 delete 0..1; 2 get =- 2..3; 1 put a 4..5; 2 get =a 6..7'],
  ['the empty value is not absent', '1 put "" 0..1; 2 get ="" 2..3'],
  ['a cas from absent', '1 cas ->a 0..1; 2 get =a 2..3'],
  ['a chain of cas', '1 cas ->a 0..9; 2 cas a>b 0..9; 3 cas b>c 0..9; 4 get =c 10..11'],
  [
    'only one of two cas succeeds',
    '1 put a 0..1; 1 cas a>b 2..9; 2 cas a>c 2..9 fail; 3 get =b 10..11',
  ],
  [
    'a cas fails beside the write that makes it fail',
    '1 put a 0..1; 1 put b 2..9; 2 cas a>c 2..9 fail',
  ],
  ['a cas that expected absent fails', '1 put a 0..1; 2 cas ->b 2..3 fail; 3 get =a 4..5'],
  ['a cas from a value to itself', '1 put a 0..1; 2 cas a>a 2..3; 3 get =a 4..5'],
  ['appends, once each', '1 append a 0..1; 2 append b 2..3; 3 get =ab 4..5'],
  ['concurrent appends in either order', '1 append a 0..9; 2 append b 0..9; 3 get =ba 10..11'],
  ['an append to a put', '1 put x 0..1; 2 append y 2..3; 3 get =xy 4..5'],
  ['an append after a delete', '1 append a 0..1; 1 delete 2..3; 2 append b 4..5; 3 get =b 6..7'],
  ['an append of nothing makes a value', '1 append "" 0..1; 2 get ="" 2..3'],
  ['one append that looks like two', '1 append ab 0..1; 2 append a 2..3; 3 get =aba 4..5'],
  ['an unknown write that was applied', '1 put a 0..?; 2 get =a 5..6; 2 get =a 7..8'],
  ['an unknown write that was not', '1 put a 0..?; 2 get =- 5..6; 2 get =- 7..8'],
  ['an unknown write long after', '1 put a 0..?; 2 put b 1..2; 2 get =b 3..4; 2 get =a 100..101'],
  [
    'an unknown write in the middle',
    '1 put a 0..?; 2 put b 1..2; 2 get =a 3..4; 2 put c 5..6; 2 get =c 7..8',
  ],
  ['an unknown delete', '1 put a 0..1; 2 delete 2..?; 3 get =a 3..4; 3 get =- 5..6'],
  ['an unknown cas that held', '1 put a 0..1; 2 cas a>b 2..?; 3 get =b 5..6'],
  ['an unknown cas that did not', '1 put a 0..1; 2 cas x>b 2..?; 3 get =a 5..6'],
  ['an unknown cas that waits for its value', '2 cas x>b 0..?; 1 put x 1..2; 3 get =b 5..6'],
  ['an unknown append', '1 append a 0..?; 2 append b 1..2; 3 get =b 3..4; 3 get =ba 5..6'],
  ['an unknown append under another', '1 append a 0..?; 2 append b 1..?; 3 get =ab 5..6'],
  ['an unseen unknown write makes a cas fail', '1 put a 0..1; 2 put b 1..?; 3 cas a>c 5..6 fail'],
  ['an unknown cas hides behind an append', '1 cas ->a 0..?; 2 append b 1..2; 3 cas b>c 5..6 fail'],
  [
    'an unknown append hides behind another',
    '1 append a 0..?; 2 append b 1..2; 3 cas b>c 5..6 fail; 4 cas ba>c 5..6 fail',
  ],
  ['an unknown write hides behind an append', '1 put a 0..?; 2 append b 1..2; 3 cas b>c 5..6 fail'],
  ['an unknown get says nothing', '1 put a 0..1; 2 get 2..?; 3 get =a 4..5'],
  ['what certainly failed had no effect', '1 put a 0..1; 2 put b 2..3 fail; 3 get =a 4..5'],
  ['keys are judged alone', '1@x put a 0..1; 1@y put b 2..3; 2@x get =a 4..5; 2@y get =b 4..5'],
]

const BAD: readonly (readonly [string, string])[] = [
  ['a value that nobody wrote', '1 put a 0..1; 2 get =b 2..3'],
  ['a write that is not seen', '1 put a 0..1; 2 get =- 2..3'],
  ['a stale read', '1 put a 0..1; 1 put b 2..3; 2 get =a 4..5'],
  ['a read from the future', '2 get =a 0..1; 1 put a 2..3'],
  ['new, then old, by one client', '1 put a 0..9; 2 get =a 1..2; 2 get =- 3..4'],
  ['new, then old, by two clients', '1 put a 0..9; 2 get =a 1..2; 3 get =- 3..4'],
  [
    'two readers that disagree about the order',
    '1 put a 0..9; 2 put b 0..9; 3 get =a 10..11; 4 get =b 12..13',
  ],
  ['a value that returns', '1 put a 0..1; 2 put b 0..9; 3 get =b 2..3; 3 get =a 4..5'],
  [
    'the order of one client is real time too',
    '1 put a 0..1; 1 put b 2..3; 1 get =b 4..5; 1 get =a 6..7',
  ],
  ['a lost update', '1 put a 0..1; 1 cas a>b 2..3; 2 cas a>c 4..5; 3 get =c 6..7'],
  ['a cas that succeeded twice', '1 cas ->a 0..9; 2 cas ->b 0..9'],
  ['a cas that found what was never there', '1 put a 0..1; 2 cas x>b 2..3'],
  ['a cas that did not write', '1 put a 0..1; 2 cas a>b 2..3; 3 get =a 4..5'],
  ['a cas that failed and wrote', '1 put a 0..1; 2 cas x>b 2..3 fail; 3 get =b 4..5'],
  ['a cas that failed though it held', '1 put a 0..1; 2 cas a>b 2..3 fail'],
  ['a cas from absent that failed though absent', '1 cas ->a 0..1 fail; 2 put a 2..3'],
  ['a cas to itself that found something else', '1 put a 0..1; 2 cas b>b 2..3'],
  ['a delete that did nothing', '1 put a 0..1; 1 delete 2..3; 2 get =a 4..5'],
  ['a value gone without a delete', '1 put a 0..1; 2 get =a 2..3; 2 get =- 4..5'],
  ['empty where absent', '1 put a 0..1; 1 delete 2..3; 2 get ="" 4..5'],
  ['absent where empty', '1 put "" 0..1; 2 get =- 2..3'],
  ['an append applied twice', '1 append a 0..1; 2 get =aa 2..3'],
  ['an append lost', '1 append a 0..1; 2 append b 2..3; 3 get =b 4..5'],
  ['appends against real time', '1 append a 0..1; 2 append b 2..3; 3 get =ba 4..5'],
  ['appends in two orders', '1 append a 0..9; 2 append b 0..9; 3 get =ab 10..11; 4 get =ba 12..13'],
  [
    'an append in the middle',
    '1 append a 0..1; 2 append b 2..3; 3 get =ab 4..5; 1 append c 6..7; 3 get =acb 8..9',
  ],
  ['an append that failed and is there', '1 put a 0..1; 2 append b 2..3 fail; 3 get =ab 4..5'],
  ['an unknown write seen, then not', '1 put a 0..?; 2 get =a 5..6; 2 get =- 7..8'],
  [
    'an unknown write seen twice',
    '1 put a 0..?; 2 get =a 5..6; 3 put b 7..8; 2 get =b 9..10; 2 get =a 11..12',
  ],
  ['an unknown write seen before its call', '2 get =a 0..1; 1 put a 2..?'],
  ['an unknown cas whose value never was', '1 put a 0..1; 2 cas x>b 2..?; 3 get =b 5..6'],
  ['an unknown append applied twice', '1 append a 0..?; 2 get =aa 5..6'],
  [
    'an unknown append that came out again',
    '1 append a 0..?; 2 append b 1..2; 3 get =ab 3..4; 3 get =b 5..6',
  ],
  [
    'an unknown write too late for a cas to fail',
    '1 put a 0..1; 3 cas a>c 5..6 fail; 2 put b 7..?',
  ],
  [
    'one unknown write for two failures',
    '1 put a 0..1; 2 put b 2..?; 3 cas a>c 3..4 fail; 3 put a 5..6; 3 cas a>c 7..8 fail',
  ],
  ['a failed write that is seen', '1 put a 0..1; 2 put b 2..3 fail; 3 get =b 4..5'],
  ['one key of two', '1@x put a 0..1; 1@y put b 2..3; 2@x get =a 4..5; 2@y get =- 4..5'],
]

const table = suite('histories')

for (const [what, text] of GOOD) {
  table(`accepted: ${what}`, () => {
    const verdict = checkLinearizable(history(text))
    assert.is(verdict.ok, true, verdict.ok === false ? explain(verdict) : '')
  })
}

for (const [what, text] of BAD) {
  table(`refused: ${what}`, () => {
    assert.is(checkLinearizable(history(text)).ok, false)
  })
}

table('an empty history', () => {
  assert.equal(checkLinearizable([]), { ok: true, states: 0 })
})

/** `count` puts at the same time, and then a read of something else: all their orders have to be refused. */
function hopeless(count: number, key = 'k'): Operation[] {
  const puts = Array.from({ length: count }, (_, client) => `${client}@${key} put v${client} 0..9`)
  return history([...puts, `99@${key} get =nothing 10..11`].join(';'))
}

const effort = suite('effort')

effort('a set of linearized operations is visited once, not each order of it', () => {
  const verdict = checkLinearizable(hopeless(12))
  assert.is(verdict.ok, false)
  // 2^12 sets, each reached from at most 12 others; the orders are 12! = 479 million.
  assert.ok(verdict.states <= 12 * 2 ** 12, `${verdict.states} configurations`)
})

effort('unknown writes that nobody saw cost nothing', () => {
  const unknown = Array.from({ length: 60 }, (_, client) => `${client} put v${client} 0..?`)
  const seen = ['99 put a 1..2', '99 get =a 3..4', '99 append b 5..6', '99 get =ab 7..8']
  const verdict = checkLinearizable(history([...unknown, ...seen].join(';')))
  assert.equal(verdict, { ok: true, states: 2 })
})

effort('nor do they where a failed comparison might have needed them', () => {
  const unknown = Array.from({ length: 60 }, (_, client) => `${client} put v${client} 0..?`)
  const more = Array.from({ length: 60 }, (_, client) => `${client} append w${client} 0..?`)
  const seen = ['99 put a 1..2', '99 cas x>y 3..4 fail', '99 cas a>z 5..6 fail', '99 get =b 7..8']
  const verdict = checkLinearizable(history([...unknown, ...more, ...seen].join(';')))
  assert.is(verdict.ok, false)
  assert.ok(verdict.states < 10, `${verdict.states} configurations`)
})

effort('unknown writes of one effect are not tried in every combination', () => {
  const unknown = Array.from({ length: 20 }, (_, client) => `${client} cas a>v${client} 0..?`)
  const used = Array.from({ length: 10 }, (_, n) => {
    const start = 10 + 4 * n
    return `99 put a ${start}..${start + 1}; 99 cas a>z ${start + 2}..${start + 3} fail`
  })
  assert.is(checkLinearizable(history([...unknown, ...used].join(';'))).ok, true)
  const bad = checkLinearizable(history([...unknown, ...used, '99 get =q 200..201'].join(';')))
  assert.is(bad.ok, false)
  assert.ok(bad.states < 200, `${bad.states} configurations`)
})

effort('it gives up when told to, and says where', () => {
  assert.equal(checkLinearizable(hopeless(12), { statesMax: 100 }), {
    ok: 'gave-up',
    key: 'k',
    states: 101,
  })
})

effort('a violation on another key is found all the same', () => {
  const both = [...hopeless(12, 'x'), ...history('1@y put a 0..1; 2@y get =b 2..3')]
  const verdict = checkLinearizable(both, { statesMax: 100 })
  assert.ok(verdict.ok === false && verdict.key === 'y')
})

const memo = suite('memory of configurations')

memo('records with one hash are told apart, and more used up is covered by less', () => {
  const known = new Memo()
  const covers = (...record: number[]): boolean => known.covers(7, Int32Array.from(record), 2, 4)
  assert.not(covers(1, 2, 0, 0))
  known.add(7, Int32Array.from([1, 2, 0b0110, 0]), 4)
  assert.ok(covers(1, 2, 0b0110, 0))
  assert.ok(covers(1, 2, 0b1110, 1))
  assert.not(covers(1, 2, 0b0100, 1))
  assert.not(covers(1, 3, 0b0110, 0))
  assert.not(covers(2, 2, 0b0110, 0))
  assert.not(known.covers(8, Int32Array.from([1, 2, 0b0110, 0]), 2, 4))
  assert.not(known.covers(7, Int32Array.from([1, 2, 0b0110, 0, 0]), 2, 5))
})

memo('it keeps what it knows while it grows', () => {
  const known = new Memo()
  const hash = (n: number): number => Math.imul(n, 0x85ebca6b)
  for (let n = 0; n < 20_000; n++) known.add(hash(n), Int32Array.from([n, n + 1]), 2)
  assert.is(known.size, 20_000)
  for (let n = 0; n < 20_000; n++) {
    assert.ok(known.covers(hash(n), Int32Array.from([n, n + 1]), 2, 2))
    assert.not(known.covers(hash(n), Int32Array.from([n, n + 2]), 2, 2))
  }
})

const words = suite('explanations')

function explanation(text: string): string {
  const verdict = checkLinearizable(history(text))
  if (verdict.ok !== false) throw new Error(`${text} was not refused`)
  return explain(verdict)
}

words('a stale read: the order so far, the value, and when the other one ended', () => {
  assert.is(
    explanation('1 put a 0..1; 1 put b 2..3; 3 put c 3..?; 2 get =a 4..5; 1 put d 6..7'),
    [
      'key "k" is not linearizable.',
      'The longest order found has 2 of 4 operations with a known outcome:',
      '  #1 0..1 us client 1 put "a" -> "a"',
      '  #2 2..3 us client 1 put "b" -> "b"',
      'The value is now "b", and one of these would have to be next:',
      '  4..5 us client 2 get = "a"',
      '    it read "a", but the value is "b"; "a" ended with #2',
    ].join('\n'),
  )
})

words('a long order shows its end, and where the missing value was', () => {
  const puts = Array.from({ length: 20 }, (_, n) => `1 put v${n} ${2 * n}..${2 * n + 1}`)
  const lines = explanation([...puts, '2 get =v3 50..51'].join(';')).split('\n')
  assert.equal(lines.slice(2, 6), [
    '  #4 6..7 us client 1 put "v3" -> "v3"',
    '  #5 8..9 us client 1 put "v4" -> "v4"',
    '  ... 10 more before',
    '  #13 24..25 us client 1 put "v12" -> "v12"',
  ])
  assert.is(lines.at(-1), '    it read "v3", but the value is "v19"; "v3" ended with #5')
})

words('a read from the future names the write', () => {
  assert.match(
    explanation('2 get =a 0..1; 1 put a 2..3'),
    'this order never had "a"; outside it: 2..3 us client 1 put "a"',
  )
})

words('a comparison that failed for no reason', () => {
  assert.match(
    explanation('1 put x 0..1; 1 put a 2..3; 2 cas a>b 4..5 fail'),
    '4..5 us client 2 cas "a" to "b" (fail)\n    its comparison with "a" failed, but the value is "a"; so it is since #2',
  )
})

words('unknown outcomes that might have helped are listed', () => {
  assert.match(
    explanation('1 put a 0..1; 2 cas x>b 2..?; 3 get =b 5..6; 4 cas b>q 7..?'),
    'Of unknown outcome, called by then, and of no use:\n  2.. us client 2 cas "x" to "b" (unknown)',
  )
})

words('long values keep both ends', () => {
  const long = 'x'.repeat(500)
  const text = explanation(`1 put begin${long} 0..1; 2 get =begin${long}end 2..3`)
  assert.match(text, /"beginx{18} \.\.\. x+" \(505 characters\)/)
  assert.match(text, /x+end" \(508 characters\)/)
})

const lines = suite('JSON lines')

const WRITTEN = `{"client":1,"op":"cas","key":"k","value":"b","expected":null,"call_ns":"0","return_ns":"1000","status":"fail","output":null}`

/** A line that is right but for one thing. */
function spoiled(from: string, to: string): string {
  const line = WRITTEN.replace(from, to)
  assert.is.not(line, WRITTEN)
  return line
}

lines('the format', () => {
  assert.is(writeHistory(history('1 cas ->b 0..1 fail')), `${WRITTEN}\n`)
  const [unknown] = writeHistory(history('1 put a 5..?')).split('\n')
  assert.match(unknown ?? '', '"call_ns":"5000","return_ns":null,"status":"unknown"')
  assert.is(writeHistory([]), '')
})

lines('what is written is read back', () => {
  const all = [...GOOD, ...BAD].flatMap(([, text]) => history(text))
  const odd = { ...(all[0] as Operation), key: '\n"\u2028\ud800é', output: '\u0000\\' }
  const late = { ...(all[0] as Operation), callUs: 2 ** 53 - 21, returnUs: 2 ** 53 - 1 }
  const written = writeHistory([...all, odd, late])
  assert.is(written.split('\n').length, all.length + 3)
  assert.equal(readHistory(written), [...all, odd, late])
  assert.equal(readHistory(`\n${WRITTEN}\r\n\n`), history('1 cas ->b 0..1 fail'))
})

const MALFORMED: readonly (readonly [string, HistoryError['code'], RegExp])[] = [
  ['{', 'bad-json', /line 3: /],
  ['[]', 'bad-json', /not an object/],
  ['null', 'bad-json', /not an object/],
  [spoiled('"client":1,', ''), 'bad-field', /no client/],
  [spoiled('"client":1,', '"client":1,"more":1,'), 'bad-field', /what is more/],
  [spoiled('"client":1', '"client":"1"'), 'bad-field', /client/],
  [spoiled('"client":1', '"client":-1'), 'bad-field', /client/],
  [spoiled('"client":1', '"client":1.5'), 'bad-field', /client/],
  [spoiled('"cas"', '"swap"'), 'bad-field', /op is "swap"/],
  [spoiled('"cas"', '"get"'), 'bad-field', /get with the value/],
  [spoiled('"k"', '7'), 'bad-field', /key/],
  [spoiled('"b"', '{}'), 'bad-field', /value/],
  [spoiled('"b"', 'null'), 'bad-field', /cas with the value null/],
  [spoiled('"expected":null', '"expected":0'), 'bad-field', /expected/],
  [spoiled('"call_ns":"0"', '"call_ns":0'), 'bad-field', /call_ns/],
  [spoiled('"call_ns":"0"', '"call_ns":"-1000"'), 'bad-field', /call_ns/],
  [spoiled('"call_ns":"0"', '"call_ns":"01000"'), 'bad-field', /call_ns/],
  [spoiled('"call_ns":"0"', '"call_ns":null'), 'bad-field', /call_ns/],
  [spoiled('"call_ns":"0"', '"call_ns":"2000"'), 'bad-field', /returned at 1 us/],
  [spoiled('"1000"', '"1001"'), 'bad-field', /return_ns/],
  [spoiled('"1000"', '"99999999999999999999"'), 'bad-field', /return_ns/],
  [spoiled('"1000"', '"9223372036854775000"'), 'bad-field', /returned at/],
  [spoiled('"1000"', 'null'), 'bad-field', /fail, but it never returned/],
  [spoiled('"fail"', '"unknown"'), 'bad-field', /unknown, but it returned/],
  [spoiled('"fail"', '"info"'), 'bad-field', /status/],
  [spoiled('"output":null', '"output":"b"'), 'bad-field', /with an output/],
  [spoiled('"output":null', '"output":[]'), 'bad-field', /output/],
]

for (const [line, code, reason] of MALFORMED) {
  lines(`refused: ${line.slice(0, 170)}`, () => {
    try {
      readHistory(`${WRITTEN}\n\n${line}\n${WRITTEN}\n`)
    } catch (error) {
      if (!(error instanceof HistoryError)) throw error
      assert.is(error.code, code)
      assert.is(error.line, 3)
      assert.match(error.message, reason)
      return
    }
    assert.unreachable('it was read')
  })
}

lines('the judge refuses what contradicts itself, too', () => {
  const [good] = history('1 get =- 0..1') as [Operation]
  const bad = [good, { ...good, op: 'put', expected: 'a', value: 'b' } as const]
  assert.throws(() => checkLinearizable(bad), /line 2: put that expects something/)
})

table.run()
effort.run()
memo.run()
words.run()
lines.run()
