// A host and a port → servers that listen there, and their end. Loopback means both of its addresses, on one port.

import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
} from 'node:http';
import type { Http2SecureServer, ServerHttp2Session, ServerHttp2Stream } from 'node:http2';
import { isIP, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';

/** With a certificate: HTTP/2, and HTTP/1.1 for those who speak nothing else (WebSockets, most tools). */
export type ListeningServer = Server | Http2SecureServer;

export interface ListenOptions {
  /** An address or name, every address (`true`), or this machine's own two (`localhost`). */
  readonly host: string | true;
  /** `undefined` takes the first free one from 8080. */
  readonly port: number | undefined;
  /** PEM of a key and its certificate, for HTTPS. */
  readonly tls?: { readonly key: string | Buffer; readonly cert: string | Buffer } | undefined;
}

export interface Listening {
  /** One for each address. */
  readonly servers: readonly [ListeningServer, ...ListeningServer[]];
  /** The host of the URL under which this machine reaches them. */
  readonly host: string;
  readonly port: number;
  /** Stops accepting, waits for `before`, gives answers under way a moment, then cuts what is left. */
  close(before: () => Promise<void>): Promise<void>;
}

/** A server, and the ends of its connections. */
interface Listener {
  readonly server: ListeningServer;
  closeIdle(): void;
  closeAll(): void;
}

// Half a request must not hold a connection for ever; answers may take as long as they like.
const LIMITS = { headersTimeout: 20_000, requestTimeout: 60_000, connectionsCheckingInterval: 5_000 };
const FIRST_PORT = 8080;
const LAST_PORT = FIRST_PORT + 99;
/** Milliseconds that answers under way are given when the servers close. */
const PATIENCE = 300;

/**
 * Listens on one port of each address that the host stands for.
 * @throws {Error} in words for the user; then nothing listens
 */
export async function listen(handle: RequestListener, options: ListenOptions): Promise<Listening> {
  const { host, port } = options;
  const create = await creator(handle, options.tls);
  const last = port ?? LAST_PORT;
  for (let candidate = port ?? FIRST_PORT; ; candidate++) {
    try {
      return await listenOn(create, host, candidate);
    } catch (error) {
      const taken = (error as NodeJS.ErrnoException).code === 'EADDRINUSE';
      if (!taken || candidate >= last) throw explain(error as NodeJS.ErrnoException, host, port);
    }
  }
}

/** Listens on one port of each address that the host stands for, or on none. */
async function listenOn(create: () => Listener, host: string | true, port: number): Promise<Listening> {
  if (host !== 'localhost') {
    const only = await listenAt(create(), host === true ? undefined : host, port);
    return toListening([only], nameOf(host));
  }
  const first = await listenAt(create(), '127.0.0.1', port);
  try {
    const second = await listenAt(create(), '::1', portOf(first.server)).catch(withoutIPv6);
    return toListening(second ? [first, second] : [first], host);
  } catch (error) {
    first.server.close();
    // Any port will do, and this one is free at one of the two addresses only.
    const taken = (error as NodeJS.ErrnoException).code === 'EADDRINUSE';
    if (port === 0 && taken) return listenOn(create, host, port);
    throw error;
  }
}

function toListening(listeners: readonly [Listener, ...Listener[]], host: string): Listening {
  const [{ server }, ...others] = listeners;
  return {
    servers: [server, ...others.map((other) => other.server)],
    host,
    port: portOf(server),
    close: (before) => shutDown(listeners, before),
  };
}

function withoutIPv6(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'EADDRNOTAVAIL' && error.code !== 'EAFNOSUPPORT') throw error;
}

function createPlain(handle: RequestListener): Listener {
  // A request without Host is the guard's to refuse, with the headers of every response.
  const server = createServer({ ...LIMITS, requireHostHeader: false }, handle);
  // Without a listener node:http answers by itself, before anybody has looked at the Host.
  server.on('checkExpectation', handle);
  return {
    server,
    closeIdle: () => server.closeIdleConnections(),
    closeAll: () => server.closeAllConnections(),
  };
}

/** HTTP/2 takes its time to load: who does not need it starts without. */
async function creator(handle: RequestListener, tls: ListenOptions['tls']): Promise<() => Listener> {
  if (!tls) return () => createPlain(handle);
  const { createSecureServer } = await import('node:http2');
  return () => secure(handle, createSecureServer, tls);
}

function secure(
  handle: RequestListener,
  createSecureServer: typeof import('node:http2').createSecureServer,
  tls: NonNullable<ListenOptions['tls']>,
): Listener {
  const server = createSecureServer({ ...tls, allowHTTP1: true, handshakeTimeout: LIMITS.headersTimeout });
  Object.assign(server, LIMITS); // of HTTP/1.1; the constructor doesn't take them
  const sockets = new Set<Socket>();
  const sessions = new Set<ServerHttp2Session>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  server.on('session', (session) => {
    sessions.add(session);
    session.once('close', () => sessions.delete(session));
  });
  server.on('request', (req: IncomingMessage, res: ServerResponse) => {
    completeHTTP2(req);
    handle(req, res);
  });
  server.on('checkExpectation', handle);
  return {
    server,
    closeIdle: () => {
      for (const session of sessions) session.close(); // as soon as its streams have ended
    },
    closeAll: () => {
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** Adds to a request of node:http2 what handlers look for that know HTTP/1.1 alone. */
function completeHTTP2(req: IncomingMessage): void {
  const { headers, stream } = req as IncomingMessage & { readonly stream?: ServerHttp2Stream };
  if (!stream) return;
  req.on('error', () => {}); // its client has reset the stream
  const authority = headers[':authority'];
  // https://www.rfc-editor.org/rfc/rfc9113#section-8.3.1
  if (typeof authority === 'string') headers.host ??= authority;
  // A body without a length: body parsers and back ends would not know of it.
  const isSized = stream.endAfterHeaders || headers['content-length'] !== undefined;
  if (!isSized) headers['transfer-encoding'] = 'chunked';
}

function listenAt(listener: Listener, address: string | undefined, port: number): Promise<Listener> {
  const { server } = listener;
  server.on('clientError', refuseMalformed);
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ port, host: address, exclusive: true }, () => {
      server.off('error', reject);
      resolve(listener);
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
  refuse(socket, status);
}

/** Ends a connection with this status (`404 Not Found`), where node:http writes no response. */
export function refuse(socket: Duplex, status: string): void {
  const headers =
    'Connection: close\r\nContent-Length: 0\r\nX-Content-Type-Options: nosniff\r\nCross-Origin-Resource-Policy: same-origin';
  socket.end(`HTTP/1.1 ${status}\r\n${headers}\r\n\r\n`);
}

function portOf(server: ListeningServer): number {
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

async function shutDown(listeners: readonly Listener[], before: () => Promise<void>): Promise<void> {
  const closed = listeners.map(({ server }) => new Promise((resolve) => server.close(resolve)));
  await before();
  for (const listener of listeners) listener.closeIdle();
  const timer = setTimeout(() => {
    for (const listener of listeners) listener.closeAll();
  }, PATIENCE);
  await Promise.all(closed);
  clearTimeout(timer);
}
