/** What a simulated run can find. The kind decides the exit code. */
export type FailureKind =
  /** The code threw what it must not throw, or a node ended without a fault that explains it. */
  | 'crash'
  /** After healing no progress, or no agreement. */
  | 'liveness'
  /** Something was promised and is not so. */
  | 'correctness'

export const EXIT_CODES: Readonly<Record<FailureKind, number>> = {
  crash: 10,
  liveness: 11,
  correctness: 12,
}

export class SimFailure extends Error {
  override readonly name = 'SimFailure'
  readonly kind: FailureKind
  /** Which check found it: a short, stable name. */
  readonly check: string

  constructor(kind: FailureKind, check: string, what: string) {
    super(what)
    this.kind = kind
    this.check = check
  }
}

export function wrong(check: string, what: string): never {
  throw new SimFailure('correctness', check, what)
}
