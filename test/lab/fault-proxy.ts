import { Agent, createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import type { Fault } from './faults.ts'
import type { Gateway } from './gateway.ts'
import { S3Exchange } from './s3-exchange.ts'

/** A request as the proxy saw it. */
export interface SeenRequest {
  /** By AWS's name: `PutObject`, `UploadPart`. */
  operation: string
  method: string
  bucket: string
  key: string
  query: URLSearchParams
  headers: IncomingMessage['headers']
  /** What the client was given, once it was; undefined when its connection was reset or stalls. */
  status: number | undefined
}

export interface Injection {
  /** Whom it meets: an operation's name, or what is asked of each request. */
  match: string | ((request: SeenRequest) => boolean)
  /** How many requests it meets; default 1. */
  times?: number
  fault: Fault
}

/** A running injection. */
export interface Injected {
  /** How many requests it has met so far. */
  readonly met: number
}

/** Stands between an S3 client and the gateway, passes everything on as it is, and spoils what it is told to. */
export class FaultProxy implements AsyncDisposable {
  /** `http://127.0.0.1:port`, for the client. The gateway checks signatures with the client's `Host`, so they stay valid. */
  readonly endpoint: string
  /** All that came, in order. */
  readonly requests: SeenRequest[] = []
  /** Added to every request, as by a line of such a length. */
  latencyMs = 0
  readonly #gateway: Gateway
  readonly #server: Server
  readonly #agent = new Agent({ keepAlive: true })
  readonly #injections: (Required<Injection> & { met: number })[] = []

  private constructor(gateway: Gateway, server: Server) {
    this.#gateway = gateway
    this.#server = server
    this.endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    server.on('request', (request, response) => void this.#handle(request, response))
  }

  static async start(gateway: Gateway): Promise<FaultProxy> {
    const server = createServer({ requestTimeout: 0, keepAliveTimeout: 60_000 })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    return new FaultProxy(gateway, server)
  }

  /** From now on, the next requests that match are spoiled. Where several injections match, the earliest goes first. */
  inject(injection: Injection): Injected {
    const injected = { times: 1, ...injection, met: 0 }
    this.#injections.push(injected)
    return injected
  }

  /** Spoils nothing any more, and forgets what it saw. */
  reset(): void {
    this.#injections.length = 0
    this.requests.length = 0
    this.latencyMs = 0
  }

  /** The names of the operations that came, in order. */
  get operations(): string[] {
    return this.requests.map(({ operation }) => operation)
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const seen = describe(request)
    this.requests.push(seen)
    response.on('finish', () => {
      seen.status = response.statusCode
    })
    const injection = this.#injections.find(
      ({ match, times, met }) =>
        met < times && (typeof match === 'string' ? match === seen.operation : match(seen)),
    )
    if (injection) injection.met++
    const exchange = new S3Exchange(request, response, this.#gateway, this.#agent)
    try {
      if (this.latencyMs > 0) await pause(this.latencyMs)
      await (injection ? injection.fault(exchange) : exchange.pass())
    } catch {
      // One of the two went away; so the other is told.
      exchange.reset()
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve))
    this.#server.closeAllConnections()
    this.#agent.destroy()
    await closed
  }
}

/** https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html, by path. */
function describe({ method = '', url = '/', headers }: IncomingMessage): SeenRequest {
  const { pathname, searchParams: query } = new URL(url, 'http://gateway')
  const [, bucket = '', ...rest] = decodeURIComponent(pathname).split('/')
  const key = rest.join('/')
  const operation = key === '' ? operationOnBucket(method, query) : operationOnObject(method, query, headers)
  return { operation, method, bucket, key, query, headers, status: undefined }
}

function operationOnObject(method: string, query: URLSearchParams, headers: IncomingMessage['headers']) {
  const copy = headers['x-amz-copy-source'] === undefined ? '' : 'Copy'
  if (query.has('uploadId')) {
    const names: Record<string, string> = {
      PUT: `UploadPart${copy}`,
      POST: 'CompleteMultipartUpload',
      DELETE: 'AbortMultipartUpload',
      GET: 'ListParts',
    }
    return names[method] ?? method
  }
  if (query.has('uploads')) return 'CreateMultipartUpload'
  if (query.has('retention')) return method === 'PUT' ? 'PutObjectRetention' : 'GetObjectRetention'
  const names: Record<string, string> = {
    PUT: copy ? 'CopyObject' : 'PutObject',
    GET: 'GetObject',
    HEAD: 'HeadObject',
    DELETE: 'DeleteObject',
  }
  return names[method] ?? method
}

function operationOnBucket(method: string, query: URLSearchParams): string {
  if (method === 'HEAD') return 'HeadBucket'
  if (method !== 'GET') return query.has('delete') ? 'DeleteObjects' : method
  if (query.has('uploads')) return 'ListMultipartUploads'
  if (query.has('versioning')) return 'GetBucketVersioning'
  if (query.has('object-lock')) return 'GetObjectLockConfiguration'
  return query.has('versions') ? 'ListObjectVersions' : 'ListObjectsV2'
}
