// A host and a port → servers that listen there, and their end. Loopback means both of its addresses, on one port.

import { createServer, type RequestListener, type Server } from 'node:http';
import { isIP, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';

export interface Listening {
  /** One for each address. */
  readonly servers: readonly [Server, ...Server[]];
  /** The host of the URL under which this machine reaches them. */
  readonly host: string;
  readonly port: number;
}

const FIRST_PORT = 8080;
const LAST_PORT = FIRST_PORT + 99;
/** Milliseconds that answers under way are given when the servers close. */
const PATIENCE = 300;

/**
 * Listens on an address or name, on every address (`true`), or on this machine's own two (`localhost`).
 * @param port `undefined` takes the first free one from 8080
 * @throws {Error} in words for the user; then nothing listens
 */
export async function listen(
  handle: RequestListener,
  host: string | true,
  port: number | undefined,
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
    // Any port will do, and this one is free at one of the two addresses only.
    const taken = (error as NodeJS.ErrnoException).code === 'EADDRINUSE';
    if (port === 0 && taken) return listenOn(handle, host, port);
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
  // Without a listener node:http answers by itself, before anybody has looked at the Host.
  server.on('checkExpectation', handle);
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
  refuse(socket, status);
}

/** Ends a connection with this status (`404 Not Found`), where node:http writes no response. */
export function refuse(socket: Duplex, status: string): void {
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

/** Stops accepting, waits for `before`, gives answers under way a moment, then cuts what is left. */
export async function shutDown(servers: readonly Server[], before: () => Promise<void>): Promise<void> {
  const closed = servers.map((server) => new Promise((resolve) => server.close(resolve)));
  await before();
  for (const server of servers) server.closeIdleConnections();
  const timer = setTimeout(() => {
    for (const server of servers) server.closeAllConnections();
  }, PATIENCE);
  await Promise.all(closed);
  clearTimeout(timer);
}
