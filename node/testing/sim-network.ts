/**
 * A network whose messages are late, lost, repeated, out of order or stuck, as its dice and its owner decide, with links as the
 * transport of production shows them: one to each peer, brought up by dialling, lost by a reset, by silence or by the death of a
 * process. Frames of a link that went down never arrive on the next one.
 */

import type { LinkDownReason, PeerFrame, RefusalReason } from '../transport/transport.ts'
import type { Dice } from './dice.ts'
import {
  type End,
  type EndpointOwner,
  otherEnd,
  ownEnd,
  SimLink,
  SimTransport,
  type Wire,
} from './sim-transport.ts'
import type { Timeline } from './timeline.ts'

/** How the network behaves when nothing is cut. Chances in parts per million, times in microseconds. */
export interface Weather {
  readonly delayUsMin: number
  readonly delayUsMax: number
  /** Now and then a message takes up to this long. */
  readonly spikeUsMax: number
  readonly spikePpm: number
  readonly lossPpm: number
  readonly duplicatePpm: number
  /** A message may overtake those before it. */
  readonly reorderPpm: number
}

export const CALM: Weather = {
  delayUsMin: 50,
  delayUsMax: 500,
  spikeUsMax: 0,
  spikePpm: 0,
  lossPpm: 0,
  duplicatePpm: 0,
  reorderPpm: 0,
}

/** As the transport of production: a link on which nothing was heard for so long is dead, and is looked at so often. */
const LINK_TIMEOUT_US = 2_000_000
/** A word about oneself that could not get through is said again after so long. */
const RETELL_US = 50_000
const BEAT_US = 900_000
const REDIAL_US_MIN = 50_000
const REDIAL_US_MAX = 1_000_000
const IN_FLIGHT_MAX = 4096
const LATE_US_MAX = 5_000_000

export type Recoder = (
  clusterId: string | null,
  frames: readonly PeerFrame[],
) => readonly PeerFrame[]

export interface NetworkHooks {
  /** Passes what is sent through the codec of production, or not. */
  readonly recode: Recoder | null
  readonly sent?: (from: EndpointOwner, to: EndpointOwner, frames: readonly PeerFrame[]) => void
  readonly arrived?: (from: EndpointOwner, to: EndpointOwner, frames: readonly PeerFrame[]) => void
  readonly fault?: (kind: string) => void
  /**
   * A copy of a disk that lives beside the original. It meets only those who can tell: a node that sees the copy and not the original
   * takes it for that one, and no protocol could know better.
   */
  readonly isCopy?: (owner: EndpointOwner) => boolean
  /** These two have refused each other, because one is a copy. */
  readonly refusedCopy?: (a: EndpointOwner, b: EndpointOwner) => void
}

/** From one machine to another. */
interface Way {
  /** Above 0: nothing arrives. Counted, so that overlapping cuts end separately. */
  cuts: number
  /** What is sent arrives no sooner than then. */
  cloggedUntilUs: number
  lastArrivalUs: number
  inFlight: number
}

export class SimNetwork {
  readonly #timeline: Timeline
  readonly #dice: Dice
  readonly #hooks: NetworkHooks
  weather: Weather
  /** By place of the machine: the transport of its running process. */
  readonly #endpoints = new Map<number, SimTransport>()
  readonly #ways = new Map<number, Way>()
  #nextLinkId = 1

  constructor(timeline: Timeline, dice: Dice, weather: Weather, hooks: NetworkHooks) {
    this.#timeline = timeline
    this.#dice = dice
    this.weather = weather
    this.#hooks = hooks
  }

  // --- for the owner of the world -----------------------------------------------------------------------------------

  createTransport(owner: EndpointOwner): SimTransport {
    return new SimTransport(this, owner)
  }

  cut(from: number, to: number): void {
    this.#way(from, to).cuts++
    this.#listenForSilence(from, to)
  }

  mend(from: number, to: number): void {
    const way = this.#way(from, to)
    way.cuts = Math.max(0, way.cuts - 1)
  }

  isCut(from: number, to: number): boolean {
    return this.#way(from, to).cuts > 0
  }

  clog(from: number, to: number, durationUs: number): void {
    this.#way(from, to).cloggedUntilUs = this.#timeline.nowUs + durationUs
  }

  /** Everything arrives again. */
  heal(): void {
    for (const way of this.#ways.values()) way.cuts = way.cloggedUntilUs = 0
  }

  /** The connection between two machines breaks; both ends notice soon. */
  reset(a: number, b: number): void {
    const wire = this.#endpoints.get(a)?.wireTo(b)
    if (wire !== undefined) this.#close(wire, null, 'reset')
  }

  hasLink(a: number, b: number): boolean {
    return this.#endpoints.get(a)?.wireTo(b)?.closed === false
  }

  /** The process stands still: its peers hear nothing. */
  stalled(index: number): void {
    for (const other of this.#endpoints.keys()) {
      if (other !== index) this.#listenForSilence(index, other)
    }
  }

  /** The process is dead. `silently`: its machine lost power, so that nobody is told. */
  died(index: number, silently: boolean): void {
    const endpoint = this.#endpoints.get(index)
    if (endpoint === undefined) return
    this.#endpoints.delete(index)
    for (const wire of endpoint.wires()) {
      if (silently) this.#abandon(wire, endpoint)
      else this.#close(wire, endpoint, 'closed-by-peer')
    }
  }

  // --- for transports -----------------------------------------------------------------------------------------------

  joined(endpoint: SimTransport): void {
    const { index } = endpoint.owner
    for (const [other, peer] of this.#endpoints) {
      if (other === index) continue
      endpoint.undialled.add(other)
      peer.undialled.add(index)
      this.#dialLater(index, other, this.#dice.between(1000, REDIAL_US_MIN))
    }
    this.#endpoints.set(index, endpoint)
  }

  left(endpoint: SimTransport): void {
    if (this.#endpoints.get(endpoint.owner.index) === endpoint) {
      this.died(endpoint.owner.index, false)
    }
  }

  send(from: SimTransport, wire: Wire, frames: readonly PeerFrame[]): boolean {
    const to = otherEnd(wire, from)
    if (to.endpoint === from || frames.length === 0) return true
    if (!from.owner.boundary('send')) return true
    if (this.#way(from.owner.index, to.owner.index).inFlight >= IN_FLIGHT_MAX) return false
    this.#hooks.sent?.(from.owner, to.owner, frames)
    const { clusterId } = from.owner
    const { recode } = this.#hooks
    const carried = recode === null ? frames : recode(clusterId, frames)
    const { weather } = this
    if (this.#dice.chance(weather.lossPpm)) {
      this.#hooks.fault?.('loss')
      return true
    }
    this.#carry(wire, from, to, clusterId, carried)
    if (this.#dice.chance(weather.duplicatePpm)) {
      this.#hooks.fault?.('duplicate')
      // A repeated message may be very late, when nobody thinks of it any more.
      const lateUs = this.#dice.below(2) === 0 ? 0 : this.#dice.magnitude(1000, LATE_US_MAX)
      this.#carry(wire, from, to, clusterId, carried, lateUs)
    }
    return true
  }

  answers(a: EndpointOwner, b: EndpointOwner): boolean {
    return !this.isCut(a.index, b.index) && !this.isCut(b.index, a.index) && b.isRunning
  }

  clusterIdSet(from: SimTransport): void {
    for (const wire of from.wires()) {
      const to = otherEnd(wire, from)
      const hello = from.owner.hello
      const tell = (): void => {
        if (wire.closed) return
        // A link is a stream: what was said arrives when the way is free again, or the link ends.
        if (to.link === null || this.isCut(from.owner.index, to.owner.index)) {
          this.#timeline.after(RETELL_US, tell)
          return
        }
        to.owner.run(() => {
          const { link } = to
          if (link === null) return
          link.hello = hello
          if (this.#refusesCluster(wire, from.owner, to.owner)) return
          to.endpoint.events?.helloChanged(link)
        })
      }
      this.#timeline.after(this.#delayUs(), tell)
    }
  }

  closeByUs(wire: Wire, endpoint: SimTransport): void {
    this.#down(ownEnd(wire, endpoint), 'protocol-error')
    this.#close(wire, endpoint, 'closed-by-peer')
  }

  // --- links --------------------------------------------------------------------------------------------------------

  #dialLater(a: number, b: number, delayUs: number): void {
    const [first, second] = [this.#endpoints.get(a), this.#endpoints.get(b)]
    this.#timeline.after(delayUs, () => {
      // Another process of the same machine dials by itself.
      if (first !== undefined && this.#endpoints.get(a) !== first) return
      if (second !== undefined && this.#endpoints.get(b) !== second) return
      this.#dial(a, b)
    })
  }

  #dial(a: number, b: number): void {
    const [first, second] = [this.#endpoints.get(a), this.#endpoints.get(b)]
    if (first === undefined || second === undefined || this.hasLink(a, b)) return
    const { isCopy } = this.#hooks
    const isKept = isCopy?.(first.owner) || isCopy?.(second.owner)
    const detail = first.copyOf(second.owner.hello) ?? second.copyOf(first.owner.hello)
    const open = first.owner.isRunning && this.answers(first.owner, second.owner)
    if (!open || (isKept && detail === null)) {
      if (first.owner.isRunning) first.undialled.delete(b)
      if (second.owner.isRunning) second.undialled.delete(a)
      return this.#dialLater(a, b, this.#dice.magnitude(REDIAL_US_MIN, REDIAL_US_MAX))
    }
    first.undialled.delete(b)
    second.undialled.delete(a)
    if (detail !== null) return this.#refuseCopy(first, second, detail)
    // A newer process takes the place of one that has died without a word.
    first.forget(b)
    second.forget(a)
    const nowUs = this.#timeline.nowUs
    const wire: Wire = {
      a: { owner: first.owner, endpoint: first, link: null, heardUs: nowUs },
      b: { owner: second.owner, endpoint: second, link: null, heardUs: nowUs },
      closed: false,
    }
    if (this.#refusesCluster(wire, first.owner, second.owner)) return
    first.adopt(b, wire)
    second.adopt(a, wire)
    for (const end of [wire.a, wire.b]) {
      this.#timeline.after(this.#delayUs(), () =>
        end.owner.run(() => {
          if (wire.closed) return
          const peer = end === wire.a ? wire.b : wire.a
          end.link = new SimLink(this.#nextLinkId++, peer.owner.hello, wire)
          end.heardUs = this.#timeline.nowUs
          end.endpoint.show(peer.owner.index, end)
        }),
      )
    }
  }

  /** As link-table.ts does: no link comes of it, and both say why. */
  #refuseCopy(first: SimTransport, second: SimTransport, detail: string): void {
    const ends = [
      [first, second],
      [second, first],
    ] as const
    for (const [{ owner, events }, { owner: peer }] of ends) {
      const { nodeKey } = peer
      const refusal = { reason: 'clone', url: null, nodeKey, detail, clusterId: null } as const
      owner.run(() => events?.refused(refusal))
    }
    this.#hooks.refusedCopy?.(first.owner, second.owner)
    const delayUs = this.#dice.magnitude(REDIAL_US_MIN, 5 * REDIAL_US_MAX)
    this.#dialLater(first.owner.index, second.owner.index, delayUs)
  }

  #refusesCluster(wire: Wire, a: EndpointOwner, b: EndpointOwner): boolean {
    const [mine, other] = [a.clusterId, b.clusterId]
    if (mine === null || other === null || mine === other) return false
    const reason: RefusalReason = 'wrong-cluster'
    for (const [end, peer] of [
      [wire.a, wire.b],
      [wire.b, wire.a],
    ] as const) {
      const { nodeKey, clusterId } = peer.owner.hello
      const detail = `this node belongs to another cluster than ${nodeKey.slice(0, 8)}`
      end.owner.run(() =>
        end.endpoint.events?.refused({ reason, url: null, nodeKey, detail, clusterId }),
      )
    }
    this.#close(wire, null, 'protocol-error')
    return true
  }

  /** Both ends learn of it, unless `by` has closed its own already; through a cut only silence tells. */
  #close(wire: Wire, by: SimTransport | null, reason: LinkDownReason): void {
    if (wire.closed) return
    wire.closed = true
    wire.a.endpoint.drop(wire)
    wire.b.endpoint.drop(wire)
    for (const end of [wire.a, wire.b]) {
      if (end.endpoint === by) continue
      const peer = end === wire.a ? wire.b : wire.a
      const unheard = this.isCut(peer.owner.index, end.owner.index)
      const delayUs = unheard ? this.#silenceUs() : this.#delayUs()
      this.#timeline.after(delayUs, () => this.#down(end, unheard ? 'echo-timeout' : reason))
    }
    const pause = reason === 'protocol-error' ? 5 * REDIAL_US_MAX : REDIAL_US_MAX
    this.#dialLater(
      wire.a.owner.index,
      wire.b.owner.index,
      this.#dice.magnitude(REDIAL_US_MIN, pause),
    )
  }

  /** One end is gone without a word; the other one hears nothing. */
  #abandon(wire: Wire, gone: SimTransport): void {
    if (wire.closed) return
    wire.closed = true
    const end = otherEnd(wire, gone)
    gone.drop(wire)
    this.#timeline.after(this.#silenceUs(), () => {
      end.endpoint.drop(wire)
      this.#down(end, 'echo-timeout')
    })
  }

  #down(end: End, reason: LinkDownReason): void {
    end.owner.run(() => {
      if (end.link === null) return
      this.#hooks.fault?.(`link down: ${reason}`)
      end.endpoint.hide(end, reason)
    })
  }

  #silenceUs(): number {
    return this.#dice.between(LINK_TIMEOUT_US, LINK_TIMEOUT_US + BEAT_US)
  }

  /** `to` may hear nothing of `from` from now on: in a while it looks at the link. */
  #listenForSilence(from: number, to: number): void {
    const wire = this.#endpoints.get(to)?.wireTo(from)
    if (wire === undefined) return
    const endpoint = this.#endpoints.get(to) as SimTransport
    const end = ownEnd(wire, endpoint)
    const peer = otherEnd(wire, endpoint)
    const startedUs = this.#timeline.nowUs
    this.#timeline.after(this.#silenceUs(), () => {
      if (wire.closed || (!this.isCut(from, to) && peer.owner.isRunning)) return
      if (!end.owner.isRunning || end.heardUs > startedUs + BEAT_US) {
        return this.#listenForSilence(from, to)
      }
      this.#down(end, 'echo-timeout')
      this.#close(wire, endpoint, 'closed-by-peer')
    })
  }

  // --- frames -------------------------------------------------------------------------------------------------------

  #carry(
    wire: Wire,
    from: SimTransport,
    to: End,
    clusterId: string | null,
    frames: readonly PeerFrame[],
    lateUs = 0,
  ): void {
    const { weather } = this
    const way = this.#way(from.owner.index, to.owner.index)
    const { nowUs } = this.#timeline
    let atUs = nowUs + this.#delayUs()
    if (way.cloggedUntilUs > atUs) atUs = way.cloggedUntilUs + this.#dice.below(1000)
    if (lateUs > 0) atUs += lateUs
    else if (this.#dice.chance(weather.reorderPpm)) {
      this.#hooks.fault?.('reorder')
      atUs += this.#dice.magnitude(1000, 200_000)
    } else {
      // One stream: what was sent first arrives first.
      atUs = way.lastArrivalUs = Math.max(atUs, way.lastArrivalUs)
    }
    way.inFlight++
    const arrive = (): void => this.#arrive({ wire, from, to, clusterId, frames })
    this.#timeline.after(atUs - nowUs, () => {
      way.inFlight--
      if (!wire.closed && way.cuts === 0) to.owner.run(arrive)
    })
  }

  #arrive(sent: {
    readonly wire: Wire
    readonly from: SimTransport
    readonly to: End
    readonly clusterId: string | null
    readonly frames: readonly PeerFrame[]
  }): void {
    const { wire, from, to, clusterId, frames } = sent
    const { link } = to
    // The other end may greet a moment later: what comes before that is lost, as on any lossy network.
    if (link === null || wire.closed) return
    to.heardUs = this.#timeline.nowUs
    this.#hooks.arrived?.(from.owner, to.owner, frames)
    const own = to.owner.clusterId
    for (const frame of frames) {
      const belongs = own !== null && clusterId === own
      if (frame.type === 'founding' || belongs) to.endpoint.events?.frame(link, frame)
    }
  }

  #way(from: number, to: number): Way {
    const key = from * 1024 + to
    let way = this.#ways.get(key)
    if (way === undefined) {
      way = { cuts: 0, cloggedUntilUs: 0, lastArrivalUs: 0, inFlight: 0 }
      this.#ways.set(key, way)
    }
    return way
  }

  #delayUs(): number {
    const { delayUsMin, delayUsMax, spikePpm, spikeUsMax } = this.weather
    if (spikeUsMax > delayUsMax && this.#dice.chance(spikePpm)) {
      return this.#dice.magnitude(delayUsMax, spikeUsMax)
    }
    return this.#dice.between(delayUsMin, delayUsMax)
  }
}
