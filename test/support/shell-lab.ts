/** A shell on streams, with the real client behind it, a real gateway and a service without a cluster. */
import { PassThrough } from 'node:stream'
import { type Client, connect } from '../../client/node.ts'
import { runShell, type ShellOptions } from '../../client/repl/shell.ts'
import { closeLabs, eventually, type Lab, openLab } from './gateway-lab.ts'

const ESCAPE = String.fromCharCode(27)
const clients: Client[] = []

export interface ShellLab extends Lab {
  readonly client: Client
}

export async function openShellLab(timeoutMs = 5000): Promise<ShellLab> {
  const lab = await openLab()
  const client = await connect(`ws://127.0.0.1:${lab.port}`, { timeoutMs })
  clients.push(client)
  return { ...lab, client }
}

export async function closeShellLabs(): Promise<void> {
  for (const client of clients.splice(0)) client.close()
  await closeLabs()
}

/** Runs commands without a terminal. */
export async function batch(
  lab: ShellLab,
  input: string | readonly (string | Uint8Array)[],
  options: Partial<ShellOptions> = {},
): Promise<{ code: number; out: string; bytes: Buffer; err: string }> {
  const stdin = new PassThrough()
  const output = collect()
  const errors = collect()
  const code = runShell({
    client: lab.client,
    input: stdin,
    output: output.stream,
    errorOutput: errors.stream,
    topic: 'demo',
    historyFile: null,
    color: false,
    ...options,
  })
  for (const part of typeof input === 'string' ? [input] : input) stdin.write(part)
  stdin.end()
  return { code: await code, bytes: output.bytes(), out: output.text(), err: errors.text() }
}

function collect(): { stream: PassThrough; bytes(): Buffer; text(): string } {
  const stream = new PassThrough()
  const chunks: Buffer[] = []
  stream.on('data', (chunk: Buffer) => chunks.push(chunk))
  const bytes = (): Buffer => Buffer.concat(chunks)
  return { stream, bytes, text: () => bytes().toString() }
}

/** A terminal made of streams: keys go in, and what the screen was told comes out. */
export class FakeTerminal {
  readonly input = Object.assign(new PassThrough(), { isTTY: true, setRawMode: () => {} })
  readonly output = Object.assign(new PassThrough(), { isTTY: true, columns: 100 })
  raw = ''
  code: number | null = null
  #seen = 0

  constructor(lab: ShellLab, options: Partial<ShellOptions> = {}) {
    this.output.on('data', (chunk: Buffer) => {
      this.raw += chunk.toString()
    })
    void runShell({
      client: lab.client,
      input: this.input,
      output: this.output,
      errorOutput: this.output,
      topic: 'demo',
      historyFile: null,
      color: false,
      ...options,
    }).then((code) => {
      this.code = code
    })
  }

  get text(): string {
    return this.raw
      .replaceAll(new RegExp(`${ESCAPE}\\[[0-9;?]*[A-Za-z]`, 'g'), '')
      .replaceAll('\r', '')
  }

  types(text: string): void {
    this.input.write(text)
  }

  /** Waits for `pattern` behind what was waited for before. */
  async shows(pattern: RegExp): Promise<string> {
    const match = await eventually(
      `${pattern}`,
      () => pattern.exec(this.text.slice(this.#seen)) ?? undefined,
    ).catch((error) => {
      throw new Error(`${error.message}\n${JSON.stringify(this.text.slice(this.#seen))}`)
    })
    this.#seen += match.index + match[0].length
    return match[0]
  }

  async left(): Promise<number> {
    return eventually('the end of the shell', () => this.code ?? undefined)
  }
}
