import { createServer, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import type { ConnectionOptions } from '../../src/postgres/server.ts'
import type { Scratch } from '../lab/scratch.ts'

/** A message of the server: its type, and its content. */
export function message(type: string, ...content: (Buffer | string)[]): Buffer {
  const body = Buffer.concat(content.map((part) => (typeof part === 'string' ? Buffer.from(part) : part)))
  const head = Buffer.alloc(5)
  head.write(type, 0, 'latin1')
  head.writeInt32BE(body.length + 4, 1)
  return Buffer.concat([head, body])
}

/** A result set of text columns. */
export function resultSet(columns: string[], rows: (string | null)[][]): Buffer {
  const fields = columns.map((name) => Buffer.concat([Buffer.from(`${name}\0`), Buffer.alloc(18)]))
  const values = rows.map((row) =>
    message('D', int16(row.length), ...row.map((value) => (value === null ? int32(-1) : sized(value)))),
  )
  return Buffer.concat([message('T', int16(columns.length), ...fields), ...values, message('C', 'SELECT\0')])
}

export const copyOut = (...data: (Buffer | string)[]) =>
  Buffer.concat([message('H', '\0', int16(0)), ...data.map((chunk) => message('d', chunk)), message('c')])

export const error = (severity: string, code: string, text: string) =>
  message('E', `S${severity}\0V${severity}\0C${code}\0M${text}\0\0`)

export const copyIn = message('G', '\0', int16(0))
export const complete = (tag: string) => message('C', `${tag}\0`)
export const ready = message('Z', 'I')

type Answer = (socket: Socket, command: string) => void

/** A server that gives one answer to each command, so that any version's conversation can be had. */
export class ToldServer implements AsyncDisposable {
  readonly connection: ConnectionOptions
  /** The commands; and `copied`, where the data of a COPY to the server has come to its end. */
  readonly commands: string[] = []
  /** The data of a COPY to the server. */
  readonly copied: Buffer[] = []
  readonly #server: Server
  readonly #sockets: Socket[] = []

  private constructor(scratch: Scratch, answer: Answer) {
    this.connection = { host: scratch.path, port: 5432, user: 'told', database: 'told' }
    this.#server = createServer((socket) => this.#converse(socket, answer))
    // A client that breaks off is what some tests are about.
    this.#server.on('connection', (socket) => socket.on('error', () => {}))
  }

  static async listen(scratch: Scratch, answer: Answer): Promise<ToldServer> {
    const told = new ToldServer(scratch, answer)
    await new Promise<void>((resolve) => told.#server.listen(join(scratch.path, '.s.PGSQL.5432'), resolve))
    return told
  }

  #converse(socket: Socket, answer: Answer): void {
    this.#sockets.push(socket)
    const hear = (command: string) => {
      this.commands.push(command)
      answer(socket, command)
    }
    let rest: Buffer = Buffer.alloc(0)
    const listen = (bytes: Buffer) => {
      rest = Buffer.concat([rest, bytes])
      while (rest.length >= 5 && rest.length > rest.readInt32BE(1)) {
        const type = String.fromCharCode(rest[0]!)
        const end = rest.readInt32BE(1) + 1
        const content = rest.subarray(5, end)
        rest = rest.subarray(end)
        if (type === 'Q') hear(content.toString('utf8', 0, content.length - 1))
        else if (type === 'd') this.copied.push(content)
        else if (type === 'c') hear('copied')
      }
    }
    // What comes first has no type.
    socket.once('data', () => {
      socket.on('data', listen)
      socket.write(Buffer.concat([message('R', int32(0)), ready]))
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    await new Promise((resolve) => this.#server.close(resolve))
  }
}

function int16(value: number): Buffer {
  const bytes = Buffer.alloc(2)
  bytes.writeInt16BE(value)
  return bytes
}

function int32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(value)
  return bytes
}

const sized = (text: string) => Buffer.concat([int32(Buffer.byteLength(text)), Buffer.from(text)])
