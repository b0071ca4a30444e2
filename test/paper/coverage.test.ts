/**
 * No rule and no section may lose its test without a word: what this folder owes a test is in the tables below, and the names of the
 * tests say what they check. A test of a rule begins with its number, `9: ...`, or has it behind a quotation, `...; 9: ...`.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { withoutComments } from '../tidy/source.ts'

/** What must never go wrong, by number; for each part of a rule, words that the name of its test carries. */
const RULES: Readonly<Record<number, readonly RegExp[]>> = {
  1: [/vote and term are durable/, /accepted entries are durable before they are acknowledged/],
  2: [/the leader counts itself only after its own fsync/, /a single voter/],
  3: [/commits only with an entry of its own term/],
  4: [
    /a no-op of this term is committed first/,
    /leadership is confirmed after the commit index was noted/,
    /a late or repeated answer cannot serve a newer request/,
  ],
  5: [
    /no membership change before an entry of this term is committed; never two in flight/,
    /the joint phase needs both majorities for votes, commits and reads/,
    /in force when appended; truncation rolls it back/,
  ],
  6: [
    /a removed leader commits its own removal, steps down and does not campaign/,
    /a removed node cannot disturb/,
    /not in its own configuration never campaigns once that is committed, but still answers votes/,
  ],
  7: [/returns without raising a term/, /steps down/, /chained partial partitions are measured/],
  8: [
    /a late Append after a snapshot does not truncate/,
    /a stale InstallSnapshot is ignored/,
    /a snapshot index never lies past the log's start/,
  ],
  9: [
    /truncation never touches a committed entry/,
    /matchIndex never moves back within a term/,
    /a reordered or repeated AppendResponse is harmless/,
  ],
  10: [/a timeout is not a failure/, /the retry is exactly once across a change of leader/],
  11: [
    /clocks that run ahead, stand still or jump break nothing/,
    /session expiry follows log time, never a local clock/,
  ],
  12: [
    /a failed fsync is fatal/,
    /only the last batch can be torn/,
    /a bad record before it is never cut silently/,
    /names file and offset, and points at rejoin/,
    /a failed fsync ends the process/,
  ],
  13: [/index and state change in one step/, /every node's stateHash at the same index is equal/],
  14: [/member ids are never reused, and a new storageId is a new member/],
  15: [/a leader that stood still and wakes up serves no read and commits nothing from before/],
  16: [/at most one clusterId per topic for up to 2N-1 candidates/, /kill at every step resumes/],
}

/** Of the extended Raft paper, then of the thesis. */
const SECTIONS = [
  '5.1',
  '5.2',
  '5.3',
  '5.4.1',
  '5.4.2',
  '5.4.3',
  '5.5',
  '5.6',
  '6',
  '7',
  '8',
] as const
const THESIS = [
  '3.10',
  '4.1',
  '4.2.1',
  '4.2.2',
  '4.2.3',
  '4.3',
  '5',
  '6.2',
  '6.3',
  '6.4',
  '9.6',
  '10.2.1',
]

const FIGURES = [
  /figure 2, state/,
  /figure 2, receivers: AppendEntries 3 and 4/,
  /figure 2, receivers: RequestVote 2/,
  /figure 2, all servers/,
  /figure 2, followers/,
  /figure 2, candidates/,
  /figure 2, leaders/,
  /figure 3: Election Safety/,
  /figure 3: Leader Append-Only/,
  /figure 3: Log Matching/,
  /figure 3: Leader Completeness/,
  /figure 3: State Machine Safety/,
  /Figure 7/,
  /figure 13, InstallSnapshot: 1\./,
  /figure 13, InstallSnapshot: 6\./,
  /figure 13, InstallSnapshot: 8\./,
  /figure 8/,
]

const HAZARDS = [
  /a new read joins a round already sent/,
  /a request from before a restart or reconnect/,
  /replaced between note and confirm/,
  /a forwarding loop/,
  /Appends reset follower timers as heartbeats do/,
  /a slow fsync delays heartbeat acks/,
  /a finished save marks rewritten entries durable/,
  /a new leader's own match starts at its durable index/,
  /a candidate counts its own vote too early/,
  /a restarted leader writes another entry at the same \(index, term\)/,
  /hung fsyncs/,
  /retry after expiry/,
  /hash sampled at the end of a batch/,
  /a truncated add rolls nextMemberId back/,
  /a promoted learner has not got the entry/,
  /a node exits on appending its own removal/,
  /a new leader inherits an open joint entry/,
  /joint entered with the new set not alive/,
  /the same key is in the configuration twice/,
  /a late TimeoutNow after an aborted transfer/,
  /dedupe, carrier switch or queue cut looks like death/,
  /a flapping link gives one fast pre-vote/,
  /two changes of leader within ten seconds/,
  /a peer has not seen the FIN yet/,
  /a leader without quorum still heartbeats one node/,
  /a leader with a quorum of links is never deposed/,
  /a node of a higher term answers lower-term messages/,
  /a new leader's clock is ahead, or a stall: all sessions expire/,
]

const DECLARED =
  /^const (\w+) = suite\(\s*('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`(?:[^`\\]|\\.)*`)/gm
const CALLED = /^(\w+)\(\s*('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`(?:[^`\\]|\\.)*`),/gm

/** The tests of one file as `suite: test`. What is skipped or commented out is no test. */
function testNames(source: string): string[] {
  const code = withoutComments(source)
  const unquoted = (literal = '') => literal.slice(1, -1).replaceAll(/\\(.)/g, '$1')
  const suites = new Map<string, string>()
  for (const [, variable = '', name] of code.matchAll(DECLARED))
    suites.set(variable, unquoted(name))
  const names: string[] = []
  for (const [, variable = '', name] of code.matchAll(CALLED)) {
    const inSuite = suites.get(variable)
    if (inSuite !== undefined) names.push(`${inSuite}: ${unquoted(name)}`)
  }
  return names
}

/** The numbers of the rules that a test's name carries. */
function rulesOf(name: string): number[] {
  return [...name.matchAll(/(?:: |; |rule )(\d+): /g)].map((match) => Number(match[1]))
}

/** The section stands at the head of the suite or before a quotation: `5.3: "..."`. */
function carries(name: string, section: string): boolean {
  return new RegExp(`(?:^|: |; )${section.replaceAll('.', '\\.')}(?= |: )`).test(name)
}

const folder = new URL('.', import.meta.url)
const names = readdirSync(folder)
  .filter((file) => file.endsWith('.test.ts') && file !== 'coverage.test.ts')
  .flatMap((file) => testNames(readFileSync(new URL(file, folder), 'utf8')))

const coverage = suite('what the paper tests cover')

coverage('every part of every rule has a test with its number', () => {
  for (const [number, parts] of Object.entries(RULES)) {
    const tests = names.filter((name) => rulesOf(name).includes(Number(number)))
    for (const part of parts) {
      assert.ok(
        tests.some((name) => part.test(name)),
        `no test of rule ${number} says ${part}`,
      )
    }
  }
})

coverage('every rule that a test names is in the table', () => {
  const named = new Set(names.flatMap(rulesOf))
  assert.equal(
    [...named].filter((number) => !(number in RULES)),
    [],
  )
})

coverage('every section, figure and hazard has a test', () => {
  for (const section of [...SECTIONS, ...THESIS]) {
    assert.ok(
      names.some((name) => carries(name, section)),
      `no test of section ${section}`,
    )
  }
  for (const words of FIGURES) {
    assert.ok(
      names.some((name) => words.test(name)),
      `no test says ${words}`,
    )
  }
  const hazards = names.filter((name) => name.includes('HAZARDS'))
  for (const words of HAZARDS) {
    assert.ok(
      hazards.some((name) => words.test(name)),
      `no test of HAZARDS says ${words}`,
    )
  }
})

const reading = suite('how names are read')

reading('every way to write a test is seen, and nothing else', () => {
  const source = [
    "const first = suite('5.1 terms')",
    'const second = suite("it\'s 8")',
    "first('plain', () => {})",
    "first(\n  'it\\'s on a line of its own',\n  () => {},\n)",
    'second(`a template`, async () => {})',
    "// first('commented out', () => {})",
    "/*\nfirst('in a block', () => {})\n*/",
    "first.skip('skipped', () => {})",
    "  first('made in a loop', () => {})",
    "other('of no suite', () => {})",
  ].join('\n')
  assert.equal(testNames(source), [
    '5.1 terms: plain',
    "5.1 terms: it's on a line of its own",
    "it's 8: a template",
  ])
})

reading('a rule is a number of its own, a section is no part of another one', () => {
  assert.equal(rulesOf('a suite: 9: what is committed'), [9])
  assert.equal(rulesOf('a suite: rule 12: a disk'), [12])
  assert.equal(rulesOf('a suite: "quoted"; 4: a read; 10: a write'), [4, 10])
  assert.equal(rulesOf('a suite: Figure 2: a line; 5.3: another; RequestVote 2: a third'), [])
  assert.ok(carries('5.4.1 election restriction: x', '5.4.1'))
  assert.ok(carries('figure 2: "a line"; 5.3: "another"', '5.3'))
  assert.not.ok(carries('5.4.2 figure 8: x', '8'))
  assert.not.ok(carries('5.4.1 election restriction: x', '5.4'))
  assert.not.ok(carries('5.4.1 election restriction: x', '1'))
  assert.not.ok(carries('15.1: x', '5.1'))
})

reading('there are many', () => {
  assert.ok(names.length > 120, `${names.length} tests`)
})

coverage.run()
reading.run()
