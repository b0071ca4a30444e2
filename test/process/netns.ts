/**
 * Several hosts on one machine: network namespaces with addresses 10.77.0.1, .2, ... on one bridge, which is itself in a
 * namespace, so that nothing leaves the machine. Needs root and iproute2; ask `namespacesAllowed` first.
 */
import { execFileSync } from 'node:child_process'

export interface LabHost {
  readonly address: string
  /** Put before a command, to run it on this host. */
  readonly prefix: readonly string[]
}

/** Hosts are numbered from 0. */
export interface Lab {
  readonly hosts: readonly LabHost[]
  /** Pulls the host's cable at the bridge: its own interface stays up and keeps its address. */
  cut(host: number): Promise<void>
  heal(host: number): Promise<void>
  /** Removes the interface and makes a new one, as a container network does: multicast memberships are lost. */
  unplug(host: number): Promise<void>
  replug(host: number): Promise<void>
  /** Runs a command on a host to its end and returns what it printed. */
  exec(host: number, command: readonly string[]): string
  /** Removes everything. Idempotent. Processes that still run there keep running, without a network. */
  close(): Promise<void>
}

let labs = 0

/** Print `SKIP network namespaces: not permitted here` and skip when this is false. */
export function namespacesAllowed(): boolean {
  const name = `rp${process.pid}-try`
  try {
    ip('netns', 'add', name)
    ip('netns', 'del', name)
    return true
  } catch {
    return false
  }
}

export async function createLab(count: number): Promise<Lab> {
  const name = `rp${process.pid}-${labs++}`
  const bridge = `${name}-br`
  const names = Array.from({ length: count }, (_, i) => `${name}-${i + 1}`)
  const addressOf = (host: number): string => `10.77.0.${host + 1}`
  const nameOf = (host: number): string => {
    const found = names[host]
    if (found === undefined) throw new RangeError(`there is no host ${host}`)
    return found
  }
  let isClosed = false
  const remove = (): void => {
    if (isClosed) return
    isClosed = true
    for (const one of [...names, bridge]) {
      try {
        ip('netns', 'del', one)
      } catch {
        // It was never made, when making the lab failed half way.
      }
    }
  }
  // A test that fails must not leave namespaces behind.
  process.once('exit', remove)
  const plug = (host: number): void => {
    const one = nameOf(host)
    const port = `v${host}`
    const peer = ['peer', 'name', 'eth0', 'netns', one]
    ip('-n', bridge, 'link', 'add', port, 'type', 'veth', ...peer)
    ip('-n', bridge, 'link', 'set', port, 'master', 'br0', 'up')
    ip('-n', one, 'addr', 'add', `${addressOf(host)}/24`, 'dev', 'eth0')
    ip('-n', one, 'link', 'set', 'eth0', 'up')
    ip('-n', one, 'route', 'add', '224.0.0.0/4', 'dev', 'eth0')
  }
  try {
    ip('netns', 'add', bridge)
    ip('-n', bridge, 'link', 'set', 'lo', 'up')
    ip('-n', bridge, 'link', 'add', 'br0', 'type', 'bridge')
    ip('-n', bridge, 'link', 'set', 'br0', 'up')
    for (const [host, one] of names.entries()) {
      ip('netns', 'add', one)
      ip('-n', one, 'link', 'set', 'lo', 'up')
      plug(host)
    }
  } catch (error) {
    remove()
    throw error
  }
  return {
    hosts: names.map((one, host) => {
      return { address: addressOf(host), prefix: ['ip', 'netns', 'exec', one] }
    }),
    async cut(host) {
      ip('-n', bridge, 'link', 'set', `v${host}`, 'down')
    },
    async heal(host) {
      ip('-n', bridge, 'link', 'set', `v${host}`, 'up')
    },
    async unplug(host) {
      ip('-n', bridge, 'link', 'del', `v${host}`)
    },
    async replug(host) {
      plug(host)
    },
    exec(host, [file = '', ...args]) {
      return execFileSync('ip', ['netns', 'exec', nameOf(host), file, ...args], {
        encoding: 'utf8',
      })
    },
    async close() {
      process.removeListener('exit', remove)
      remove()
    },
  }
}

function ip(...args: string[]): void {
  execFileSync('ip', args, { stdio: 'pipe' })
}
