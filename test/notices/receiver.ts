import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { NoticeFacts } from '../../src/notices/facts.ts'

export interface Received {
  url: string
  headers: IncomingMessage['headers']
  facts: NoticeFacts
}

/** A web server that notices are sent to. */
export class Receiver implements AsyncDisposable {
  readonly received: Received[] = []
  readonly #server
  /** What it does once it has read all; by default it answers 200. */
  answer: (response: ServerResponse, received: Received) => void = (response) => void response.end()

  private constructor() {
    this.#server = createServer(async (request, response) => {
      let body = ''
      for await (const piece of request.setEncoding('utf8')) body += piece
      const received = { url: request.url!, headers: request.headers, facts: JSON.parse(body) }
      this.received.push(received)
      this.answer(response, received)
    })
  }

  static async create(): Promise<Receiver> {
    const receiver = new Receiver()
    receiver.#server.listen(0, '127.0.0.1')
    await once(receiver.#server, 'listening')
    return receiver
  }

  get host(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections()
    this.#server.close()
    await once(this.#server, 'close')
  }
}
