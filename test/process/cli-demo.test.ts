// timeout: 150 s
/** However the demo ends, no process and no file stays behind; its dot commands do what they say to real processes. */
import { randomUUID } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { cleanUp, eventually, Running, runtimeCommand, temporaryDirectory } from './harness.ts'

const demo = suite('the end of a demo')
demo.after(async () => {
  // Only after a failure is there anything to end.
  for (const pid of marks.flatMap(marked)) process.kill(pid, 'SIGKILL')
  await cleanUp()
})

const marks: string[] = []

interface Started {
  readonly running: Running
  readonly directory: string
  /** Processes of this demo that are not yet waited for, the demo itself included. */
  readonly processes: () => number[]
}

function start(): Started {
  const mark = randomUUID()
  marks.push(mark)
  const directory = temporaryDirectory()
  const running = new Running({
    command: [...runtimeCommand('node'), 'demo'],
    env: { RAFT_TEST_MARK: mark, TMPDIR: directory },
    stdin: true,
  })
  running.child.stdin?.on('error', () => {})
  return { running, directory, processes: () => marked(mark) }
}

function marked(mark: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/environ`, 'utf8').includes(mark)
      } catch {
        return false
      }
    })
}

async function says(started: Started, pattern: RegExp): Promise<void> {
  await eventually(
    () => `${pattern}\n${started.running.tail()}`,
    () => {
      if (started.running.exit !== null) throw new Error(`ended early\n${started.running.tail()}`)
      return pattern.test(started.running.stdout)
    },
  )
}

async function nothingStays({ directory, processes }: Started): Promise<void> {
  await eventually(
    () => `no process left: ${processes().join(' ')}`,
    () => processes().length === 0,
  )
  await eventually(
    () => `no file left: ${readdirSync(directory).join(' ')}`,
    () => readdirSync(directory).length === 0,
  )
}

demo('SIGTERM: exit 0, and nothing stays', async () => {
  const started = start()
  started.running.write('put a 1\n')
  await says(started, /Success! Set "a" to: "1"/)
  assert.is(started.processes().length, 4)
  assert.equal(await started.running.stop(), { code: 0, signal: null })
  await nothingStays(started)
})

demo('a signal while it starts: nothing stays', async () => {
  const started = start()
  await eventually('the first node is started', () => started.processes().length > 1)
  started.running.signal('SIGINT')
  await started.running.ended()
  await nothingStays(started)
})

demo('kill -9 of the demo: its nodes notice, a frozen one too', async () => {
  const started = start()
  started.running.write('put a 1\n.pause n1\n')
  await says(started, /paused n1/)
  assert.is(started.processes().length, 4)
  await started.running.kill()
  await nothingStays(started)
})

demo('.kill, .restart, .pause and .resume act on real processes', async () => {
  const started = start()
  started.running.write('put a 1\n.kill leader\n')
  await says(started, /killed n[123]/)
  assert.is(started.processes().length, 3)
  const [, killed = ''] = /killed (n[123])/.exec(started.running.stdout) ?? []
  started.running.write(`put b 2\n.restart ${killed}\n`)
  await says(started, new RegExp(`restarted ${killed}`))
  assert.is(started.processes().length, 4)
  const other = killed === 'n1' ? 'n2' : 'n1'
  started.running.write(`.pause ${other}\nput c 3\n.resume ${other}\n.nodes\n.kill n9\n`)
  await says(started, new RegExp(`resumed ${other}`))
  started.running.child.stdin?.end('get c\n')
  const { code } = await started.running.ended()
  assert.match(started.running.stdout, /Success! Set "c" to: "3"/)
  assert.is(code, 2, `the first failed command is .kill n9\n${started.running.tail()}`)
  await nothingStays(started)
})

demo.run()
