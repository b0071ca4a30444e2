/** The flags of `join`, each of which is also an environment variable and a key of the `--config` file. */

/** A flag: its name without dashes, what it takes (null: nothing, it is a switch), and a line of help. */
export interface FlagSpec {
  readonly flag: string
  readonly takes: string | null
  readonly help: string
  /**
   * This version has only its default. `refused`: another value would change what the cluster does, so it is an error.
   * `idle`: it is kept (in the replicated settings, say), and a warning says that nothing acts on it yet.
   */
  readonly unbuilt?: 'refused' | 'idle'
}

export const JOIN_FLAGS: readonly FlagSpec[] = [
  { flag: 'expect', takes: 'N', help: 'nodes that found the cluster together (3)' },
  { flag: 'founders', takes: 'KEY,...', help: 'only these node keys may found it' },
  { flag: 'max-voters', takes: 'N', help: 'voters at most, further nodes are stand-bys (5)' },
  {
    flag: 'replace-after',
    takes: 'D',
    help: 'swap a voter out of reach for this long (10m)',
  },
  {
    flag: 'admit',
    takes: 'auto|approve',
    help: 'who may enter a standing cluster (auto)',
  },
  { flag: 'name', takes: 'NAME', help: 'the name of this node' },
  { flag: 'data', takes: 'DIR', help: 'exactly this data directory' },
  { flag: 'listen', takes: 'HOST:PORT', help: 'the one port (0.0.0.0:7700, else a free one)' },
  { flag: 'advertise', takes: 'URL', help: 'where others reach this node' },
  { flag: 'tls-cert', takes: 'FILE', help: 'certificate chain, PEM' },
  { flag: 'tls-key', takes: 'FILE', help: 'private key of the certificate, PEM' },
  { flag: 'require-token', takes: null, help: 'ask for the token on loopback too' },
  { flag: 'dht', takes: 'private|public|off', help: 'public for a generated topic, else private' },
  { flag: 'bootstrap', takes: 'HOST:PORT,...', help: 'nodes of a private DHT' },
  { flag: 'dht-port', takes: 'P', help: 'UDP port of the DHT node (a free one)' },
  { flag: 'no-lan', takes: null, help: 'no multicast on the local network' },
  { flag: 'no-local', takes: null, help: 'do not look for nodes on this machine' },
  { flag: 'peer', takes: 'URL,...', help: 'addresses to dial' },
  { flag: 'machine', takes: 'FILE', help: 'a state machine as a module', unbuilt: 'refused' },
  { flag: 'machine-exec', takes: 'CMD', help: 'a state machine as a process', unbuilt: 'refused' },
  { flag: 'heartbeat', takes: 'D', help: 'how often the leader is heard (100ms)' },
  { flag: 'election', takes: 'D', help: 'silence before an election, up to twice this (1s)' },
  {
    flag: 'snapshot-entries',
    takes: 'N',
    help: 'entries between snapshots (100000)',
    unbuilt: 'idle',
  },
  { flag: 'max-state', takes: 'BYTES', help: 'quota of the state (1GiB)', unbuilt: 'idle' },
  { flag: 'max-key', takes: 'BYTES', help: 'largest key (1KiB)' },
  { flag: 'max-value', takes: 'BYTES', help: 'largest value (1MiB)' },
  { flag: 'max-clients', takes: 'N', help: 'clients at a time (10000)' },
  { flag: 'topic-file', takes: 'FILE', help: 'read the topic from this file' },
  { flag: 'log', takes: 'pretty|json', help: 'format of the log (pretty on a terminal)' },
  { flag: 'log-level', takes: 'LEVEL', help: 'debug, info, warn or error (info)' },
  { flag: 'repl', takes: null, help: 'attach the shell' },
]
