/**
 * Assertions of the core. They stay on in production: a node that stops is better than one that lies.
 */
export class InvariantError extends Error {
  override readonly name = 'InvariantError'
}

export function invariant(condition: boolean, what: string): asserts condition {
  if (!condition) throw new InvariantError(what)
}

export function unreachable(value: never): never {
  throw new InvariantError(`unreachable: ${JSON.stringify(value)}`)
}
