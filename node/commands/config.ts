/** `raft-p2p config get [name]` and `config set name=value...`: the settings that the whole cluster shares. */
import { getConfig, type SettingValue, setConfig } from '../../client/admin.ts'
import { UsageError } from '../config.ts'
import { SETTING_FLAGS, settingOf } from '../settings.ts'
import {
  CommandError,
  EXIT,
  type ExitCode,
  type Invocation,
  printJson,
  printLine,
} from './command.ts'
import { explained } from './explained.ts'
import { changeOptionsOf, printChange } from './members.ts'
import { withClient } from './with-client.ts'

export async function run(invocation: Invocation): Promise<ExitCode> {
  const [action = 'get', ...words] = invocation.args
  if (action === 'get') return get(invocation, words)
  if (action === 'set') return set(invocation, words)
  throw new UsageError(`config ${action} is unknown; there are config get and config set`)
}

async function get(invocation: Invocation, words: readonly string[]): Promise<ExitCode> {
  const { io, json } = invocation
  const [word, ...more] = words
  if (more.length > 0) throw new UsageError('config get takes one name, or none for all')
  const wanted = word === undefined ? null : settingOf(word)
  const config = await withClient(invocation, (client) => explained(getConfig(client)))
  const { settings, configIndex } = config
  if (wanted !== null) {
    const value = settings[wanted.name]
    if (value === undefined) {
      throw new CommandError('not-found', `${word} was never set; each node has its own --${word}`)
    }
    if (json) printJson(io, { [wanted.name]: value, configIndex })
    else printLine(io, String(value))
    return EXIT.ok
  }
  if (json) printJson(io, config)
  else for (const line of lines(settings)) printLine(io, line)
  return EXIT.ok
}

function lines(settings: Readonly<Record<string, SettingValue>>): string[] {
  return Object.entries(settings).map(([name, value]) => `${name} = ${value}`)
}

async function set(invocation: Invocation, words: readonly string[]): Promise<ExitCode> {
  const settings = assignments(words)
  const options = changeOptionsOf(invocation)
  const result = await withClient(invocation, (client) =>
    explained(setConfig(client, settings, options), 'settings'),
  )
  printChange(invocation, result)
  const late = Object.keys(settings).filter((flag) => AT_START.includes(flag))
  if (late.length > 0 && !invocation.json && !result.dryRun) {
    printLine(invocation.io, `Each node takes ${late.join(' and ')} at its next start.`)
  }
  return EXIT.ok
}

/** What a replica is made with (replica-options.ts). */
const AT_START: readonly string[] = ['heartbeat', 'election']

/** `name=value ...`, or `name value` for a single one. */
function assignments(words: readonly string[]): Record<string, string> {
  const pairs = words.every((word) => word.includes('='))
    ? words.map((word) => [word.slice(0, word.indexOf('=')), word.slice(word.indexOf('=') + 1)])
    : [words]
  const settings: Record<string, string> = {}
  for (const pair of pairs) {
    const [word, value] = pair
    if (word === undefined || value === undefined || pair.length !== 2) {
      throw new UsageError(
        `config set takes name=value, one or several; names are ${SETTING_FLAGS.join(', ')}`,
      )
    }
    const { flag } = settingOf(word)
    if (flag in settings) throw new UsageError(`${word} is given twice`)
    settings[flag] = value
  }
  if (words.length === 0) throw new UsageError(`config set takes name=value`)
  return settings
}
