import type { ProbeFinding } from '../storage/storage.ts'

/** What is said of one thing: whether it works, in a sentence, and how to mend it: a command, or a line to paste. */
export type Finding = ProbeFinding
