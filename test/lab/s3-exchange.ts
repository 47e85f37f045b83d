import { type Agent, type IncomingMessage, request as openRequest, type ServerResponse } from 'node:http'
import { pipeline } from 'node:stream/promises'
import type { Gateway } from './gateway.ts'

/** Bytes on their way, one chunk after the other, which may change there. */
export type Change = (bytes: AsyncIterable<Buffer>) => AsyncIterable<Buffer>

export interface Ask {
  /** What the gateway gets of the client's body. */
  upload?: Change
  /** Headers that it does not get, in small letters; what remains is signed anew. */
  without?: string[]
}

/** One request of a client, which a fault may pass on, answer by itself, or break off. */
export class S3Exchange {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly #gateway: Gateway
  readonly #agent: Agent

  constructor(request: IncomingMessage, response: ServerResponse, gateway: Gateway, agent: Agent) {
    this.request = request
    this.response = response
    this.#gateway = gateway
    this.#agent = agent
  }

  /** To the gateway and back, as if nobody stood between. */
  async pass(options: Ask & { download?: Change; headers?: Record<string, string> } = {}): Promise<void> {
    const answer = await this.ask(options)
    this.begin(answer, options.headers)
    await pipeline(options.download?.(answer) ?? answer, this.response)
  }

  /** Sends the request to the gateway. @returns its answer, of which the head is there and the body comes */
  async ask({ upload, without }: Ask = {}): Promise<IncomingMessage> {
    const { hostname, port } = new URL(this.#gateway.endpoint)
    const { method, url: path } = this.request
    // The client was told to continue by us; the gateway need not be asked.
    const headers = without
      ? await this.#signedAnew(without)
      : pairs(this.request.rawHeaders).filter(([name]) => name.toLowerCase() !== 'expect')
    const outgoing = openRequest({
      hostname,
      port,
      method,
      path,
      headers: headers.flat(),
      agent: this.#agent,
    })
    this.response.once('close', () => {
      if (!this.response.writableFinished) outgoing.destroy()
    })
    const { promise: answer, resolve, reject } = Promise.withResolvers<IncomingMessage>()
    outgoing.once('response', resolve)
    outgoing.once('error', reject)
    answer.catch(() => {})
    // A gateway that refuses early takes no more of the body: then its answer counts, and not the broken pipe.
    await pipeline(upload?.(this.request) ?? this.request, outgoing).catch(reject)
    return answer
  }

  /** Gives the client the head of an answer, with other headers where some are named in small letters. */
  begin(answer: IncomingMessage, changed: Record<string, string> = {}, left: readonly string[] = []): void {
    const headers = pairs(answer.rawHeaders)
      .filter(([name]) => !left.includes(name.toLowerCase()))
      .map(([name, value]) => [name, changed[name.toLowerCase()] ?? value])
    this.response.writeHead(answer.statusCode!, answer.statusMessage, headers.flat())
  }

  /** Answers without the gateway, as S3 tells errors; the body of the request is read first. */
  async refuse(
    status: number,
    code: string,
    message: string,
    more: Record<string, string> = {},
  ): Promise<void> {
    for await (const _ of this.request);
    const elements = Object.entries({ Code: code, Message: message, ...more, RequestId: 'LAB' })
    const inner = elements.map(([name, value]) => `<${name}>${value}</${name}>`).join('')
    this.response.writeHead(status, { 'content-type': 'application/xml' })
    const body = `<?xml version="1.0" encoding="UTF-8"?>\n<Error>${inner}</Error>`
    this.response.end(this.request.method === 'HEAD' ? '' : body)
  }

  /** Breaks the client's connection off, in the way that it cannot mistake for an end. */
  reset(): void {
    this.request.socket.resetAndDestroy()
  }

  async #signedAnew(without: string[]): Promise<[string, string][]> {
    const dropped = new Set([...without, 'authorization', 'expect'])
    const kept = pairs(this.request.rawHeaders).filter(([name]) => !dropped.has(name.toLowerCase()))
    const { pathname, searchParams } = new URL(this.request.url!, this.#gateway.endpoint)
    const signer = await this.#gateway.client.config.signer()
    const signed = await signer.sign({
      method: this.request.method!,
      protocol: 'http:',
      hostname: this.request.headers.host!,
      path: pathname,
      query: Object.fromEntries(searchParams),
      headers: Object.fromEntries(kept.map(([name, value]) => [name.toLowerCase(), value])),
    })
    return Object.entries(signed.headers)
  }
}

function pairs(rawHeaders: string[]): [string, string][] {
  return Array.from({ length: rawHeaders.length / 2 }, (_, index) => [
    rawHeaders[2 * index]!,
    rawHeaders[2 * index + 1]!,
  ])
}
