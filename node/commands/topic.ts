/** `raft-p2p topic`: a new random topic. It is printed and kept nowhere. */
import { randomTopic } from '../topic.ts'
import { EXIT, type Invocation, printJson, printLine } from './command.ts'

export async function run({ io, json }: Invocation): Promise<number> {
  const topic = randomTopic()
  if (json) printJson(io, { topic })
  else printLine(io, topic)
  return EXIT.ok
}
