/** Who waits for a backup: it is never older than the question, and nobody waits for ever. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { type ErrorBody, errorBody } from '../../client/protocol.ts'
import type { Backup } from '../../node/service.ts'
import { Backups, backupAfterRead } from '../../node/snapshot-backup.ts'
import type { SnapshotInfo, SnapshotStorage } from '../../node/storage/snapshots.ts'

const backups = suite('backups')

const storage = {
  open: () => ({ read: () => undefined, close: () => undefined }),
} as unknown as SnapshotStorage

function info(index: number): SnapshotInfo {
  return {
    index,
    term: 1,
    clusterId: 'c'.repeat(32),
    sizeBytes: 1,
    checksum: 'd'.repeat(64),
  } as SnapshotInfo
}

function asked() {
  const got: (Backup | ErrorBody)[] = []
  return { got, answer: (given: Backup | ErrorBody) => got.push(given) }
}

const what = (given: Backup | ErrorBody | undefined): string | number =>
  given === undefined ? 'nothing' : 'code' in given ? given.code : given.info.index

backups('a snapshot from before the question is no answer to it', () => {
  const made = new Backups(storage)
  const early = asked()
  const late = asked()
  made.want(5, early.answer)
  made.want(9, late.answer)
  made.taken(info(7))
  assert.equal([what(early.got[0]), what(late.got[0])], [7, 'nothing'])
  assert.ok(made.wanted)
  made.taken(info(9))
  assert.is(what(late.got[0]), 9)
  assert.not(made.wanted)
})

backups('who gives up is not answered, and a failure answers all', () => {
  const made = new Backups(storage)
  const gone = asked()
  const left = asked()
  made.want(1, gone.answer)()
  made.want(1, left.answer)
  made.failed(errorBody('disk-full', 'no room'))
  assert.equal([gone.got.length, what(left.got[0])], [0, 'disk-full'])
})

backups('there is a limit to those that wait', () => {
  const made = new Backups(storage)
  for (let i = 0; i < 8; i++) made.want(1, asked().answer)
  const last = asked()
  made.want(1, last.answer)
  assert.is(what(last.got[0]), 'overloaded')
})

backups('the read before it decides whether it begins', () => {
  const outcomes = (['bad-request', 'no-leader'] as const).map((code) => {
    let begun = 0
    let answerRead = (): void => undefined
    const wanted = asked()
    backupAfterRead(
      (_, answer) => {
        answerRead = () => answer({ ok: false, error: errorBody(code, '') })
        return () => undefined
      },
      () => {
        begun++
        return () => undefined
      },
      wanted.answer,
    )
    answerRead()
    return [begun, what(wanted.got[0])]
  })
  assert.equal(outcomes, [
    [1, 'nothing'],
    [0, 'no-leader'],
  ])
})

backups.run()
