// timeout: 300 s
/** Decoders of bytes: every byte of a valid input in turn becomes each of a list of values, and the input ends before it. */
import fc from 'fast-check'
import { suite } from 'uvu'
import { DECODERS } from './decoders.ts'
import { everyByte } from './laws.ts'
import { examined } from './open-findings.ts'
import { holds } from './runs.ts'

const RUNS = 8
/** The head of a segment is a block of zeros behind its fields. */
const BYTES_MAX = 150

const bytes = suite('every byte')

for (const row of DECODERS) {
  // JSON is taken apart as a tree elsewhere.
  if (row.kind !== 'bytes' || row.inner === 'json') continue
  bytes(row.name, () => {
    holds(
      fc.property(row.values, (value) => {
        const encoded: Uint8Array = row.encode(value)
        if (encoded.length <= BYTES_MAX) everyByte(row, encoded, (input) => examined(row, input))
      }),
      RUNS,
    )
  })
}

bytes.run()
