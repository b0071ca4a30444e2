/** A hash over everything that happened, in order: two runs of a seed that differ anywhere end with different ones. */
export class RollingHash {
  #a = 0x811c9dc5
  #b = 0x2545f491

  add(one: number, two: number): void {
    this.#a = Math.imul(this.#a ^ (one >>> 0), 0x01000193)
    this.#b = Math.imul(this.#b ^ (two >>> 0), 0x85ebca6b)
    this.#a = (this.#a ^ (this.#b >>> 15)) | 0
    this.#b = (this.#b ^ (this.#a >>> 13)) | 0
  }

  hex(): string {
    return [this.#a, this.#b].map((lane) => (lane >>> 0).toString(16).padStart(8, '0')).join('')
  }
}
