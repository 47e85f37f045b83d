import { readFileSync } from 'node:fs'
import { setTimeout as wait } from 'node:timers/promises'
import { reasonOf, systemCode } from '../errors.ts'
import type { NoticeFacts, Occasion } from './facts.ts'
import type { Told } from './run-hook.ts'
import type { TimeLimit } from './time-limit.ts'

/** A web address that the facts are sent to. Where it comes from is one of three; the address may be a secret. */
export interface Notice {
  url?: string | undefined
  /** A file with the address on its first line. */
  urlFile?: string | undefined
  /** A variable of the environment that holds it. */
  urlVariable?: string | undefined
  on: Occasion[]
  operations: string[]
  timeoutMs: number
}

/** Before the second and the third try. */
const PAUSES_MS = [1000, 4000]

/** With a result that makes it larger, a receiver gets none: a large backup's record has a line for each of its objects. */
const LARGEST_BODY_BYTES = 128 * 1024

/** The name of a notice in sentences: its host is told, and nothing else of its address. */
export function nameOfNotice(notice: Notice, env: Record<string, string | undefined>): string {
  try {
    return `the notice to ${addressOf(notice, env).host}`
  } catch {
    return `the notice to the address in ${placeOf(notice)}`
  }
}

/**
 * Posts the facts. What may be over soon (no answer, 408, 429, 5xx) is tried again, within the time limit; a receiver
 * may get the same facts twice then. A redirect is not followed: it could lead the facts to anybody.
 */
export async function sendNotice(
  notice: Notice,
  json: string,
  env: Record<string, string | undefined>,
  limit: TimeLimit,
): Promise<Told> {
  let failure: string
  try {
    const address = addressOf(notice, env)
    for (let tries = 0; ; tries++) {
      const answer = await post(address, json, limit)
      if (answer.isGood) return { failure: undefined, output: '' }
      failure = limit.signal.aborted ? limit.reason() : answer.failure
      const pauseMs = PAUSES_MS[tries]
      if (!answer.isPassing || pauseMs === undefined || performance.now() + pauseMs >= limit.endMs) break
      await wait(pauseMs, undefined, { signal: limit.signal }).catch(() => {})
      if (limit.signal.aborted) break
    }
  } catch (error) {
    failure = reasonOf(error)
  }
  return { failure, output: '' }
}

type Answer = { isGood: true } | { isGood: false; failure: string; isPassing: boolean }

async function post(address: URL, body: string, { signal }: TimeLimit): Promise<Answer> {
  const headers: Record<string, string> = { 'content-type': 'application/json', 'user-agent': 'pgrecall' }
  const url = new URL(address)
  if (url.username !== '') {
    const login = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`
    headers.authorization = `Basic ${Buffer.from(login).toString('base64')}`
    url.username = ''
    url.password = ''
  }
  try {
    const response = await fetch(url, { method: 'POST', headers, body, signal, redirect: 'manual' })
    await response.body?.cancel()
    const { status } = response
    if (response.ok) return { isGood: true }
    const isRedirect = status >= 300 && status < 400
    return {
      isGood: false,
      failure: `was answered with ${status}${isRedirect ? ', a redirect, which is not followed' : ''}`,
      isPassing: status >= 500 || status === 408 || status === 429,
    }
  } catch (error) {
    return { isGood: false, failure: `got no answer (${codeOf(error)})`, isPassing: true }
  }
}

/** The code only: a message may repeat the address. */
function codeOf(error: unknown): string {
  const cause =
    error instanceof Error && error.cause instanceof AggregateError ? error.cause.errors[0] : error
  return systemCode(cause) ?? systemCode((cause as Error).cause) ?? 'no reason is known'
}

const placeOf = ({ url, urlFile, urlVariable }: Notice) =>
  url !== undefined ? 'the configuration' : (urlFile ?? `the variable ${urlVariable}`)

/** @throws Error with what to put behind the notice's name; no part of the address is in it */
function addressOf(notice: Notice, env: Record<string, string | undefined>): URL {
  const text =
    notice.url ?? (notice.urlFile === undefined ? env[notice.urlVariable!] : firstLine(notice.urlFile))
  if (!text) throw new Error('has no address: there is none')
  if (!URL.canParse(text) || !/^https?:$/.test(new URL(text).protocol))
    throw new Error('has no address: what stands there is no URL that begins with https:// or http://')
  return new URL(text)
}

function firstLine(file: string): string {
  try {
    return readFileSync(file, 'utf8').split(/\r?\n/, 1)[0]!.trim()
  } catch (error) {
    throw new Error(`has no address: the file cannot be read (${systemCode(error) ?? 'no reason is known'})`)
  }
}

/** The facts as JSON, without a result that is too large. */
export function jsonForNotice(facts: NoticeFacts, asJson: (value: unknown) => string): string {
  const json = asJson(facts)
  return Buffer.byteLength(json) <= LARGEST_BODY_BYTES ? json : asJson({ ...facts, result: null })
}
