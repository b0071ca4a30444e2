/** What is asserted in every turn looks back to the turn before, also where nothing else has changed in between. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { InvariantError } from '../../node/raft/assert.ts'
import { type Checked, Watch } from '../../node/raft/checks.ts'
import type { Role, Term } from '../../node/raft/types.ts'

const SELF = 'self'

/** A core in which everything can be set, as no real one lets it. */
function coreAt() {
  const log = {
    base: { term: 0, index: 0 },
    unsavedBase: null,
    firstIndex: 1,
    lastIndex: 10,
    stableIndex: 10,
    commitIndex: 5,
    appliedIndex: 3,
    snapshotIndex: 0,
    lastTerm: 2,
    terms: Array.from({ length: 20 }, (): Term => 1),
    termAt: (index: number): Term | undefined => log.terms[index],
  }
  const core = {
    self: SELF,
    role: 'follower' as Role,
    term: 5,
    vote: null as string | null,
    leader: null as string | null,
    log,
  }
  return { core, log }
}

type Setting = (at: ReturnType<typeof coreAt>) => void

/** What happens first, which is allowed, and what then is not. */
const CASES: readonly (readonly [string, RegExp, ...Setting[]])[] = [
  [
    'the term falls',
    /terms never fall/,
    ({ core }) => Object.assign(core, { term: 6 }),
    ({ core }) => Object.assign(core, { term: 5 }),
  ],
  [
    'a second vote in a term',
    /one vote a term/,
    ({ core }) => Object.assign(core, { vote: 'a' }),
    ({ core }) => Object.assign(core, { vote: 'b' }),
  ],
  [
    'a second leader in a term',
    /one leader a term/,
    ({ core }) => Object.assign(core, { leader: 'a' }),
    ({ core }) => Object.assign(core, { leader: 'b' }),
  ],
  [
    'the commit index falls',
    /the commit index never falls/,
    ({ log }) => Object.assign(log, { commitIndex: 7 }),
    ({ log }) => Object.assign(log, { commitIndex: 6 }),
  ],
  [
    'an entry changes that was committed last',
    /a committed entry has changed/,
    ({ log }) => Object.assign(log, { commitIndex: 7 }),
    ({ log }) => log.terms.fill(2, 7, 8),
  ],
  [
    'the applied index falls',
    /the applied index never falls/,
    ({ log }) => Object.assign(log, { appliedIndex: 5 }),
    ({ log }) => Object.assign(log, { appliedIndex: 4 }),
  ],
  [
    'the log reaches back again',
    /the log never reaches back again/,
    ({ log }) => Object.assign(log, { firstIndex: 3 }),
    ({ log }) => Object.assign(log, { firstIndex: 2 }),
  ],
  [
    'the snapshot index falls',
    /the snapshot index never falls/,
    ({ log }) => Object.assign(log, { snapshotIndex: 3 }),
    ({ log }) => Object.assign(log, { snapshotIndex: 2 }),
  ],
  [
    'a leader campaigns in its own term',
    /a leader does not campaign/,
    ({ core }) => Object.assign(core, { role: 'leader', leader: SELF, vote: SELF }),
    ({ core }) => Object.assign(core, { role: 'candidate', leader: null }),
  ],
  [
    'a leader shortens its log',
    /a leader never shortens its own log/,
    ({ core }) => Object.assign(core, { role: 'leader', leader: SELF, vote: SELF }),
    ({ log }) => Object.assign(log, { lastIndex: 12 }),
    ({ log }) => Object.assign(log, { lastIndex: 11 }),
  ],
]

const test = suite('what is asserted from turn to turn')

for (const [name, why, ...steps] of CASES) {
  test(name, () => {
    const made = coreAt()
    const core = made.core as unknown as Checked
    const watch = new Watch()
    const last = steps.at(-1) as Setting
    watch.check(core)
    for (const step of steps.slice(0, -1)) {
      step(made)
      watch.check(core)
      // And a turn in which nothing happens.
      watch.check(core)
    }
    last(made)
    assert.throws(
      () => watch.check(core),
      (error: Error) => error instanceof InvariantError && why.test(error.message),
    )
  })
}

test.run()
