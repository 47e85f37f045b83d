import type { Run } from './context.ts'

export const run: Run = async ({ args }, context) => {
  const script = await context.completion(args[0] as 'bash' | 'zsh' | 'fish')
  return { text: script, json: { script } }
}
