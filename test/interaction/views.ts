/** What is so at one moment: logs side by side as in the figures of the paper, the status of a node, what its disk holds. */
import type { Raft } from '../../node/raft/raft.ts'
import { aloneLine, entriesText, hardStateText, idText, saveText, type Words } from './format.ts'
import { progressText, see, stateText } from './observe.ts'
import type { WorldNode } from './world-node.ts'

/** Terms by index, as in figure 7. `|` stands behind what is committed; what is not yet stable is in parentheses. */
export function logLines(nodes: readonly WorldNode[]): string[] {
  const last = Math.max(...nodes.map(({ actor }) => actor.raft.log.lastIndex))
  const header = Array.from({ length: last }, (_, at) => cell(`${at + 1}`)).join('')
  return [
    aloneLine('', `index ${header}`.trimEnd()),
    ...nodes.map((node) => aloneLine(node.name, `term  ${termCells(node.actor.raft)}`.trimEnd())),
  ]
}

function termCells({ log }: Raft): string {
  const cells = Array.from({ length: log.lastIndex }, (_, at) => {
    const index = at + 1
    if (index < log.firstIndex) return cell(index === log.commitIndex ? '.|' : '.')
    const term = index > log.stableIndex ? `(${log.termAt(index)})` : `${log.termAt(index)}`
    return cell(index === log.commitIndex ? `${term}|` : term)
  })
  return cells.join('')
}

function cell(text: string): string {
  return text.padEnd(5)
}

export function statusLines(words: Words, node: WorldNode): string[] {
  if (!node.up) return [aloneLine(node.name, 'is down')]
  const { raft } = node.actor
  const { log, vote } = raft
  const last = idText({ term: log.lastTerm, index: log.lastIndex })
  const first = log.base.index === 0 ? '' : `first=${log.firstIndex} `
  const flags = [raft.saveStuck ? ' save-stuck' : '', raft.diskFull ? ' disk-full' : ''].join('')
  const seen = see(raft)
  const lines = [
    `${stateText(words, seen)}, vote ${vote === null ? 'none' : words.nameOf(vote)}: ` +
      `${first}last=${last} stable=${log.stableIndex} commit=${log.commitIndex} applied=${log.appliedIndex}${flags}`,
  ]
  if (node.saving !== null) lines.push(`  save in flight: ${saveText(words, node.saving)}`)
  for (const [peer, progress] of seen.progress) {
    const paused = progress.paused ? ' paused' : ''
    lines.push(
      `  ${words.nameOf(peer)}: ${progressText(progress)} inflight=${progress.inflight}${paused}`,
    )
  }
  return lines.map((line) => aloneLine(node.name, line))
}

export function diskLines(words: Words, { name, disk }: WorldNode): string[] {
  const state = hardStateText(words, disk.hardState)
  const { base, snapshot, entries } = disk
  const before = base === undefined ? '' : ` base=${idText(base)}`
  const file = snapshot === undefined ? '' : ` snapshot=${idText(snapshot.id)}`
  return [aloneLine(name, `disk: ${state}${before} entries=${entriesText(words, entries)}${file}`)]
}
