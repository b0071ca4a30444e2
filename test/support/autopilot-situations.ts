/**
 * Situations of the autopilot in one line, so that a table of them can be read. `1* 2 3- | 4 5+ | a b=2`: voters, learners, applicants;
 * parts may be left out from the end. A member is its id and marks, an applicant a letter and marks:
 *
 *   *  this leader              -   silent, not for long        --  silent for longer than replaceAfter, reached by nobody
 *   x  its disk is lost         --~ the same, but another member still reaches it
 *   +  heard only just          <   has not caught up           ?   nothing is known of it
 *   =N has the key of member N  #N  has the storageId of N      !   was removed
 */
import type {
  Advice,
  Applicant,
  AutopilotInput,
  AutopilotSettings,
  MemberSight,
} from '../../node/autopilot.ts'
import type { ConfChange } from '../../node/raft/change.ts'
import type { Member } from '../../node/raft/types.ts'

export const SETTINGS: AutopilotSettings = {
  maxVoters: 5,
  replaceAfterMs: 600_000,
  admit: 'auto',
  patienceMs: 1000,
  stableMs: 2000,
  lagMax: 100,
}

export interface More {
  readonly settings?: Partial<AutopilotSettings>
  readonly busy?: boolean
  /** The old voters of a joint configuration. */
  readonly outgoing?: string
}

interface Token {
  readonly name: string
  readonly marks: string
  readonly keyOf: string
  readonly storageOf: string
}

function tokens(text: string | undefined): Token[] {
  return (text ?? '').split(' ').flatMap((word) => {
    if (word === '') return []
    const found = /^(\d+|[a-z])([*\-~x+<?!]*)(?:=(\d+))?(?:#(\d+))?$/.exec(word)
    if (found === null) throw new Error(`${word} is no member`)
    const [, name = '', marks = '', keyOf = name, storageOf = name] = found
    return [{ name, marks, keyOf, storageOf }]
  })
}

export function keyOf(name: string): string {
  const digits = /^\d/.test(name) ? Number(name) : 1000 + name.charCodeAt(0)
  return digits.toString(16).padStart(8, '0').padEnd(64, '0')
}

export function storageIdOf(name: string): string {
  return keyOf(name).slice(0, 32)
}

function pairOf({ name, keyOf: key, storageOf }: Token): Omit<Member, 'memberId'> {
  const urls = [`ws://127.0.0.1/${name}`]
  return { nodeKey: keyOf(key), storageId: storageIdOf(storageOf), name, urls }
}

function sightOf({ name, marks }: Token, settings: AutopilotSettings): MemberSight[] {
  if (marks.includes('?')) return []
  const isSilent = marks.includes('-') || marks.includes('x')
  const silentMs = marks.includes('--') ? settings.replaceAfterMs : settings.patienceMs
  return [
    {
      memberId: Number(name),
      lag: marks.includes('<') ? settings.lagMax + 1 : settings.lagMax,
      aliveMs: isSilent ? 0 : settings.stableMs - (marks.includes('+') ? 1 : 0),
      silentMs: isSilent ? silentMs : settings.patienceMs - 1,
      reachable: !marks.includes('--') || marks.includes('~'),
      storageLost: marks.includes('x'),
    },
  ]
}

export function situation(text: string, more: More = {}): AutopilotInput {
  const [voters = [], learners = [], candidates = []] = text.split('|').map(tokens)
  const settings = { ...SETTINGS, ...more.settings }
  const all = [...voters, ...learners]
  const self = voters.find(({ marks }) => marks.includes('*'))
  if (self === undefined) throw new Error(`nobody leads in ${text}`)
  const ids = (some: readonly Token[]): number[] => some.map(({ name }) => Number(name))
  const applicants: Applicant[] = candidates.map((one) => ({ ...pairOf(one), waitingMs: 1000 }))
  const gone = candidates.filter(({ marks }) => marks.includes('!'))
  return {
    record: {
      clusterId: 'c'.repeat(32),
      foundingSet: [],
      settings: {},
      configuration: {
        voters: ids(voters),
        votersOutgoing: (more.outgoing ?? '').split(' ').filter(Boolean).map(Number),
        learners: ids(learners),
        members: all.map((one) => ({ memberId: Number(one.name), ...pairOf(one) })),
        nextMemberId: Math.max(...ids(all)) + 1,
      },
      removed: gone.map(({ storageOf }) => storageIdOf(storageOf)),
    },
    selfId: Number(self.name),
    busy: more.busy ?? false,
    sights: all.filter((one) => one !== self).flatMap((one) => sightOf(one, settings)),
    applicants,
    settings,
  }
}

/** `+a` added, `^4` promoted, `v4` demoted, `-4` removed, `4>2` instead of 2, which stays as a learner, `4>>2` which goes. */
export function shown({ decision }: Pick<Advice, 'decision'>): string {
  return (decision?.changes ?? []).map(shownChange).join(' ')
}

function shownChange(change: ConfChange): string {
  switch (change.type) {
    case 'add':
      return `+${change.member.name}`
    case 'promote':
      return `^${change.memberId}`
    case 'demote':
      return `v${change.memberId}`
    case 'remove':
      return `-${change.memberId}`
    case 'replace':
      return `${change.with}${change.keep ? '>' : '>>'}${change.memberId}`
    case 'settings':
    case 'featureLevel':
      return change.type
  }
}
