import type { Socket } from 'node:net'
import { PgrecallError } from '../errors.ts'

/** How long somebody waits who only looks at a server: one that is stuck accepts a connection, and answers nothing. */
export interface Patience {
  /** For one answer, milliseconds. */
  answerMs: number
  /** Ends every wait at once. */
  signal: AbortSignal
}

/**
 * Waits for an answer over a connection. When that takes too long the connection is destroyed, so that whatever waits for it
 * fails: nobody says goodbye to a server that is stuck.
 * @param patience when left out, it may take as long as it takes
 * @returns what `answer` gives
 * @throws whatever `answer` throws, which for a connection that was given up is a PgrecallError `connection` or the signal's reason
 */
export async function patiently<T>(
  answer: Promise<T>,
  socket: Socket,
  patience: Patience | undefined,
): Promise<T> {
  if (!patience) return await answer
  const { answerMs, signal } = patience
  const stop = () =>
    socket.destroy(signal.reason instanceof Error ? signal.reason : new Error('told to stop'))
  const timer = setTimeout(() => socket.destroy(noAnswer(answerMs)), answerMs)
  signal.addEventListener('abort', stop)
  if (signal.aborted) stop()
  try {
    return await answer
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', stop)
  }
}

/** A server that is not stuck ends by itself, and before the session is given up, what takes too long. Milliseconds. */
export const statementTimeout = (patience: Patience | undefined) =>
  Math.floor((patience?.answerMs ?? 0) * 0.8)

function noAnswer(answerMs: number): PgrecallError {
  return new PgrecallError('connection', `no answer within ${answerMs / 1000} s`, {
    hint: 'the server accepts connections and says nothing: is it stopped, or does its disk hang?',
  })
}
