/** What to try next when the cluster refuses a change of its members, its leader or its settings. */
import { CommandError } from './command.ts'

const HINTS: Readonly<Record<string, string>> = {
  'not-found': 'See who is there with: raft-p2p members',
  'compare-failed': 'Look at what has changed with: raft-p2p members, then try again',
  'bad-request': 'See what would be done with --dry-run, and who is alive with: raft-p2p members',
  unsafe: 'See who is alive and who has caught up with: raft-p2p members',
  overloaded: 'Another change is under way: try again in a moment',
  unauthorised: 'Use the admin token: raft-p2p token --role admin',
}

/** Of a setting: who is alive has nothing to do with it. */
const SETTING_HINTS: Readonly<Record<string, string>> = {
  ...HINTS,
  'bad-request': 'See what is set now with: raft-p2p config get',
}

/** What has no --dry-run. The last voter can only be stopped, and there is nobody else to lead. */
const LEADER_HINTS: Readonly<Record<string, string>> = {
  ...HINTS,
  'bad-request': 'See who votes and who is alive with: raft-p2p members',
}

const HINTS_OF = { members: HINTS, settings: SETTING_HINTS, leader: LEADER_HINTS } as const

/** Keeps the code and the doubt of a failure and adds the hint. */
export async function explained<T>(
  work: Promise<T>,
  what: keyof typeof HINTS_OF = 'members',
): Promise<T> {
  try {
    return await work
  } catch (error) {
    const { code, message, maybeApplied } = error as {
      code?: unknown
      message: string
      maybeApplied?: unknown
    }
    const hint = typeof code === 'string' ? HINTS_OF[what][code] : undefined
    if (typeof code !== 'string' || hint === undefined) throw error
    throw Object.assign(new CommandError(code, message, hint), {
      maybeApplied: maybeApplied === true,
    })
  }
}
