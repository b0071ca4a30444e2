/** The replicated settings as they are changed while the cluster runs: the rules of the flags, and what is shown. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { UsageError } from '../../node/config.ts'
import { readSettings, SETTING_FLAGS } from '../../node/settings.ts'

const settings = suite('replicated settings')

const PRESENT = {
  expect: 5,
  maxVoters: 5,
  replaceAfterMs: 600_000,
  heartbeatMs: 100,
  electionMs: 1000,
  maxStateBytes: 1024 ** 3,
}

settings('by name or by flag, as numbers or with units', () => {
  for (const [given, expected] of [
    [{ maxVoters: 7 }, { maxVoters: 7 }],
    [{ 'max-voters': '7' }, { maxVoters: 7 }],
    [{ 'replace-after': '10s' }, { replaceAfterMs: 10_000 }],
    [{ replaceAfterMs: 2000 }, { replaceAfterMs: 2000 }],
    [
      { heartbeat: '50ms', election: '500ms' },
      { heartbeatMs: 50, electionMs: 500 },
    ],
    [{ 'max-state': '2GiB' }, { maxStateBytes: 2 * 1024 ** 3 }],
    [{ admit: 'approve' }, { admit: 'approve' }],
    // Fewer voters than founded the cluster: they did so long ago.
    [{ 'max-voters': 3 }, { maxVoters: 3 }],
    [{ expect: 3 }, { expect: 3 }],
  ] as const) {
    assert.equal(readSettings(given, PRESENT), expected)
  }
})

settings('the rules are those of the flags, also together with what is there', () => {
  for (const [given, why] of [
    [{}, /name a setting: expect, max-voters, /],
    [{ maxVoters: 0 }, /--max-voters takes a whole number from 1 to 31, not "0"/],
    [{ maxVoters: 'many' }, /--max-voters takes a whole number/],
    [{ maxVoters: true }, /maxVoters takes a text or a number/],
    [{ maxVoters: null }, /maxVoters takes a text or a number/],
    [{ 'max-voters': 5, maxVoters: 7 }, /maxVoters is given twice/],
    [{ 'replace-after': '1ms' }, /--replace-after takes a duration/],
    [{ heartbeat: '500ms' }, /at least three heartbeats/],
    [{ election: '200ms' }, /at least three heartbeats/],
    [{ expect: 7 }, /--max-voters 5 is less than the 7 founders/],
    [{ admit: 'nobody' }, /--admit takes auto, approve/],
    [{ listen: ':1' }, /"listen" is no setting; there are expect, max-voters/],
    [{ constructor: 1 }, /"constructor" is no setting/],
    [null, /an object/],
    ['maxVoters', /an object/],
    [[1], /an object/],
  ] as const) {
    assert.throws(
      () => readSettings(given, PRESENT),
      (error: Error) => error instanceof UsageError && why.test(error.message),
      JSON.stringify(given),
    )
  }
})

settings('each one has a flag', () => {
  assert.equal([...SETTING_FLAGS].sort(), [
    'admit',
    'election',
    'expect',
    'heartbeat',
    'max-state',
    'max-voters',
    'replace-after',
  ])
})

settings.run()
