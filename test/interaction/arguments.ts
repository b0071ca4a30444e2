/** The words of one command line, taken one after the other; what nobody has taken at the end is a mistake. */

/** A mistake in a trace: its message becomes the output of the command. */
export class TraceError extends Error {
  override readonly name = 'TraceError'
}

export class Arguments {
  readonly #line: string
  readonly #command: string
  readonly #words: string[] = []
  readonly #options = new Map<string, string>()

  constructor(line: string) {
    this.#line = line
    const [command = '', ...rest] = line.split(/\s+/)
    this.#command = command
    for (const token of rest) {
      const at = token.indexOf('=')
      if (at === -1) this.#words.push(token)
      else this.#options.set(token.slice(0, at), token.slice(at + 1))
    }
  }

  get command(): string {
    return this.#command
  }

  wrong(what: string): TraceError {
    return new TraceError(`${this.#command}: ${what}`)
  }

  word(what: string): string {
    const word = this.#words.shift()
    if (word === undefined) throw this.wrong(`${what} is missing`)
    return word
  }

  /** Takes all words that are left. */
  words(): string[] {
    return this.#words.splice(0)
  }

  /** Everything behind the command, as it was written. */
  rest(): string {
    this.#words.length = 0
    this.#options.clear()
    return this.#line.slice(this.#command.length).trim()
  }

  count(what: string): number {
    return this.asNumber(this.word(what))
  }

  flag(name: string): boolean {
    const at = this.#words.indexOf(name)
    if (at !== -1) this.#words.splice(at, 1)
    return at !== -1
  }

  number(name: string, otherwise: number): number {
    const text = this.#option(name)
    return text === null ? otherwise : this.asNumber(text)
  }

  /** Null: it was not given. */
  text(name: string): string | null {
    return this.#option(name)
  }

  numbers(name: string): number[] | null {
    const text = this.#option(name)
    return text === null ? null : text.split(',').map((part) => this.asNumber(part))
  }

  /** `name=3:5`. */
  pair(name: string): [number, number] | null {
    const text = this.#option(name)
    if (text === null) return null
    const [first = '', second = '', ...rest] = text.split(':')
    if (rest.length > 0) throw this.wrong(`${text} is no pair`)
    return [this.asNumber(first), this.asNumber(second)]
  }

  /** Throws when anything is left. */
  end(): void {
    const left = [...this.#words, ...this.#options.keys()]
    if (left.length > 0) throw this.wrong(`cannot make sense of ${left.join(' ')}`)
  }

  #option(name: string): string | null {
    const text = this.#options.get(name)
    this.#options.delete(name)
    return text ?? null
  }

  asNumber(text: string): number {
    if (!/^\d+$/.test(text)) throw this.wrong(`${text} is no number`)
    return Number(text)
  }
}
