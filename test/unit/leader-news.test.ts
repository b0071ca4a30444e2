/** What clients are told of the leader, on a node that hears of the leader before it knows the members. */
import { suite } from 'uvu'
import * as assert from 'uvu/assert'
import { KvMachine } from '../../node/machine/kv.ts'
import type { LeaderInfo } from '../../node/service.ts'
import { Dice } from '../../node/testing/dice.ts'
import { SimMachine } from '../../node/testing/sim-machine.ts'
import { CALM, SimNetwork } from '../../node/testing/sim-network.ts'
import { Timeline } from '../../node/testing/timeline.ts'

const news = suite('news of the leader')

news('a node that joins tells its clients who leads as soon as it knows the members', () => {
  const timeline = new Timeline()
  const dice = new Dice(7)
  const network = new SimNetwork(timeline, new Dice(dice.next()), CALM, { recode: null })
  const hooks = {
    crashed: (_: unknown, error: unknown) => {
      throw error
    },
  }
  const machineOf = (index: number): SimMachine =>
    new SimMachine({ timeline, network, hooks }, new Dice(dice.next()), {
      index,
      name: `n${index}`,
      expect: 1,
      mayFound: index === 0,
      heartbeatMs: 100,
      electionMs: 1000,
      autopilot: { maxVoters: 1, replaceAfterMs: 600_000, admit: 'auto' },
      makeStateMachine: () => new KvMachine(),
      clockPpm: 1_000_000,
      turnUs: 10,
    })
  const run = (ms: number): void => timeline.runUntil(timeline.nowUs + ms * 1000, () => false)
  const founder = machineOf(0)
  founder.start()
  run(20_000)
  assert.is(founder.process?.runtime?.leader().leaderId, 1)
  const joiner = machineOf(1)
  joiner.start()
  const told: LeaderInfo[] = []
  joiner.process?.runtime?.onLeaderChange((leader) => told.push(leader))
  run(20_000)
  assert.is(joiner.process?.runtime?.readiness().ready, true)
  assert.is(joiner.process?.runtime?.leader().leaderId, 1)
  assert.is(told.at(-1)?.leaderId, 1)
  assert.ok(told.at(-1)?.leaderUrl)
})

news.run()
