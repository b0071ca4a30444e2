/**
 * The privileged verbs with their types: who belongs to the cluster, who leads, and the replicated settings. Each needs the admin
 * token, goes to the connected node, which asks the leader, and is never sent twice by itself.
 */
import type { CallOptions } from './call.ts'
import type { Client } from './client.ts'

/** A memberId, a member's name, or a unique prefix of its node key. */
export type MemberReference = number | string

export interface ChangeOptions extends CallOptions {
  /** Say what would be done, and do nothing. */
  readonly dryRun?: boolean | undefined
  /** Only if the configuration still is the one at this log index; else `compare-failed`. */
  readonly ifConfig?: number | undefined
}

/** What a change did, or would do. `configIndex`: where the configuration that holds now stands in the log. */
export interface ChangeResult {
  readonly configIndex: number
  /** One sentence each. */
  readonly changes: readonly string[]
  readonly dryRun: boolean
  readonly voters: readonly number[]
  readonly learners: readonly number[]
}

export type SettingValue = number | string | boolean

export interface ClusterConfig {
  readonly configIndex: number
  readonly settings: Readonly<Record<string, SettingValue>>
}

type AdminClient = Pick<Client, 'admin'>

/** `id` names an applicant by its key or name: it enters as a learner. */
export function addMember(
  client: AdminClient,
  id: MemberReference,
  options: ChangeOptions = {},
): Promise<ChangeResult> {
  return change(client, 'members.add', { id: String(id) }, options)
}

/** The member leaves for good; its node stops. */
export function removeMember(
  client: AdminClient,
  id: MemberReference,
  options: ChangeOptions = {},
): Promise<ChangeResult> {
  return change(client, 'members.remove', { id: String(id) }, options)
}

/** A learner that has caught up becomes a voter. */
export function promoteMember(
  client: AdminClient,
  id: MemberReference,
  options: ChangeOptions = {},
): Promise<ChangeResult> {
  return change(client, 'members.promote', { id: String(id) }, options)
}

/** `standBy` votes in place of `id`, which leaves for good; without it the leader chooses one. One step. */
export function replaceMember(
  client: AdminClient,
  id: MemberReference,
  standBy: MemberReference | null,
  options: ChangeOptions = {},
): Promise<ChangeResult> {
  const chosen = standBy === null ? {} : { with: String(standBy) }
  return change(client, 'members.replace', { id: String(id), ...chosen }, options)
}

/** Resolves when the transfer has begun; without `to` it goes to the voter that is furthest. */
export function transferLeadership(
  client: AdminClient,
  to: MemberReference | null = null,
  options: CallOptions = {},
): Promise<Partial<ChangeResult>> {
  return change(client, 'leader.transfer', to === null ? {} : { to: String(to) }, options)
}

/**
 * The connected node leaves the cluster and then stops. A client follows the leader, so that this would be the leader: to say which
 * node is meant, connect to it alone with `followLeader: false`.
 */
export function leaveCluster(client: AdminClient, options: CallOptions = {}): Promise<unknown> {
  return client.admin('leave', {}, options)
}

export async function getConfig(
  client: AdminClient,
  options: CallOptions = {},
): Promise<ClusterConfig> {
  return (await client.admin('config.get', {}, options)) as ClusterConfig
}

/** By name or by flag: `{ maxVoters: 7 }` or `{ 'replace-after': '10m' }`. What is not named stays. */
export function setConfig(
  client: AdminClient,
  settings: Readonly<Record<string, SettingValue>>,
  options: ChangeOptions = {},
): Promise<ChangeResult> {
  return change(client, 'config.set', { settings }, options)
}

async function change(
  client: AdminClient,
  verb: string,
  wanted: Readonly<Record<string, unknown>>,
  { dryRun, ifConfig, ...options }: ChangeOptions,
): Promise<ChangeResult> {
  const args = {
    ...wanted,
    ...(dryRun === true ? { dryRun } : {}),
    ...(ifConfig === undefined ? {} : { ifConfig }),
  }
  return (await client.admin(verb, args, options)) as ChangeResult
}
