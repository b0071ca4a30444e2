/** The decoders of what an operator asks of the cluster: arguments of the privileged verbs over HTTP, and replicated settings. */
import fc from 'fast-check'
import * as assert from 'uvu/assert'
import { UsageError } from '../../node/config.ts'
import { parseArguments } from '../../node/gateway/admin.ts'
import { Refusal } from '../../node/gateway/problem.ts'
import { readSettings } from '../../node/settings.ts'
import { anyText } from './mutations.ts'
import { type AnyRow, row, throwing } from './rows.ts'

const PRESENT = { expect: 3, maxVoters: 5, heartbeatMs: 100, electionMs: 1000 }

const optional = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined })

/** As somebody could have written it; what is undefined does not appear in JSON. */
const replaceArguments = fc
  .record({
    id: fc.oneof(
      fc.integer({ min: 1, max: 99 }).map(String),
      fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 }),
    ),
    with: optional(fc.integer({ min: 1, max: 99 }).map(String)),
    dryRun: optional(fc.boolean()),
    ifConfig: optional(fc.integer({ min: 1 })),
  })
  .map((args) => JSON.parse(JSON.stringify(args)) as Record<string, unknown>)

const settings = fc
  .record(
    {
      maxVoters: fc.integer({ min: 1, max: 31 }),
      replaceAfterMs: fc.integer({ min: 1000, max: 1_000_000 }),
      heartbeatMs: fc.integer({ min: 10, max: 300 }),
      maxStateBytes: fc.integer({ min: 65_536, max: 2 ** 40 }),
      admit: fc.constantFrom('auto', 'approve'),
    },
    { requiredKeys: [], noNullPrototype: true },
  )
  .filter((all) => Object.keys(all).length > 0)

export const ADMIN_DECODERS: readonly AnyRow[] = [
  row<Uint8Array, Record<string, unknown>>({
    name: 'arguments of a privileged verb',
    covers: ['node/gateway/admin.ts#parseArguments'],
    kind: 'bytes',
    inner: 'json',
    values: replaceArguments,
    encode: (args) => new TextEncoder().encode(JSON.stringify(args)),
    decode: throwing((bytes) => parseArguments('members.replace', bytes), Refusal),
    sound: ({ id, with: standBy, dryRun, ifConfig, ...rest }) => {
      assert.equal(rest, {})
      assert.ok(typeof id === 'string' && id.length >= 1 && id.length <= 128)
      assert.ok(standBy === undefined || typeof standBy === 'string')
      assert.ok(dryRun === undefined || typeof dryRun === 'boolean')
      assert.ok(ifConfig === undefined || Number.isSafeInteger(ifConfig))
    },
  }),
  row<unknown, Record<string, number | string>>({
    name: 'replicated settings',
    covers: ['node/settings.ts#readSettings'],
    kind: 'json',
    values: settings,
    encode: (all) => all,
    decode: throwing((given) => readSettings(given, PRESENT), UsageError),
    sound: (all) => {
      assert.ok(Object.keys(all).length > 0)
      const { maxVoters = 1, replaceAfterMs = 1000, heartbeatMs = 100, electionMs = 1000 } = all
      assert.ok(Number(maxVoters) >= 1 && Number(maxVoters) <= 31)
      assert.ok(Number(replaceAfterMs) >= 1000)
      assert.ok(Number(electionMs) >= 3 * Number(heartbeatMs))
    },
    noise: fc.dictionary(
      fc.constantFrom('max-voters', 'maxVoters', 'heartbeat', 'electionMs', 'admit', 'constructor'),
      fc.oneof(anyText, fc.nat(), fc.constantFrom('7', '10m', 'approve', null, true)),
      { maxKeys: 3, noNullPrototype: true },
    ),
    weightMax: 1024,
  }),
]
