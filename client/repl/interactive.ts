/** The shell on a terminal: a prompt that follows the leader, history, completion, and a Ctrl-C that cancels before it leaves. */
import { createInterface, type Interface } from 'node:readline'
import pc from 'picocolors'
import { leaderName } from './cluster.ts'
import { complete } from './completion.ts'
import { execute, type Session } from './execute.ts'
import { HISTORY_LINES_MAX, History } from './history.ts'
import { EXIT, type ShellOptions } from './types.ts'
import { harmless } from './words.ts'

/** How often the client is asked who leads: it knows without asking anybody. */
const WATCH_MS = 200
const STATUS_TIMEOUT_MS = 1000

/** Resolves when the user leaves. */
export function runInteractive(session: Session, options: ShellOptions): Promise<number> {
  return new Promise((resolve) => {
    new InteractiveShell(session, options, resolve).start()
  })
}

class InteractiveShell {
  readonly #session: Session
  readonly #options: ShellOptions
  readonly #left: (exitCode: number) => void
  readonly #readline: Interface
  readonly #history: History
  /** Lines that were typed or pasted while a command ran. */
  readonly #typedAhead: string[] = []
  /** Cancels the command that runs; null while none does. */
  #running: AbortController | null = null
  #closed = false
  #watch: ReturnType<typeof setInterval> | null = null
  /** Names of members, as the last status had them. */
  #names: ReadonlyMap<number, string> = new Map()
  #prompt = ''

  constructor(session: Session, options: ShellOptions, left: (exitCode: number) => void) {
    this.#session = session
    this.#options = options
    this.#left = left
    this.#history = new History(options.historyFile)
    this.#readline = createInterface({
      input: options.input,
      output: options.output,
      terminal: true,
      history: this.#history.newestFirst,
      historySize: HISTORY_LINES_MAX,
      completer: (line: string, done: (error: null, result: [string[], string]) => void) => {
        void complete(line, session).then(({ hits, partial }) => done(null, [[...hits], partial]))
      },
    })
  }

  start(): void {
    this.#readline.on('line', (line) => this.#entered(line))
    this.#readline.on('SIGINT', () => this.#interrupted())
    this.#readline.on('close', () => this.#leave())
    void this.#learnNames().then(() => this.#begin())
  }

  #begin(): void {
    if (this.#closed) return
    this.#refreshPrompt()
    // What was typed before the prompt stays behind it.
    if (this.#running === null) this.#readline.prompt(true)
    this.#watch = setInterval(() => this.#refreshPrompt(), WATCH_MS)
  }

  #entered(line: string): void {
    if (this.#closed) return
    this.#history.add(line)
    this.#typedAhead.push(line)
    if (this.#running === null) void this.#work()
  }

  async #work(): Promise<void> {
    for (let line = this.#typedAhead.shift(); line !== undefined; line = this.#typedAhead.shift()) {
      const running = new AbortController()
      this.#running = running
      const { leave } = await execute(this.#session, line, running.signal)
      this.#running = null
      if (this.#closed) return
      if (leave) {
        this.#readline.close()
        return
      }
    }
    this.#refreshPrompt()
    this.#readline.prompt()
  }

  /** Cancels what runs, else clears what is typed, else leaves. */
  #interrupted(): void {
    const running = this.#running
    if (running !== null) {
      this.#typedAhead.length = 0
      if (running.signal.aborted) this.#readline.close()
      else running.abort()
      return
    }
    if (this.#readline.line === '') {
      this.#readline.close()
      return
    }
    this.#options.output.write('^C\n')
    this.#readline.write(null, { ctrl: true, name: 'e' })
    this.#readline.write(null, { ctrl: true, name: 'u' })
    this.#readline.prompt()
  }

  #leave(): void {
    if (this.#closed) return
    this.#closed = true
    if (this.#watch !== null) clearInterval(this.#watch)
    this.#running?.abort()
    this.#options.output.write('\n')
    this.#left(EXIT.ok)
  }

  /** Redraws only when it says something new, and keeps the line being typed. */
  #refreshPrompt(): void {
    if (this.#closed) return
    const prompt = this.#promptText()
    if (prompt === this.#prompt) return
    this.#prompt = prompt
    this.#readline.setPrompt(prompt)
    // Before the first prompt nothing is drawn, and after a command #work draws it.
    if (this.#watch !== null && this.#running === null) this.#readline.prompt(true)
  }

  #promptText(): string {
    const { client } = this.#session
    const { bold, cyan, yellow, dim } = pc.createColors(this.#options.color)
    const topic = bold(harmless(this.#options.topic))
    const leader = client.leader()
    if (leader === null) return `${topic}> `
    const { leaderId, term } = leader
    if (leaderId === null) return `${topic} ${yellow('no leader')}${dim(`@t${term}`)}> `
    const name = this.#names.get(leaderId)
    if (name === undefined) void this.#learnNames()
    return `${topic} ${cyan(harmless(name ?? `#${leaderId}`))}${dim(`@t${term}`)}> `
  }

  #learning = false

  async #learnNames(): Promise<void> {
    if (this.#learning) return
    this.#learning = true
    try {
      const status = await this.#session.client.status({ timeoutMs: STATUS_TIMEOUT_MS })
      const names = new Map(status.members.map(({ memberId, name }) => [memberId, name]))
      // A leader that the members do not name would otherwise be asked for again and again.
      const name = leaderName(status)
      if (status.leaderId !== null && name !== null) names.set(status.leaderId, name)
      this.#names = names
    } catch {
      // Nobody answers: the number of the leader will do.
    }
    this.#learning = false
    this.#refreshPrompt()
  }
}
