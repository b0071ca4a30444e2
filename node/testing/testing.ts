/** What `raft-p2p/testing` exports: a cluster in virtual time for testing state machines. */
export { StorageError } from '../storage/storage.ts'
export type { Weather } from './sim-network.ts'
export {
  SimulatedCluster,
  type SimulatedClusterOptions,
  SimulatedRequestError,
} from './simulated-cluster.ts'
