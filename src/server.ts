// start(): a folder and a port become a running server. What can fail comes first and leaves nothing behind.

import { stat } from 'node:fs/promises';
import {
  createServer,
  type RequestListener,
  type Server,
  validateHeaderName,
  validateHeaderValue,
} from 'node:http';
import { isIP, type Socket } from 'node:net';
import { resolve, sep } from 'node:path';
import { toPath } from './events.ts';
import { type Handler, type Live, type LiveOptions, type Wiring, watchedPaths, wire } from './live.ts';
import { serveFiles } from './static.ts';

export interface StartOptions extends LiveOptions {
  /** The folder to serve, relative to the working folder. @default '.' */
  readonly root?: string;
  /** Port to listen on; 0 takes any free one. @default the first free one from 8080 */
  readonly port?: number;
  /** Address or name to listen on; `true` is every address of the machine. @default 127.0.0.1 and ::1: this machine alone */
  readonly host?: string | true;
  /** Opens the browser once the server runs: at the start page, or at this URL path. @default false */
  readonly open?: boolean | string;
  /** Answers navigations to paths without a file with `index.html`, or with this file of the folder. @default false */
  readonly single?: boolean | string;
  /** Response headers for everything that is served. @default {} */
  readonly headers?: Readonly<Record<string, string>>;
  /** Handlers that come before the files. HTML that they send gets the client script too. @default [] */
  readonly middleware?: readonly Handler[];
  /** Further folders to serve: URL path to folder. @default {} */
  readonly mounts?: Readonly<Record<string, string>>;
  /** Serves symbolic links that lead out of the folder too. @default false */
  readonly followSymlinks?: boolean;
}

/** A running server. */
export interface LiveServer extends Live {
  /** Address of the start page, with a slash at its end. */
  readonly url: string;
  /** Absolute path of the folder that is served. */
  readonly root: string;
  /** The host in `url`. */
  readonly host: string;
  readonly port: number;
  /** The server that listens; by default the one on 127.0.0.1. */
  readonly server: Server;
}

interface Listening {
  readonly servers: readonly [Server, ...Server[]];
  readonly host: string;
  readonly port: number;
}

type Mounts = Readonly<Record<string, string>>;

const FIRST_PORT = 8080;
const LAST_PORT = FIRST_PORT + 99;
/** Milliseconds that answers under way are given when the server closes. */
const PATIENCE = 300;

/**
 * Serves a folder and shows each change of it in the browser at once. Resolves when every later change is sure to be
 * seen.
 * @throws {TypeError | RangeError} if an option is not what it should be
 * @throws {Error} if the folder cannot be served or the port cannot be had; then nothing stays behind
 */
export async function start(options: StartOptions = {}): Promise<LiveServer> {
  checkOptions(options);
  const root = await toFolder(options.root ?? '.');
  const mounts = await toMounts(options.mounts ?? {});
  const watched =
    options.watch === false ? [] : [root, ...Object.values(mounts), ...watchedPaths(options.watch)];
  const conditional = (options.middleware ?? []).length === 0;
  const wiring = wire({ ...options, watched, conditional, locate: (file) => locate(file, root, mounts) });
  try {
    const listening = await listen(handler(root, mounts, options, wiring), options);
    return await run(root, listening, options, wiring);
  } catch (error) {
    await wiring.controls.close();
    throw error;
  }
}

function checkOptions({
  root = '.',
  port = 0,
  host = 'localhost',
  open = false,
  headers = {},
}: StartOptions): void {
  if (typeof root !== 'string') throw new TypeError('The option root takes the path of a folder');
  if (host !== true && typeof host !== 'string')
    throw new TypeError('The option host takes an address, a name, or true');
  if (typeof port !== 'number') throw new TypeError('The option port takes a number');
  if (!Number.isInteger(port) || port < 0 || port > 65535) {
    throw new RangeError(`Cannot listen on port ${port}: give a whole number from 0 to 65535`);
  }
  if (typeof open === 'string' && !open.startsWith('/')) {
    throw new RangeError(`Cannot open "${open}": give a URL path, like /${open}`);
  }
  for (const [name, value] of Object.entries(headers)) {
    try {
      validateHeaderName(name);
      validateHeaderValue(name, value);
    } catch (cause) {
      throw new RangeError(
        `Cannot send the header ${JSON.stringify(`${name}: ${value}`)}: HTTP does not allow it`,
        { cause },
      );
    }
  }
}

/** The absolute path of a folder that exists. Links in it stay, so that a link that is swapped leads to the new folder. */
async function toFolder(path: string): Promise<string> {
  const folder = resolve(path);
  const stats = await stat(folder).catch((cause: NodeJS.ErrnoException) => {
    const reason =
      cause.code === 'ENOENT'
        ? 'there is no such folder. Check the path'
        : `it cannot be read (${cause.code})`;
    throw new Error(`Cannot serve "${path}": ${reason}`, { cause });
  });
  if (!stats.isDirectory()) throw new Error(`Cannot serve "${path}": it is a file. Give the folder it is in`);
  return folder;
}

async function toMounts(mounts: Mounts): Promise<Mounts> {
  const entries = Object.entries(mounts).map(async ([path, folder]) => {
    if (!/^(\/[^/?#\\%]+)+$/.test(path)) {
      throw new RangeError(
        `Cannot mount "${folder}" at "${path}": give a URL path like /assets, without a slash at its end`,
      );
    }
    return [path, await toFolder(folder)] as const;
  });
  return Object.fromEntries(await Promise.all(entries));
}

function locate(file: string, root: string, mounts: Mounts): readonly string[] {
  const mounted = Object.entries(mounts).map(([prefix, folder]) => {
    const path = toPath(folder, file, sep);
    return path === undefined ? undefined : encodeURI(prefix) + path;
  });
  return [toPath(root, file, sep), ...mounted].filter((path) => path !== undefined);
}

function handler(root: string, mounts: Mounts, options: StartOptions, wiring: Wiring): RequestListener {
  const { single = false, followSymlinks = false, headers = {}, middleware = [] } = options;
  const files = serveFiles(root, {
    mounts,
    single,
    followSymlinks,
    settled: wiring.settled,
    onServe: wiring.prefer,
    onNotice: wiring.tell,
    document: wiring.document,
  });
  const own: Handler = (_req, res, next) => {
    for (const [name, value] of Object.entries(headers)) res.setHeader(name, value);
    next();
  };
  const handlers: readonly Handler[] = [wiring.controls.middleware, own, ...middleware, files];

  return (req, res) => {
    res.on('error', () => {}); // the client went away in the middle of the answer
    const fail = (error: unknown) => {
      wiring.tell(new Error(`Could not answer ${req.method} ${req.url}`, { cause: error }));
      if (res.headersSent) res.destroy();
      else res.writeHead(500, { 'Content-Type': 'text/plain; charset=utf-8' }).end('Internal Server Error\n');
    };
    const step = async (i: number, error?: unknown): Promise<void> => {
      if (error !== undefined && error !== null) return fail(error);
      try {
        await handlers[i]?.(req, res, (problem) => void step(i + 1, problem));
      } catch (thrown) {
        fail(thrown);
      }
    };
    void step(0);
  };
}

async function listen(
  handle: RequestListener,
  { host = 'localhost', port }: StartOptions,
): Promise<Listening> {
  const last = port ?? LAST_PORT;
  for (let candidate = port ?? FIRST_PORT; ; candidate++) {
    try {
      return await listenOn(handle, host, candidate);
    } catch (error) {
      const taken = (error as NodeJS.ErrnoException).code === 'EADDRINUSE';
      if (!taken || candidate >= last) throw explain(error as NodeJS.ErrnoException, host, port);
    }
  }
}

/** Listens on one port of each address that the host stands for, or on none. */
async function listenOn(handle: RequestListener, host: string | true, port: number): Promise<Listening> {
  const servers: Server[] = [];
  try {
    if (host !== 'localhost') {
      const server = await listenAt(handle, host === true ? undefined : host, port);
      return { servers: [server], host: nameOf(host), port: portOf(server) };
    }
    const first = await listenAt(handle, '127.0.0.1', port);
    servers.push(first);
    const second = await listenAt(handle, '::1', portOf(first)).catch(withoutIPv6);
    if (second) servers.push(second);
    return { servers: [first, ...servers.slice(1)], host, port: portOf(first) };
  } catch (error) {
    for (const server of servers) server.close();
    throw error;
  }
}

function withoutIPv6(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'EADDRNOTAVAIL' && error.code !== 'EAFNOSUPPORT') throw error;
}

function listenAt(handle: RequestListener, address: string | undefined, port: number): Promise<Server> {
  // Half a request must not hold a connection for ever; answers may take as long as they like.
  const server = createServer(
    { headersTimeout: 20_000, requestTimeout: 60_000, connectionsCheckingInterval: 5_000 },
    handle,
  );
  server.on('clientError', refuseMalformed);
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ port, host: address, exclusive: true }, () => {
      server.off('error', reject);
      resolve(server);
    });
  });
}

function refuseMalformed(error: NodeJS.ErrnoException, socket: Socket): void {
  const statuses: Record<string, string> = {
    HPE_HEADER_OVERFLOW: '431 Request Header Fields Too Large',
    ERR_HTTP_REQUEST_TIMEOUT: '408 Request Timeout',
  };
  if (!socket.writable || error.code === 'ECONNRESET') return void socket.destroy();
  const status = (error.code && statuses[error.code]) ?? '400 Bad Request';
  const headers =
    'Connection: close\r\nContent-Length: 0\r\nX-Content-Type-Options: nosniff\r\nCross-Origin-Resource-Policy: same-origin';
  socket.end(`HTTP/1.1 ${status}\r\n${headers}\r\n\r\n`);
}

function portOf(server: Server): number {
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('The server listens on no port');
  return address.port;
}

/** The host of the URL under which this machine reaches the server. */
function nameOf(host: string | true): string {
  if (host === true || host === '0.0.0.0' || host === '::') return 'localhost';
  return isIP(host) === 6 ? `[${host}]` : host;
}

function explain(cause: NodeJS.ErrnoException, host: string | true, port: number | undefined): Error {
  const name = nameOf(host);
  if (cause.code === 'EADDRINUSE' && port === undefined) {
    return new Error(
      `Cannot listen on ${name}: the ports from ${FIRST_PORT} to ${LAST_PORT} are all taken. Name a free one`,
      { cause },
    );
  }
  const reasons: Record<string, string> = {
    EADDRINUSE: 'another program does already. Stop it, or leave the port out to get a free one',
    EACCES: 'the system does not allow it. Choose a port from 1024 up',
    EADDRNOTAVAIL:
      'this machine does not have that address. Leave the host out for this machine alone, or give one of its own',
    ENOTFOUND:
      'no such host is known. Leave the host out for this machine alone, or give one of its addresses',
    EAI_AGAIN: 'the name cannot be looked up now. Give an address of this machine',
  };
  const reason = reasons[cause.code ?? ''] ?? `the system refuses it (${cause.code ?? cause.message})`;
  return new Error(`Cannot listen on ${name}:${port ?? FIRST_PORT}: ${reason}`, { cause });
}

async function run(
  root: string,
  listening: Listening,
  options: StartOptions,
  wiring: Wiring,
): Promise<LiveServer> {
  const { servers, host, port } = listening;
  const { controls } = wiring;
  let closing: Promise<void> | undefined;
  const server: LiveServer = {
    url: `http://${host}:${port}/`,
    root,
    host,
    port,
    server: servers[0],
    middleware: controls.middleware,
    ready: controls.ready,
    get clients() {
      return controls.clients;
    },
    reload: controls.reload,
    css: controls.css,
    error: controls.error,
    send: controls.send,
    on: controls.on,
    close: () => {
      closing ??= shutDown(servers, controls);
      return closing;
    },
    [Symbol.asyncDispose]: () => server.close(),
  };
  try {
    await controls.ready;
  } catch (error) {
    await server.close();
    throw error;
  }
  if (options.open)
    await openBrowser(new URL(options.open === true ? '' : options.open, server.url).href, wiring);
  return server;
}

/** Stops accepting, ends the streams, gives answers under way a moment, then cuts what is left. */
async function shutDown(servers: readonly Server[], controls: Live): Promise<void> {
  const closed = servers.map((server) => new Promise((resolve) => server.close(resolve)));
  await controls.close();
  for (const server of servers) server.closeIdleConnections();
  const timer = setTimeout(() => {
    for (const server of servers) server.closeAllConnections();
  }, PATIENCE);
  await Promise.all(closed);
  clearTimeout(timer);
}

async function openBrowser(url: string, wiring: Wiring): Promise<void> {
  try {
    const { default: open } = await import('open');
    const child = await open(url);
    child.once('exit', (code) => {
      if (code) wiring.tell(cannotOpen(url));
    });
  } catch {
    wiring.tell(cannotOpen(url)); // a machine without a browser: the server itself is fine
  }
}

function cannotOpen(url: string): string {
  return `Cannot open a browser here. Open ${url} yourself`;
}
