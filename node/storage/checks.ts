/** What every log asserts of a batch before it writes it: a log that broke one of these could never be read back. */
import type { Index } from '../raft/types.ts'
import type { Save } from './storage.ts'

/** `floor`: what was compacted, and all before it; `lastIndex`: the end of the log. Throws on a bug of the caller. */
export function checkSave(
  batch: Save,
  log: { readonly floor: Index; readonly lastIndex: Index },
): void {
  const { hardState, entries, base } = batch
  if (hardState !== null) {
    checkNumber(hardState.term)
    checkNumber(hardState.commit)
  }
  if (base !== undefined) {
    checkNumber(base.term)
    checkNumber(base.index)
    if (base.index === 0 || base.index < log.floor) {
      throw new Error(`bug: a base at ${base.index}, behind ${log.floor}, which was compacted`)
    }
  }
  const [first] = entries
  if (first === undefined) return
  for (const [i, entry] of entries.entries()) {
    checkNumber(entry.term)
    checkNumber(entry.index)
    if (entry.index !== first.index + i) throw new Error('bug: entries are not consecutive')
  }
  const firstIndex = (base?.index ?? log.floor) + 1
  const end = base === undefined ? log.lastIndex + 1 : firstIndex
  if (first.index < firstIndex || first.index > end) {
    throw new Error(`bug: entry ${first.index} does not touch the log [${firstIndex}, ${end - 1}]`)
  }
}

/** Eight bytes hold more than a number can, and the decoder takes no more than that: what is beyond would be lost. */
function checkNumber(value: number): void {
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new Error(`bug: ${value} cannot be written so that it is read back`)
  }
}
