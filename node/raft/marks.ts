/**
 * Marks: names on rare paths, so that the simulator can count which of them a run has reached and show those that nothing ever
 * reaches. Nothing depends on them, and outside a test nobody listens. A name is `part: what happened` and stands in one place only.
 */
let listener: ((name: string) => void) | null = null

export function mark(name: string): void {
  if (listener !== null) listener(name)
}

/** Tests only. One listener at a time; null ends it. */
export function listenToMarks(next: ((name: string) => void) | null): void {
  listener = next
}
