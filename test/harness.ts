// What the tests share: folders that go away, waits with a deadline, ports, and clients that send exactly what they are
// told.

import { mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

/** A temporary folder that is removed at the end of the `using` block. */
export interface Folder extends Disposable {
  readonly path: string;
  /** Absolute path of an entry of the folder. */
  file(name: string): string;
  /** Writes an entry, with the folders it needs; gives its absolute path. */
  write(name: string, content: string | Uint8Array): string;
}

export function folder(files: Record<string, string | Uint8Array> = {}): Folder {
  const path = realpathSync(mkdtempSync(join(tmpdir(), 'live-sse-')));
  const file = (name: string) => join(path, name);
  const write = (name: string, content: string | Uint8Array) => {
    mkdirSync(dirname(file(name)), { recursive: true });
    writeFileSync(file(name), content);
    return file(name);
  };
  for (const [name, content] of Object.entries(files)) write(name, content);
  passTick(path);
  return { path, file, write, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

/**
 * Waits for the next tick of the file system's clock (4 ms, as a rule): a file of the same tick as a server's start
 * counts as changed while it started.
 */
export function passTick(dir: string): void {
  const probe = join(dir, '.tick');
  const now = () => {
    writeFileSync(probe, '');
    return statSync(probe).ctimeMs;
  };
  const begin = now();
  while (now() === begin);
  rmSync(probe);
}

/** Waits until `look` gives something other than `undefined` or `false`, and gives that; fails after `ms`. */
export async function until<T>(
  what: string,
  look: () => T | undefined | false | Promise<T | undefined | false>,
  ms = 10_000,
): Promise<T> {
  const isOver = countdown(ms);
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    if (isOver()) throw new Error(`Waited ${ms} ms in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** The promise's value, or a failure that says what was waited for. */
export async function within<T>(what: string, promise: Promise<T>, ms = 10_000): Promise<T> {
  const isOver = countdown(ms);
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setInterval(() => {
      if (isOver()) reject(new Error(`Waited ${ms} ms in vain: ${what}`));
    }, 5);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearInterval(timer);
  }
}

/** Whether `ms` are over, for who asks all the time: when the machine stood still, what is waited for did, too. */
function countdown(ms: number): () => boolean {
  let left = ms;
  let last = performance.now();
  return () => {
    const now = performance.now();
    left -= Math.min(now - last, 100);
    last = now;
    return left <= 0;
  };
}

/** Whether a process runs; one that has ended and that nobody asked about (a zombie) doesn't. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch {
    return false;
  }
  if (process.platform !== 'linux') return true;
  try {
    return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch {
    return false;
  }
}

/**
 * A port of this machine where nobody listens. It is this process's until its end: whoever leaves it can come back. A port
 * that the system gave would be the next client's as soon as it is closed, so it is none of those (from 32768 on with
 * Linux, from 49152 on elsewhere); and the one behind it is kept, so that no other test takes the two.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 20_000 + 2 * Math.floor(Math.random() * 6_000);
    const keeper = await listenAt(port + 1);
    const found = keeper && (await listenAt(port));
    keeper?.unref();
    if (!found) continue;
    await new Promise((resolve) => found.close(resolve));
    return port;
  }
}

/** `undefined` where somebody listens already. */
function listenAt(port: number): Promise<Server | undefined> {
  return new Promise((resolve, reject) => {
    const server = createServer().listen(port, '127.0.0.1', () => resolve(server));
    server.on('error', (error: NodeJS.ErrnoException) =>
      error.code === 'EADDRINUSE' ? resolve(undefined) : reject(error),
    );
  });
}

/** Of its two addresses one may not be there: who has no turn for a while still gets to the other. */
const LOCALHOST = { autoSelectFamilyAttemptTimeout: 5000 };

export interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly body: Buffer;
  readonly text: string;
}

/** One request on a connection of its own; the path goes out as it stands, nothing is normalised. */
export function get(
  url: string,
  path: string,
  options: { method?: string; headers?: Record<string, string | string[] | undefined> } = {},
): Promise<Answer> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve, reject) => {
    const req = request(
      {
        host: hostname.replace(/^\[|\]$/g, ''),
        port,
        path,
        method: options.method ?? 'GET',
        agent: false,
        headers: { host: `${hostname}:${port}`, ...options.headers },
        timeout: 10_000,
        ...LOCALHOST,
      },
      (res) => {
        const chunks: Buffer[] = [];
        res.on('data', (chunk: Buffer) => chunks.push(chunk));
        res.on('error', reject);
        res.on('end', () => {
          const body = Buffer.concat(chunks);
          resolve({ status: res.statusCode ?? 0, headers: res.headers, body, text: body.toString() });
        });
      },
    );
    req.on('timeout', () => req.destroy(new Error(`No answer to ${path} in 10 s`)));
    req.on('error', reject);
    req.end();
  });
}

/** Headers of a browser that navigates: such a request gets a document. */
export const navigation = {
  accept: 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8',
  'sec-fetch-dest': 'document',
  'sec-fetch-mode': 'navigate',
  'sec-fetch-site': 'none',
};

/** A raw connection: everything received so far as text, and waits on it. */
export interface Raw extends Disposable {
  readonly socket: Socket;
  readonly received: () => string;
  readonly closed: () => boolean;
  /** Waits until what was received so far matches, and gives the match. */
  match(pattern: RegExp, ms?: number): Promise<RegExpMatchArray>;
  end(ms?: number): Promise<string>;
}

/** Sends `text` to a port of this machine as it stands. */
export function raw(port: number, text = '', host = '127.0.0.1'): Raw {
  const socket = connect(port, host);
  let received = '';
  let closed = false;
  socket.setEncoding('utf8');
  socket.on('data', (chunk: string) => {
    received += chunk;
  });
  socket.on('error', () => {}); // a connection that is cut shows as `closed`
  socket.on('close', () => {
    closed = true;
  });
  if (text) socket.write(text);
  return {
    socket,
    received: () => received,
    closed: () => closed,
    match: (pattern, ms) =>
      until(`${pattern} in ${JSON.stringify(received)}`, () => received.match(pattern) ?? undefined, ms),
    end: async (ms) => {
      await until('the connection to be closed', () => closed, ms);
      return received;
    },
    [Symbol.dispose]: () => socket.destroy(),
  };
}

/** One event as it came off the wire. */
export interface WireEvent {
  readonly type: string;
  readonly id?: string;
  readonly data: string;
}

export interface EventStream extends Disposable {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  /** All events so far, `hello` and `ping` too. */
  readonly events: readonly WireEvent[];
  readonly closed: () => boolean;
  /** Waits for the next event of this type that was not handed out before. */
  next(type: string, ms?: number): Promise<WireEvent>;
}

/**
 * Opens an event stream and reads it as the HTML Standard says. Resolves when the response's head is there; `onEvent` hears
 * of each event at once.
 */
export function openStream(
  url: string,
  headers: Record<string, string> = {},
  onEvent: (event: WireEvent) => void = () => {},
): Promise<EventStream> {
  return new Promise((resolve, reject) => {
    const req = request(
      url,
      { agent: false, headers: { accept: 'text/event-stream', ...headers }, ...LOCALHOST },
      (res) => {
        const events: WireEvent[] = [];
        const handedOut = new Set<WireEvent>();
        let buffer = '';
        let closed = false;
        res.setEncoding('utf8');
        res.on('data', (chunk: string) => {
          const blocks = (buffer + chunk).split('\n\n');
          buffer = blocks.pop() ?? '';
          for (const block of blocks) {
            const event = parse(block);
            if (!event) continue;
            events.push(event);
            onEvent(event);
          }
        });
        res.on('error', () => {}); // shows as `closed`
        res.on('close', () => {
          closed = true;
        });
        resolve({
          status: res.statusCode ?? 0,
          headers: res.headers,
          events,
          closed: () => closed,
          next: async (type, ms) => {
            const event = await until(
              `a ${type} event; there were ${JSON.stringify(events.map((e) => e.type))}`,
              () => events.find((e) => e.type === type && !handedOut.has(e)),
              ms,
            );
            handedOut.add(event);
            return event;
          },
          [Symbol.dispose]: () => req.destroy(),
        });
      },
    );
    req.on('error', reject);
    req.end();
  });
}

function parse(block: string): WireEvent | undefined {
  let type = 'message';
  let id: string | undefined;
  const data: string[] = [];
  for (const line of block.split('\n')) {
    const [, field, value = ''] = /^([^:]*)(?:: ?(.*))?$/s.exec(line) ?? [];
    if (field === 'event') type = value;
    else if (field === 'id') id = value;
    else if (field === 'data') data.push(value);
  }
  if (data.length === 0) return undefined;
  return { type, data: data.join('\n'), ...(id === undefined ? {} : { id }) };
}
