/**
 * Nodes for the client's tests: real WebSockets, the real state machine and the real session table, but one shared state instead of
 * consensus, so that a test can decide what each node answers, when it drops a connection, and who leads.
 */
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { type WebSocket, WebSocketServer } from 'ws'
import { ByteWriter } from '../../client/bytes.ts'
import { RaftError } from '../../client/errors.ts'
import {
  type Answer,
  decodeCommand,
  type ErrorCode,
  encodeOutcome,
  type Request,
  readRequests,
  SUBPROTOCOL,
  writeAnswer,
} from '../../client/protocol.ts'
import { KvMachine } from '../../node/machine/kv.ts'
import { Sessions } from '../../node/sessions.ts'

/**
 * What a node does with one request. `dropAfter` runs it and cuts the connection instead of answering; `ignore` neither
 * runs nor answers it; an error code refuses it without running it.
 */
export type Verdict = 'serve' | 'dropBefore' | 'dropAfter' | 'ignore' | ErrorCode

/** Of these a client must not believe that nothing happened. */
const IN_DOUBT: readonly ErrorCode[] = ['timeout', 'internal']

export class StandInCluster {
  readonly clusterId = 'c0ffee'.padEnd(32, '0')
  machine = new KvMachine()
  sessions = new Sessions()
  index = 0
  /** How often the state machine ran an operation: repeats must not count. */
  runs = 0
  opened = 0
  term = 1
  leaderId = 1
  readonly nodes: StandInNode[] = []

  static async start(count: number, options: { token?: string } = {}): Promise<StandInCluster> {
    const cluster = new StandInCluster()
    for (let memberId = 1; memberId <= count; memberId++) {
      cluster.nodes.push(await StandInNode.start(cluster, memberId, options.token ?? null))
    }
    return cluster
  }

  node(memberId: number): StandInNode {
    const node = this.nodes[memberId - 1]
    if (node === undefined) throw new Error(`there is no node ${memberId}`)
    return node
  }

  get urls(): string[] {
    return this.nodes.map((node) => node.url)
  }

  /** The outcome, and the index it was applied at. */
  apply(bytes: Uint8Array): { index: number; outcome: Uint8Array } {
    const command = decodeCommand(bytes)
    const index = ++this.index
    if (command.kind === 'openSession') this.opened++
    const outcome = this.sessions.apply(command, index, (operation) => {
      this.runs++
      return this.machine.apply(operation, { index })
    })
    return { index, outcome }
  }

  /** Every session is gone, as after a long idle time. */
  expireSessions(): void {
    this.sessions = new Sessions()
  }

  lead(memberId: number): void {
    this.leaderId = memberId
    this.term++
    for (const node of this.nodes) node.pushLeader()
  }

  async stop(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.stop()))
  }
}

export class StandInNode {
  readonly url: string
  readonly memberId: number
  clusterId: string
  /** Decides about each request except `status`, which `silent` alone stops. */
  judge: (request: Request) => Verdict = () => 'serve'
  /** Answers nothing at all, like a stopped process whose connections the kernel keeps. */
  silent = false
  /** Reverses the answers of a frame. */
  shuffles = false
  /** Answers other than JSON wait for it. */
  hold: Promise<void> | null = null
  /** The requests of each frame but `status`, over all connections. */
  readonly frames: Request[][] = []
  /** The subprotocols of each upgrade that was tried. */
  readonly offered: string[] = []
  connections = 0
  onStatus: () => void = () => {}
  readonly #cluster: StandInCluster
  readonly #sockets = new Set<WebSocket>()
  #wss: WebSocketServer

  static async start(
    cluster: StandInCluster,
    memberId: number,
    token: string | null,
  ): Promise<StandInNode> {
    const wss = StandInNode.#listen(0, token)
    await once(wss, 'listening')
    return new StandInNode(cluster, memberId, wss, token)
  }

  static #listen(port: number, token: string | null): WebSocketServer {
    return new WebSocketServer({
      host: '127.0.0.1',
      port,
      perMessageDeflate: false,
      maxPayload: 4 * 1024 * 1024,
      handleProtocols: (offered) => (offered.has(SUBPROTOCOL) ? SUBPROTOCOL : false),
      verifyClient: ({ req }, done) => {
        const protocols = String(req.headers['sec-websocket-protocol'])
        const allowed = token === null || protocols.split(/, */).includes(`token.${token}`)
        done(allowed && req.url === '/v1/client', req.url === '/v1/client' ? 401 : 404)
      },
    })
  }

  readonly #token: string | null

  private constructor(
    cluster: StandInCluster,
    memberId: number,
    wss: WebSocketServer,
    token: string | null,
  ) {
    this.#cluster = cluster
    this.memberId = memberId
    this.clusterId = cluster.clusterId
    this.#wss = wss
    this.#token = token
    this.url = `ws://127.0.0.1:${(wss.address() as AddressInfo).port}`
    this.#accept()
  }

  get open(): number {
    return this.#sockets.size
  }

  get leads(): boolean {
    return this.#cluster.leaderId === this.memberId
  }

  /** All requests so far but `status`. */
  get requests(): Request[] {
    return this.frames.flat()
  }

  cut(): void {
    for (const socket of this.#sockets) socket.terminate()
  }

  pushLeader(): void {
    for (const socket of this.#sockets) {
      this.#send(socket, [{ type: 'leader', requestId: 0, json: json(this.#leader()) }])
    }
  }

  sendJunk(junk: Uint8Array | string): void {
    for (const socket of this.#sockets) socket.send(junk)
  }

  async stop(): Promise<void> {
    this.cut()
    await new Promise((resolve) => this.#wss.close(resolve))
  }

  /** Listens again on the same port. */
  async restart(): Promise<void> {
    this.#wss = StandInNode.#listen(Number(new URL(this.url).port), this.#token)
    await once(this.#wss, 'listening')
    this.#accept()
  }

  #accept(): void {
    this.#wss.on('connection', (socket, request) => {
      this.connections++
      this.offered.push(String(request.headers['sec-websocket-protocol']))
      this.#sockets.add(socket)
      socket.on('close', () => this.#sockets.delete(socket))
      socket.on('error', () => {})
      // As the real gateway does, before any question.
      this.#send(socket, [{ type: 'leader', requestId: 0, json: json(this.#leader()) }])
      socket.on('message', (data) => {
        if (!this.silent) this.#frame(socket, new Uint8Array(data as Buffer))
      })
    })
  }

  #frame(socket: WebSocket, frame: Uint8Array): void {
    const requests = readRequests(frame)
    const counted = requests.filter((request) => request.type !== 'status')
    if (counted.length > 0) this.frames.push(counted)
    const answers: Answer[] = []
    for (const request of requests) {
      const verdict = request.type === 'status' ? 'serve' : this.judge(request)
      if (verdict === 'dropBefore' || verdict === 'dropAfter') {
        if (verdict === 'dropAfter') this.#serve(request)
        socket.terminate()
        return
      }
      if (verdict === 'ignore') continue
      answers.push(verdict === 'serve' ? this.#serve(request) : refusal(request, verdict))
    }
    if (this.shuffles) answers.reverse()
    if (this.hold === null) this.#send(socket, answers)
    else {
      const isStatus = (answer: Answer) => answer.type === 'json'
      this.#send(socket, answers.filter(isStatus))
      const rest = answers.filter((answer) => !isStatus(answer))
      void this.hold.then(() => this.#send(socket, rest))
    }
  }

  #serve(request: Request): Answer {
    const { requestId } = request
    switch (request.type) {
      case 'command': {
        const { index, outcome } = this.#cluster.apply(request.command)
        return { type: 'result', requestId, index, body: outcome }
      }
      case 'query': {
        try {
          const body = this.#cluster.machine.query(request.query)
          return { type: 'result', requestId, index: this.#cluster.index, body }
        } catch {
          return refusal(request, 'bad-request')
        }
      }
      case 'status':
        this.onStatus()
        return { type: 'json', requestId, json: json(this.#status()) }
      case 'admin': {
        const name = new TextDecoder().decode(request.name)
        const args = JSON.parse(new TextDecoder().decode(request.json))
        return { type: 'json', requestId, json: json({ name, args, memberId: this.memberId }) }
      }
    }
  }

  #leader() {
    const { leaderId, term, nodes } = this.#cluster
    return { leaderId, leaderUrl: nodes[leaderId - 1]?.url ?? null, term }
  }

  #status() {
    const members = this.#cluster.nodes.map(({ memberId, url }) => ({ memberId, url }))
    return { clusterId: this.clusterId, memberId: this.memberId, members, ...this.#leader() }
  }

  #send(socket: WebSocket, answers: readonly Answer[]): void {
    if (answers.length === 0 || socket.readyState !== socket.OPEN) return
    const writer = new ByteWriter()
    for (const answer of answers) writeAnswer(writer, answer)
    socket.send(writer.finish())
  }
}

function refusal(request: Request, code: ErrorCode): Answer {
  const { requestId } = request
  if (code === 'session-expired') {
    const body = encodeOutcome({ status: 'expired', body: new Uint8Array(0) })
    return { type: 'result', requestId, index: 1, body }
  }
  const retriable = ['no-leader', 'overloaded', 'closing', 'timeout', 'not-founded'].includes(code)
  const isWrite = request.type === 'command' || request.type === 'admin'
  const maybeApplied = isWrite && IN_DOUBT.includes(code)
  const body = { code, message: `refused by the test: ${code}`, retriable, maybeApplied }
  return { type: 'error', requestId, json: json(body) }
}

function json(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value))
}

/** Fails a test that would otherwise wait for ever, which uvu would call a success. */
export async function within<T>(promise: Promise<T>, ms = 15_000): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`nothing happened within ${ms} ms`)), ms)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

export async function until(condition: () => boolean, what: string, ms = 10_000): Promise<void> {
  const deadlineMs = performance.now() + ms
  while (!condition()) {
    if (performance.now() > deadlineMs) throw new Error(`not within ${ms} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

/** The error a call fails with; not failing fails the test. */
export async function failure(call: Promise<unknown>): Promise<RaftError> {
  try {
    await within(call)
  } catch (error) {
    if (error instanceof RaftError) return error
    throw error
  }
  throw new Error('the call should have failed')
}

export function plain({ code, retriable, maybeApplied }: RaftError) {
  return { code, retriable, maybeApplied }
}
