/**
 * Which machine is whom: the replica that lives on each disk, what each disk has confirmed, which ones are damaged or empty, and what
 * may still be lost without the cluster losing its quorum for good.
 */
import type { PeerId } from '../../node/raft/types.ts'
import type { LogStorage } from '../../node/storage/storage.ts'
import type { SimMachine, SimProcess } from '../../node/testing/sim-machine.ts'
import { type Half, isQuorum } from './configurations.ts'
import { DurableLog } from './durability.ts'

export class Roster {
  /** Machines whose disk is damaged for good: they must refuse to start, or come back unharmed. */
  readonly ruined = new Set<number>()
  /** Those of them with a damaged snapshot: their logs open, and they may still find out that it is needed. */
  readonly rotten = new Map<number, () => void>()
  /** Machines whose node was removed from the cluster and has stopped. */
  readonly removed = new Set<number>()
  /** Machines that lost everything but their key. */
  readonly keptKeys = new Set<number>()
  readonly #founders: number
  /** By place of the machine, of the disk that it has now. */
  readonly #disks: DurableLog[]
  readonly #peers: (PeerId | null)[]
  /** Also of disks that are no more: what they had confirmed was true. */
  readonly #byPeer = new Map<PeerId, DurableLog>()
  #isFounded = false

  constructor(machines: number, founders: number) {
    this.#founders = founders
    this.#disks = Array.from({ length: machines }, (_, i) => new DurableLog(`n${i + 1}`))
    this.#peers = Array.from({ length: machines }, () => null)
  }

  disk(index: number): DurableLog {
    return this.#disks[index] as DurableLog
  }

  diskOf(peer: PeerId): DurableLog | undefined {
    return this.#byPeer.get(peer)
  }

  peerOn(index: number): PeerId | null {
    return this.#peers[index] ?? null
  }

  watch(process: SimProcess, how: 'create' | 'open', log: LogStorage): LogStorage {
    const { index } = process
    const known = this.#peers[index] ?? null
    // It had lost its identity with its log, and is somebody else now: what the one before had confirmed stays true of that one.
    if (known !== null && known !== process.peer) {
      this.#disks[index] = new DurableLog(process.machine.options.name)
    }
    const disk = this.disk(index)
    this.#peers[index] = process.peer
    this.#byPeer.set(process.peer, disk)
    const watched = disk.watch(how, log)
    // It came back with all that it had confirmed: nothing was lost, and it may even become the only voter (seed 1557451536).
    if (!this.rotten.has(index)) this.ruined.delete(index)
    return watched
  }

  /** There is a cluster, and all its founders know it. */
  get isFounded(): boolean {
    this.#isFounded ||=
      this.#disks.filter(({ hardState }) => (hardState?.term ?? 0) > 0).length >= this.#founders
    return this.#isFounded
  }

  /** The machine is down, and its disk is empty. */
  wipe(machine: SimMachine, keepKey: boolean): void {
    const { index } = machine
    machine.wipe(keepKey)
    // Beside a cluster nobody starts as one who might found another.
    machine.mayFound = false
    this.#disks[index] = new DurableLog(machine.options.name)
    this.#peers[index] = null
    this.ruined.delete(index)
    this.rotten.delete(index)
    this.removed.delete(index)
    if (keepKey) this.keptKeys.add(index)
    else this.keptKeys.delete(index)
  }

  /**
   * These voters are needed from now on. One with a damaged snapshot looked well and may have come to vote: what the world has done to it
   * would be one disk too many.
   */
  restore(halves: readonly Half[]): void {
    const needed = new Set(halves.flat())
    for (const [index, undo] of this.rotten) {
      if (!needed.has(this.#peers[index] ?? '')) continue
      undo()
      this.rotten.delete(index)
      this.ruined.delete(index)
    }
  }

  /** A majority of each is on disks that can come back; `without` this machine, if one is named. */
  canDecide(halves: readonly Half[], without: SimMachine | null = null): boolean {
    const able = this.#peers.filter((_, i) => !this.ruined.has(i) && i !== without?.index)
    return isQuorum(halves, (peer) => able.includes(peer))
  }
}
