/**
 * What the runner reads in a test file before it starts it: its time limit, whether it must run alone, and which suites
 * it declares without running them. Never imports the file.
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

const TIMEOUT_DEFAULT_MS = 60_000
/** Directives stand in the head of the file, one a line: `// timeout: 120 s`, `// alone`. */
const HEAD_LINES = 20

export interface Plan {
  /** Relative to the project's root. */
  readonly path: string
  readonly timeoutMs: number
  readonly alone: boolean
  /** Names of suites that are declared but never run: uvu passes them silently. */
  readonly forgottenSuites: readonly string[]
}

export function readPlan(root: string, path: string): Plan {
  return { path, ...parsePlan(readFileSync(join(root, path), 'utf8')) }
}

export function parsePlan(source: string): Omit<Plan, 'path'> {
  const head = source.split('\n', HEAD_LINES).join('\n')
  const timeout = /^\/\/ timeout: (\d+) s$/m.exec(head)
  return {
    timeoutMs: timeout?.[1] === undefined ? TIMEOUT_DEFAULT_MS : Number(timeout[1]) * 1000,
    alone: /^\/\/ alone$/m.test(head),
    forgottenSuites: forgottenSuites(source),
  }
}

function forgottenSuites(source: string): string[] {
  const names = [...source.matchAll(/^(?:export )?const (\w+) = suite(?:<[^>]*>)?\(/gm)].map(
    (match) => match[1] ?? '',
  )
  const imported = /^import \{([^}]*)\} from 'uvu'/m.exec(source)?.[1] ?? ''
  if (/(?:^|[\s,])test(?:$|[\s,])/.test(imported)) names.push('test')
  return names.filter((name) => !new RegExp(`\\b${name}\\.run\\(\\)`).test(source))
}
