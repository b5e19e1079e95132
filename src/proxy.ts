// A request → a back end, in static's place: httpxy moves the bytes, backend.ts decides what they are told, and this file
// joins the two and keeps an eye on a back end that is gone. Who may ask has been decided before, by guard.

import { Agent as HttpAgent, IncomingMessage, type ServerResponse } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { connect, Socket } from 'node:net';
import { type Duplex, pipeline, Transform } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import * as zlib from 'node:zlib';
import { createProxyServer, type ProxyServerOptions } from 'httpxy';
import {
  isLoopback,
  isRepeatable,
  isWebSocket,
  type Route,
  requestHeaders,
  responseHeaders,
  routeOf,
  toRoute,
  unwantedCoding,
} from './backend.ts';

export interface ProxyOptions {
  /** Hears one line for the terminal when a back end is gone, and one when it is there again. */
  readonly onNotice?: (line: string) => void;
  /**
   * Answers where the back end `target` gave no answer; status 502 and `Retry-After` are set already.
   * @default a constant page
   */
  readonly down?: (req: IncomingMessage, res: ServerResponse, target: string) => void;
  /** The back end `target` was gone and takes connections again: the pages that `down` stood in for can be had now. */
  readonly up?: (target: string) => void;
}

export interface Proxy {
  /** Whether this request goes to a back end; if so it is answered. */
  handle(req: IncomingMessage, res: ServerResponse): boolean;
  /** Whether this WebSocket goes to a back end; if so its socket is taken care of. */
  upgrade(req: IncomingMessage, socket: Duplex, head: Buffer): boolean;
  /** Cuts every connection to the back ends. Safe twice. */
  close(): void;
}

/** Milliseconds between two looks whether a back end that was gone is there again. */
const PROBE_INTERVAL = 250;
/** Milliseconds that one such look takes at most. */
const PROBE_LIMIT = 2_000;

const DOWN =
  '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n<title>The back end is down</title>\n' +
  '<p>The back end gives no answer. Start it, then load this page again.</p>\n';

/**
 * Sends requests to back ends. `targets` is the URL of the one that gets everything, or URL prefix → URL. The longest
 * prefix wins, and ends where a segment of the path ends. As in nginx, a target with a path, even `/`, replaces the
 * prefix; one without keeps it. Certificates are checked, but for those of this machine.
 * @throws RangeError for a prefix that is no URL path, and a target that is no http, https, ws or wss URL
 */
export function createProxy(
  targets: string | Readonly<Record<string, string>>,
  options: ProxyOptions = {},
): Proxy {
  const { onNotice = () => {}, down = sendDown, up = () => {} } = options;
  const entries = Object.entries(typeof targets === 'string' ? { '/': targets } : targets);
  const routes = entries.map(toRoute).sort((a, b) => b.prefix.length - a.prefix.length);
  const agents = new Map(routes.map((route) => [route, createAgent(route)]));
  const awaited = new Set<string>();
  const upgraded = new Set<Socket>();
  const closing = new AbortController();

  /** Waits until a back end that failed takes connections, and says so if it had really gone. */
  async function awaitBackEnd(route: Route): Promise<void> {
    const { target } = route;
    if (awaited.has(target) || closing.signal.aborted) return;
    awaited.add(target);
    let gone = false;
    while (!closing.signal.aborted && !(await takesConnections(route))) {
      if (!gone) onNotice(`The back end ${target} cannot be reached: waiting for it`);
      gone = true;
      await delay(PROBE_INTERVAL, undefined, { ref: false, signal: closing.signal }).catch(() => {}); // close()
    }
    awaited.delete(target);
    if (!gone || closing.signal.aborted) return;
    onNotice(`The back end ${target} is there again`);
    up(target);
  }

  /** Answers for the back end; where it has begun to answer itself, only the end of the connection says what happened. */
  function fail(route: Route, req: IncomingMessage, res: ServerResponse, begun: boolean): void {
    void awaitBackEnd(route);
    if (begun || res.headersSent) return void res.destroy();
    res.statusCode = 502;
    res.setHeader('Retry-After', '1');
    res.setHeader('Cache-Control', 'no-store');
    down(req, res, route.target);
  }

  function forward(route: Route, req: IncomingMessage, res: ServerResponse, path: string): void {
    let answer: IncomingMessage | undefined;
    let reused = false;
    let failed = false;
    const onFailure = () => {
      if (failed || res.destroyed || res.writableEnded || answer?.complete) return;
      failed = true;
      // The back end closed an idle connection just as it was taken up again:
      // https://nodejs.org/api/http.html#requestreusedsocket
      if (reused && !answer && isRepeatable(req)) forward(route, req, res, path);
      else fail(route, req, res, answer !== undefined);
    };
    // One of httpxy's servers for each request: it is no more than an emitter, and its events are about this request.
    const proxy = createProxyServer({ ...to(route), agent: agents.get(route), selfHandleResponse: true });
    proxy.on('proxyReq', (upstream) => {
      reused = upstream.reusedSocket;
      upstream.on('close', onFailure); // without an error after a 101 that nobody asked for
    });
    proxy.on('proxyRes', (received) => {
      if (failed) return;
      if (!isAnswer(received)) {
        received.resume();
        return onFailure();
      }
      answer = received;
      answerWith(route, req, res, received);
    });
    proxy.on('error', onFailure);
    // What it rejects with, `error` has told, or it is about a client that is gone.
    proxy.web(toBackEnd(route, req, path), res, { buffer: req }).catch(() => {});
  }

  /** Keeps a socket that node:http knows nothing of any more; when it closes, so does the other one. */
  function keep(socket: Socket, other: () => Socket | undefined): void {
    upgraded.add(socket);
    socket.on('error', () => {}); // is followed by `close`
    socket.on('close', () => {
      upgraded.delete(socket);
      other()?.destroySoon();
    });
  }

  function tunnel(route: Route, req: IncomingMessage, socket: Socket, head: Buffer, path: string): void {
    let upstream: Socket | undefined;
    let failed = false;
    const sentBefore = socket.bytesWritten;
    const proxy = createProxyServer({ ...to(route), agent: false });
    keep(socket, () => upstream);
    proxy.on('proxyReqWs', (request) => {
      socket.once('close', () => request.destroy());
    });
    proxy.on('open', (opened) => {
      upstream = opened;
      keep(opened, () => socket);
    });
    proxy.on('error', () => {
      if (failed || socket.destroyed) return;
      failed = true;
      void awaitBackEnd(route);
      if (socket.bytesWritten > sentBefore) socket.destroy();
      else socket.end('HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\nContent-Length: 0\r\n\r\n');
    });
    proxy.ws(toBackEnd(route, req, path), socket, {}, head).catch(() => {}); // as for web()
  }

  return {
    handle(req, res) {
      const found = routeOf(routes, req.url ?? '');
      // An answer to TRACE holds what a page must not see of its request: https://www.rfc-editor.org/rfc/rfc9110#section-9.3.8
      if (!found || req.method === 'TRACE') return false;
      // A client that is gone; `close` of the response ends the request upstream.
      res.on('error', () => {});
      req.on('error', () => {});
      forward(found.route, req, res, found.path);
      return true;
    },

    upgrade(req, socket, head) {
      const found = routeOf(routes, req.url ?? '');
      if (!found || !isWebSocket(req) || !(socket instanceof Socket)) return false;
      tunnel(found.route, req, socket, head, found.path);
      return true;
    },

    close() {
      closing.abort();
      for (const agent of agents.values()) agent.destroy();
      for (const socket of upgraded) socket.destroy();
    },
  };
}

function createAgent({ encrypted }: Route): HttpAgent {
  return encrypted ? new HttpsAgent({ keepAlive: true }) : new HttpAgent({ keepAlive: true });
}

/** Where httpxy connects to; the path is that of the request it gets. */
function to({ encrypted, hostname, port }: Route): ProxyServerOptions {
  return {
    target: { protocol: encrypted ? 'https:' : 'http:', hostname, port },
    // Nobody is between us and this machine, and the certificates of its dev servers are self-signed.
    secure: !isLoopback(hostname),
  };
}

/** The request as the back end gets it; its body stays in `req`. */
function toBackEnd(route: Route, req: IncomingMessage, path: string): IncomingMessage {
  const { remoteAddress = '', localPort = 0 } = req.socket;
  const request = new IncomingMessage(req.socket);
  request.method = req.method;
  request.url = path;
  request.httpVersion = '1.1';
  request.httpVersionMajor = 1;
  request.httpVersionMinor = 1;
  request.headers = requestHeaders(route, req, {
    encrypted: isEncrypted(req),
    address: remoteAddress,
    port: localPort,
  });
  return request;
}

function isEncrypted({ socket }: IncomingMessage): boolean {
  return 'encrypted' in socket && socket.encrypted === true;
}

/** Whether node:http would send this status on: it reads more than it writes. */
function isAnswer({ statusCode = 0 }: IncomingMessage): boolean {
  return statusCode >= 200 && statusCode <= 999;
}

function answerWith(route: Route, req: IncomingMessage, res: ServerResponse, answer: IncomingMessage): void {
  res.statusCode = answer.statusCode ?? 0;
  const reason = answer.statusMessage ?? '';
  // HTTP/2 has none.
  if (req.httpVersionMajor < 2 && /^[\t\x20-\x7e\x80-\xff]+$/.test(reason)) res.statusMessage = reason;
  const decoder = createDecoder(unwantedCoding(req, answer));
  const headers = responseHeaders(route, answer.headers, isEncrypted(req));
  for (const [name, value] of headers) {
    if (!decoder || !/^content-(?:encoding|length)$/.test(name)) setHeader(res, name, value);
  }
  // A stream's head doesn't wait for its first bytes.
  if (!res.hasHeader('content-length')) res.flushHeaders();
  if (decoder)
    pipeline(answer, decoder, res, () => {}); // an end too early shows as such, whoever caused it
  else answer.pipe(res);
}

/** `undefined` for what cannot be undone: it passes as it is. */
function createDecoder(coding: string | undefined): Transform | undefined {
  if (coding === 'gzip' || coding === 'x-gzip') return zlib.createGunzip();
  if (coding === 'deflate') return zlib.createInflate();
  if (coding === 'br') return zlib.createBrotliDecompress();
  // From Node 22.15 on: https://nodejs.org/api/zlib.html#zlibcreatezstddecompressoptions
  const create: unknown = coding === 'zstd' ? Reflect.get(zlib, 'createZstdDecompress') : undefined;
  const decoder: unknown = typeof create === 'function' ? create() : undefined;
  return decoder instanceof Transform ? decoder : undefined;
}

/** What the response has already was promised by us and stays, but for headers that add up. */
function setHeader(res: ServerResponse, name: string, value: string | string[]): void {
  try {
    if (!res.hasHeader(name)) res.setHeader(name, value);
    else if (/^(?:vary|set-cookie|link)$/.test(name)) res.appendHeader(name, value);
  } catch {} // characters that node:http reads but doesn't write
}

function sendDown(_req: IncomingMessage, res: ServerResponse): void {
  res.setHeader('Content-Type', 'text/html; charset=utf-8');
  res.end(DOWN);
}

function takesConnections({ hostname, port }: Route): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: hostname, port, timeout: PROBE_LIMIT });
    const settle = (taken: boolean) => {
      socket.destroy();
      resolve(taken);
    };
    socket.unref();
    socket.on('connect', () => settle(true));
    socket.on('timeout', () => settle(false));
    socket.on('error', () => settle(false));
  });
}
