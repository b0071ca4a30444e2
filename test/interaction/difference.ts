/** The difference between an expected and an actual output, as a unified diff that names file and line. */

const CONTEXT_LINES = 3

interface Step {
  readonly sign: ' ' | '-' | '+'
  readonly text: string
}

/** Null when there is none. `line` is the file's line, from 1, of the first expected line. */
export function differenceOf(compared: {
  readonly path: string
  readonly line: number
  readonly expected: readonly string[]
  readonly actual: readonly string[]
}): string | null {
  const steps = stepsOf(compared.expected, compared.actual)
  const first = steps.findIndex(({ sign }) => sign !== ' ')
  if (first === -1) return null
  const shown = steps.map((_, at) =>
    steps
      .slice(Math.max(0, at - CONTEXT_LINES), at + CONTEXT_LINES + 1)
      .some(({ sign }) => sign !== ' '),
  )
  const lines = [`${compared.path}:${compared.line + first}: the output differs`]
  lines.push('--- expected', '+++ actual')
  let line = compared.line
  steps.forEach(({ sign, text }, at) => {
    if (shown[at] && !shown[at - 1]) lines.push(`@@ line ${line} @@`)
    if (shown[at]) lines.push(`${sign}${text}`)
    if (sign !== '+') line++
  })
  return lines.join('\n')
}

/** The shortest way from one to the other, by the longest common subsequence. Outputs are short: quadratic is good enough. */
function stepsOf(expected: readonly string[], actual: readonly string[]): Step[] {
  const columns = actual.length + 1
  const common = new Array<number>((expected.length + 1) * columns).fill(0)
  const at = (i: number, j: number): number => common[i * columns + j] as number
  for (let i = expected.length - 1; i >= 0; i--) {
    for (let j = actual.length - 1; j >= 0; j--) {
      common[i * columns + j] =
        expected[i] === actual[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1))
    }
  }
  const steps: Step[] = []
  let i = 0
  let j = 0
  while (i < expected.length || j < actual.length) {
    if (i < expected.length && expected[i] === actual[j]) {
      steps.push({ sign: ' ', text: expected[i++] as string })
      j++
    } else if (j >= actual.length || (i < expected.length && at(i + 1, j) >= at(i, j + 1))) {
      steps.push({ sign: '-', text: expected[i++] as string })
    } else {
      steps.push({ sign: '+', text: actual[j++] as string })
    }
  }
  return steps
}
