/** Every mark that stands in production code, so that one that nothing reaches is seen. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const CODE = fileURLToPath(new URL('../../node', import.meta.url))

export function marksInCode(directory: string = CODE): string[] {
  return readdirSync(directory, { withFileTypes: true })
    .flatMap((entry) => {
      const path = join(directory, entry.name)
      if (entry.isDirectory()) return marksInCode(path)
      if (!entry.name.endsWith('.ts')) return []
      const found = readFileSync(path, 'utf8').matchAll(/\bmark\('([^']+)'\)/g)
      return [...found].map((match) => match[1] as string)
    })
    .sort()
}
