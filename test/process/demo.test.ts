// timeout: 120 s
/** The first thing a newcomer runs, in a real terminal: it works, survives its leader, and leaves nothing behind. */
import { randomUUID } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import {
  CLI,
  cleanUp,
  DEADLINE_MS,
  eventually,
  Running,
  raft,
  temporaryDirectory,
} from './harness.ts'

const demo = suite('demo')
demo.after(cleanUp)

/** Processes that were started, however deep, with this mark in their environment. */
function marked(mark: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/environ`, 'utf8').includes(mark)
      } catch {
        return false
      }
    })
}

function plain(text: string): string {
  const esc = String.fromCharCode(27)
  return text.replaceAll(new RegExp(`${esc}\\[[0-9;?]*[A-Za-z]|\\r`, 'g'), '')
}

/** A terminal with the demo in it: what is typed goes in, what is shown comes out. */
class Terminal {
  readonly running: Running
  private seen = 0

  constructor(command: string, env: NodeJS.ProcessEnv) {
    this.running = new Running({
      command: ['script', '--quiet', '--flush', '--return', '--command', command, '/dev/null'],
      env: { ...env, TERM: 'xterm', COLUMNS: '120', LINES: '40' },
      stdin: true,
    })
  }

  /** Waits for `pattern` in what was shown since the last call that waited. */
  async shows(pattern: RegExp, deadlineMs = DEADLINE_MS): Promise<string> {
    return eventually(
      () => `${pattern} shown\n${plain(this.running.stdout).slice(-3000)}`,
      () => {
        const match = pattern.exec(plain(this.running.stdout).slice(this.seen))
        if (match === null) {
          if (this.running.exit !== null) throw new Error(`ended early\n${this.running.tail()}`)
          return undefined
        }
        this.seen += match.index + match[0].length
        return match[0]
      },
      deadlineMs,
    )
  }

  types(text: string): void {
    this.running.write(text)
  }
}

demo('in a terminal: a prompt, a write, a killed leader, another write, Ctrl-C', async () => {
  const mark = randomUUID()
  const directory = temporaryDirectory()
  const env = { RAFT_TEST_MARK: mark, TMPDIR: directory }
  const terminal = new Terminal(`"${process.execPath}" "${CLI}" demo`, env)
  await terminal.shows(/> $/)
  terminal.types('PUT pizzatoppings pepperoni cheddar\r')
  await terminal.shows(/Success! Set "pizzatoppings" to: "pepperoni cheddar"/)
  await terminal.shows(/> $/)
  assert.ok(marked(mark).length >= 4, 'three nodes and the shell are processes of their own')
  terminal.types('.kill leader\r')
  await terminal.shows(/kill/i)
  await terminal.shows(/> $/)
  // No retry here: the client library bridges the election.
  terminal.types('PUT after failover\r')
  await terminal.shows(/Success! Set "after" to: "failover"/)
  terminal.types('GET pizzatoppings\r')
  await terminal.shows(/pepperoni cheddar\n/)
  terminal.types('\u0003')
  assert.is((await terminal.running.ended()).code, 0)
  await eventually(
    () => `no process left: ${marked(mark).join(' ')}`,
    () => marked(mark).length === 0,
  )
  assert.equal(readdirSync(directory), [])
})

demo('without a terminal: commands from stdin, then cleaned up', async () => {
  const mark = randomUUID()
  const directory = temporaryDirectory()
  const env = { RAFT_TEST_MARK: mark, TMPDIR: directory }
  const { code, stdout, stderr } = await raft(['demo'], {
    env,
    input: 'put a 1\nget a\nget missing\nget a\n',
    deadlineMs: 60_000,
  })
  assert.is(code, 3, `the first failed command's code: not found\n${stdout}${stderr}`)
  assert.match(stdout, /Success! Set "a" to: "1"/)
  assert.equal(marked(mark), [])
  assert.equal(readdirSync(directory), [])
})

demo.run()
