import { once } from 'node:events'
import { pipeline } from 'node:stream/promises'
import type { Change, S3Exchange } from './s3-exchange.ts'

/** What goes wrong with one request. */
export type Fault = (exchange: S3Exchange) => Promise<void>

/** S3 refuses what is signed for a time that is further from its own. */
const MOST_SKEW_MS = 15 * 60_000

/** "Please reduce your request rate." https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html, as all below. */
export const slowDown: Fault = (exchange) =>
  exchange.refuse(503, 'SlowDown', 'Please reduce your request rate.')

export const internalError: Fault = (exchange) =>
  exchange.refuse(500, 'InternalError', 'We encountered an internal error. Please try again.')

/** S3 says 200 before it has put the parts together, and an error in the body when it then could not. */
export const errorAfterOk: Fault = (exchange) =>
  exchange.refuse(200, 'InternalError', 'We encountered an internal error. Please try again.')

export const expiredToken: Fault = (exchange) =>
  exchange.refuse(400, 'ExpiredToken', 'The provided token has expired.')

/** A request that is signed for a time that is far from the store's, which is `aheadMs` later than the true one. */
export function wrongClock(aheadMs: number): Fault {
  return (exchange) => {
    const now = new Date(Date.now() + aheadMs)
    exchange.response.setHeader('date', now.toUTCString())
    const message = 'The difference between the request time and the current time is too large.'
    const details = { ServerTime: now.toISOString(), MaxAllowedSkewMilliseconds: String(MOST_SKEW_MS) }
    return exchange.refuse(403, 'RequestTimeTooSkewed', message, details)
  }
}

/** A store with such a clock takes what is signed for its time, and nothing else. */
export function clockAhead(aheadMs: number): Fault {
  return async (exchange) => {
    const now = Date.now() + aheadMs
    // 20261120T172900Z
    const [, day, hour, minute, second] = /^(\d{8})T(..)(..)(..)Z$/.exec(
      String(exchange.request.headers['x-amz-date']),
    )!
    const date = day!.replace(/(....)(..)(..)/, '$1-$2-$3')
    const signedFor = Date.parse(`${date}T${hour}:${minute}:${second}Z`)
    if (Math.abs(signedFor - now) > MOST_SKEW_MS) return wrongClock(aheadMs)(exchange)
    await exchange.pass({ without: ['x-amz-date'], headers: { date: new Date(now).toUTCString() } })
  }
}

export const accessDenied: Fault = (exchange) => exchange.refuse(403, 'AccessDenied', 'Access Denied')

export const noSuchUpload: Fault = (exchange) =>
  exchange.refuse(404, 'NoSuchUpload', 'The specified multipart upload does not exist.')

export const preconditionFailed: Fault = (exchange) =>
  exchange.refuse(412, 'PreconditionFailed', 'At least one of the pre-conditions you specified did not hold')

export const notImplemented: Fault = (exchange) =>
  exchange.refuse(
    501,
    'NotImplemented',
    'A header you provided implies functionality that is not implemented.',
  )

/** A store that has never heard of conditions writes as if there were none. */
export const ignoreConditions: Fault = (exchange) => exchange.pass({ without: ['if-none-match', 'if-match'] })

/** Before anything reached the store. */
export const resetAtOnce: Fault = async (exchange) => exchange.reset()

/** The store gets so many bytes of the body, and then nothing more. */
export function resetUpload(afterBytes: number): Fault {
  return (exchange) => exchange.pass({ upload: cut(afterBytes) })
}

/** The store has done what was asked, and the client does not learn of it. */
export const lostAnswer: Fault = async (exchange) => {
  for await (const _ of await exchange.ask());
  exchange.reset()
}

/** The client gets so many bytes of the body, then its connection is reset. */
export function resetDownload(afterBytes: number): Fault {
  return (exchange) => exchange.pass({ download: cut(afterBytes) })
}

/** The body ends early, and in good order: the connection is closed before the bytes that the head promised. */
export function closeDownload(afterBytes: number): Fault {
  return async (exchange) => {
    const answer = await exchange.ask()
    exchange.begin(answer)
    for await (const chunk of first(afterBytes, answer)) exchange.response.write(chunk)
    exchange.response.socket!.end()
  }
}

/** The head promises fewer bytes than there are: the client sees a shorter object. */
export function shortDownload(bytes: number): Fault {
  return async (exchange) => {
    const answer = await exchange.ask()
    exchange.begin(answer, { 'content-length': String(bytes) })
    for await (const chunk of first(bytes, answer)) exchange.response.write(chunk)
    exchange.response.end()
    answer.destroy()
  }
}

/** The head does not say how many bytes there are, as from a proxy that changes bodies on their way. */
export const unmeasuredDownload: Fault = async (exchange) => {
  const answer = await exchange.ask()
  exchange.begin(answer, {}, ['content-length'])
  await pipeline(answer, exchange.response)
}

/** Takes so many bytes, and then no more, for as long as the client waits. */
export function stallUpload(afterBytes: number): Fault {
  return (exchange) => exchange.pass({ upload: hang(afterBytes, exchange) })
}

/** Gives so many bytes, and then no more, for as long as the client waits. */
export function stallDownload(afterBytes: number): Fault {
  return (exchange) => exchange.pass({ download: hang(afterBytes, exchange) })
}

/** One byte of the body that the store gets is another. */
export function wrongUpload(at: number): Fault {
  return (exchange) => exchange.pass({ upload: flip(at) })
}

/** One byte of the body that the client gets is another. */
export function wrongDownload(at: number): Fault {
  return (exchange) => exchange.pass({ download: flip(at) })
}

/** An error that both ends of the exchange see as a reset. */
function cut(afterBytes: number): Change {
  return async function* (bytes) {
    yield* first(afterBytes, bytes)
    throw new Error('cut off')
  }
}

function hang(afterBytes: number, { response }: S3Exchange): Change {
  return async function* (bytes) {
    yield* first(afterBytes, bytes)
    await once(response, 'close')
  }
}

function flip(at: number): Change {
  return async function* (bytes) {
    let offset = 0
    for await (const chunk of bytes) {
      const index = at - offset
      if (index >= 0 && index < chunk.length) chunk[index] = chunk[index]! ^ 1
      offset += chunk.length
      yield chunk
    }
  }
}

/** Leaves the source open behind them: who ends a stream's iterator ends its connection. */
async function* first(count: number, bytes: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const chunks = bytes[Symbol.asyncIterator]()
  for (let left = count; left > 0; ) {
    const { value, done } = await chunks.next()
    if (done) return
    yield value.subarray(0, left)
    left -= value.length
  }
}
