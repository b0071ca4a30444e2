/** The client library for Node, Bun and Deno: the same, with the WebSocket of the package `ws` (Node 20 has no global one). */
import { WebSocket } from 'ws'
import { type Client, type ConnectOptions, connect as connectWith } from './client.ts'

export * from './client.ts'

/** Small frames, compressed one by one, cost more than they save. */
class PlainWebSocket extends WebSocket {
  constructor(url: string, protocols: string[] = []) {
    super(url, protocols, { perMessageDeflate: false })
  }
}

/** As `connect` of the browser entry; `{ WebSocket }` still overrides. */
export function connect(
  urls: string | readonly string[],
  options: ConnectOptions = {},
): Promise<Client> {
  return connectWith(urls, { ...options, WebSocket: options.WebSocket ?? PlainWebSocket })
}
