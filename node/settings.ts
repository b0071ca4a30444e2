/**
 * The replicated settings as an operator changes them while the cluster runs: by the rules of config.ts, which knows what each
 * flag may be. What is not named stays as it is.
 */
import { gatherOptions, REPLICATED_SETTINGS, resolveOptions, UsageError } from './config.ts'

/** The name in the configuration entry -> the flag of `join` that only seeds it. */
const FLAG_OF = { ...REPLICATED_SETTINGS, admit: 'admit' } as const
type Name = keyof typeof FLAG_OF
const NAMES = Object.keys(FLAG_OF) as Name[]

export type Settings = Readonly<Record<string, number | string | boolean>>

/** What `config set` takes, for help and completion: flag names. */
export const SETTING_FLAGS: readonly string[] = Object.values(FLAG_OF)

/**
 * Reads settings by their own names (`maxVoters`) or by their flags (`max-voters`), as numbers or as texts such as `10m`, and checks
 * them together with the `present` ones. Returns those that were given, in milliseconds and bytes. Throws UsageError.
 */
export function readSettings(given: unknown, present: Settings): Record<string, number | string> {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    throw new UsageError('settings are an object of names and values')
  }
  const wanted = new Map<Name, unknown>()
  for (const [word, value] of Object.entries(given)) {
    const { name } = settingOf(word)
    if (wanted.has(name)) throw new UsageError(`${word} is given twice`)
    if (typeof value !== 'string' && typeof value !== 'number') {
      throw new UsageError(`${word} takes a text or a number`)
    }
    wanted.set(name, value)
  }
  if (wanted.size === 0) throw new UsageError(`name a setting: ${SETTING_FLAGS.join(', ')}`)
  const flags: Record<string, unknown> = {}
  for (const name of NAMES) flags[FLAG_OF[name]] = wanted.get(name) ?? present[name]
  // How many founded the cluster limits nothing any more.
  if (!wanted.has('expect')) flags.expect = 1
  const options = resolveOptions(gatherOptions({ flags, env: {} }), {
    topic: '',
    isPhrase: true,
    isTty: false,
  })
  return Object.fromEntries([...wanted.keys()].map((name) => [name, options[name]]))
}

/** By either name. Throws UsageError. */
export function settingOf(word: string): { readonly name: Name; readonly flag: string } {
  const name = NAMES.find((one) => one === word || FLAG_OF[one] === word)
  if (name !== undefined) return { name, flag: FLAG_OF[name] }
  throw new UsageError(
    `${JSON.stringify(word.slice(0, 40))} is no setting; there are ${SETTING_FLAGS.join(', ')}`,
  )
}
