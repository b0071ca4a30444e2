/** Tables: drawn and coloured on a terminal, tab-separated elsewhere, where another program reads them. */
import Table from 'cli-table3'
import type { View } from './types.ts'

/** Cells hold harmless text already. Returns text with its newline. */
export function tableText(
  view: View,
  head: readonly string[],
  rows: readonly (readonly string[])[],
): string {
  if (view.style !== 'terminal') return rows.map((row) => `${row.join('\t')}\n`).join('')
  const table = new Table({
    head: [...head],
    // No line between rows: more of them fit on a screen.
    chars: { mid: '', 'left-mid': '', 'mid-mid': '', 'right-mid': '' },
    style: { head: view.color ? ['cyan'] : [], border: view.color ? ['grey'] : [] },
  })
  const room = Math.max(12, Math.floor((view.width() - 3 * head.length - 1) / head.length))
  const spare = spareRoom(view, head, rows, room)
  for (const row of rows) table.push(row.map((cell) => cut(cell, room + spare)))
  return `${table.toString()}\n`
}

/** Columns that need less than their share leave the rest to the widest one. */
function spareRoom(
  view: View,
  head: readonly string[],
  rows: readonly (readonly string[])[],
  room: number,
): number {
  const widths = head.map((name, column) =>
    Math.max(name.length, ...rows.map((row) => row[column]?.length ?? 0)),
  )
  const narrow = widths.reduce((sum, width) => sum + Math.min(width, room), 0)
  return Math.max(0, view.width() - 3 * head.length - 1 - narrow)
}

function cut(text: string, lengthMax: number): string {
  const symbols = [...text]
  return symbols.length <= lengthMax ? text : `${symbols.slice(0, lengthMax - 1).join('')}…`
}
