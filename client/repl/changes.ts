/** MEMBERS, LEADER and CONFIG with more words: they change who belongs to the cluster, who leads, and what all nodes share. */
import {
  addMember,
  type ChangeOptions,
  type ChangeResult,
  getConfig,
  promoteMember,
  removeMember,
  replaceMember,
  setConfig,
  transferLeadership,
} from '../admin.ts'
import { showLeader, showMembers } from './cluster.ts'
import { type CommandContext, EXIT, type View } from './types.ts'
import { harmless, type LineReader, UsageError } from './words.ts'

/** MEMBERS [ADD|REMOVE|PROMOTE|REPLACE id [id]] [--dry-run] */
export async function members(context: CommandContext, line: LineReader): Promise<number> {
  const { words, dryRun } = wordsOf(line)
  const [action, id, second, ...more] = words
  if (action === undefined) {
    await showMembers(context)
    return EXIT.ok
  }
  const { client, signal, view } = context
  const options: ChangeOptions = { signal, dryRun }
  const verb = action.toUpperCase()
  const run = { ADD: addMember, REMOVE: removeMember, PROMOTE: promoteMember }[verb]
  if (id === undefined || more.length > 0 || (run === undefined && verb !== 'REPLACE')) {
    throw new UsageError('MEMBERS takes ADD, REMOVE, PROMOTE or REPLACE, and a member')
  }
  if (run !== undefined && second !== undefined) {
    throw new UsageError('one member at a time: each change is one step')
  }
  const result =
    run === undefined
      ? await replaceMember(client, id, second ?? null, options)
      : await run(client, id, options)
  await view.print(changeText(view, result))
  return EXIT.ok
}

/** LEADER [TRANSFER [id]] */
export async function leader(context: CommandContext, line: LineReader): Promise<number> {
  const { words } = wordsOf(line)
  const [action, to, ...more] = words
  if (action !== undefined) {
    if (action.toUpperCase() !== 'TRANSFER' || more.length > 0) {
      throw new UsageError('LEADER takes TRANSFER and, if it matters, a member')
    }
    const { client, signal } = context
    await transferLeadership(client, to ?? null, { signal })
  }
  await showLeader(context)
  return EXIT.ok
}

/** CONFIG [name value] */
export async function config(context: CommandContext, line: LineReader): Promise<number> {
  const { client, signal, view } = context
  const { words, dryRun } = wordsOf(line)
  const [name, value, ...more] = words
  if (name === undefined) {
    const found = await getConfig(client, { signal })
    const lines = Object.entries(found.settings).map(([key, one]) => `${key} = ${one}\n`)
    const text = view.style === 'json' ? `${JSON.stringify(found)}\n` : harmlessLines(lines)
    await view.print(text)
    return EXIT.ok
  }
  if (value === undefined || more.length > 0)
    throw new UsageError('CONFIG takes a name and a value')
  const result = await setConfig(client, { [name]: value }, { signal, dryRun })
  await view.print(changeText(view, result))
  return EXIT.ok
}

function wordsOf(line: LineReader): { words: string[]; dryRun: boolean } {
  const all = line.words()
  const isSwitch = (word: { text: string; quoted: boolean }): boolean =>
    !word.quoted && word.text.toLowerCase() === '--dry-run'
  return {
    words: all.filter((word) => !isSwitch(word)).map((word) => word.text),
    dryRun: all.some(isSwitch),
  }
}

function changeText(view: View, result: ChangeResult): string {
  if (view.style === 'json') return `${JSON.stringify(result)}\n`
  const { changes, voters, learners, configIndex, dryRun } = result
  const who = `${countOf(voters, 'voter')}, ${countOf(learners, 'stand-by')}`
  const end = dryRun
    ? `Nothing was changed: that would be ${who}.`
    : `Success! ${who} (configuration ${configIndex})`
  return harmlessLines([...changes, end].map((text) => `${text}\n`))
}

function countOf(ids: readonly number[], name: string): string {
  return `${ids.length} ${name}${ids.length === 1 ? '' : 's'}`
}

function harmlessLines(lines: readonly string[]): string {
  return lines.map((text) => harmless(text, 'layout')).join('')
}
