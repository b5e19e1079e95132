// A request → our own routes: the event stream, the client's scripts, and the triggers of events. Whoever may not ask is
// turned away here, before anything else looks at the request.

import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { TLSSocket } from 'node:tls';
import {
  type Asking,
  type Cors,
  isOwnPage,
  mayListen,
  mayWrite,
  refuseHost,
  sharingHeaders,
  strangerNotice,
} from './guard.ts';
import { readJson } from './triggers.ts';

export interface RouteOptions {
  /** URL path of the stream; the client's scripts are below it. */
  readonly base: string;
  readonly allowedHosts: readonly string[];
  readonly cors: Cors;
  readonly onNotice: (line: string) => void;
  /** The HTML with this hash, for a page that was made of it. */
  readonly source: (hash: string) => Buffer | undefined;
  /** Opens the event stream. */
  readonly connect: (req: IncomingMessage, res: ServerResponse) => unknown;
  /**
   * Triggers an event, and gives the count of those who hear it.
   * @throws {RangeError | TypeError} in words for the sender
   */
  readonly trigger: (type: string, data: unknown) => number;
  /**
   * Opens a place in the developer's editor; gives the reason if that cannot be done.
   * @throws {RangeError} in words for the sender, if it may not
   */
  readonly open: (place: unknown) => Promise<string | undefined>;
}

const CLIENT_FOLDER = new URL('../dist/client/', import.meta.url);

export interface Routes {
  /** Whether it has answered a request, or is about to. What it leaves has its sharing headers. */
  handle(req: IncomingMessage, res: ServerResponse): boolean;
  /** Whether who sent this may open a stream of any kind. */
  admits(req: IncomingMessage): boolean;
}

export function createRoutes(options: RouteOptions): Routes {
  const { base, allowedHosts, cors, onNotice, source, connect, trigger, open } = options;

  function handle(req: IncomingMessage, res: ServerResponse): boolean {
    const asking = toAsking(req);
    for (const [name, value] of Object.entries(sharingHeaders(req.headers, cors))) res.setHeader(name, value);
    const refusal = refuseHost(asking, allowedHosts);
    if (refusal) {
      if (refusal.notice) onNotice(refusal.notice);
      answer(res, refusal.status, refusal.body);
      return true;
    }
    const route = routeOf(req, base);
    if (route === undefined) return false;
    const stranger = route === '/client.js' ? strangerNotice(asking, cors) : undefined;
    if (stranger) onNotice(stranger);
    const [, type] = /^\/([\w:-]+)$/.exec(route) ?? [];
    if (type !== undefined && !isRead(req)) void take(req, res, { type, asking, trigger, open });
    else if (route !== '') void sendPart(req, res, { route, source });
    else if (!mayListen(asking, cors)) {
      answer(res, 403, 'Forbidden: the event stream is for pages of this server\n');
    } else if (req.method === 'OPTIONS' && cors === false) {
      answer(res, 405, 'Method Not Allowed\n', { Allow: 'GET, HEAD' }); // a preflight, of no use to anybody
    } else connect(req, res);
    return true;
  }

  function admits(req: IncomingMessage): boolean {
    const asking = toAsking(req);
    return refuseHost(asking, allowedHosts) === undefined && mayListen(asking, cors);
  }

  return { handle, admits };
}

function toAsking(req: IncomingMessage): Asking {
  const { headers, rawHeaders, socket, httpVersion } = req;
  const { remoteAddress = '', localAddress } = socket;
  const fromLoopback = /^(::ffff:)?127\.|^::1$/.test(remoteAddress);
  return {
    headers,
    rawHeaders,
    version: httpVersion,
    secure: (socket as Partial<TLSSocket>).encrypted === true,
    fromLoopback,
    fromHere: fromLoopback || (remoteAddress !== '' && remoteAddress === localAddress),
  };
}

function isRead({ method }: IncomingMessage): boolean {
  return method === 'GET' || method === 'HEAD';
}

/** What follows `base` in the decoded path of a request for one of our own routes; `undefined` for all others. */
function routeOf(req: IncomingMessage, base: string): string | undefined {
  const [target = ''] = (req.url ?? '').split(/[?#]/, 1);
  try {
    const path = decodeURIComponent(target);
    if (path === base) return '';
    return path.startsWith(`${base}/`) ? path.slice(base.length) : undefined;
  } catch {
    return undefined; // malformed: whatever comes next answers 400
  }
}

/** The path as seen from the requested URL, so that a proxy in front may serve us below a prefix. */
export function relativeTo(req: IncomingMessage, path: string): string {
  const { originalUrl = req.url ?? '/' } = req as IncomingMessage & { originalUrl?: string };
  const [target = '/'] = originalUrl.split(/[?#]/, 1);
  const depth = target.split('/').length - 2;
  return (depth > 0 ? '../'.repeat(depth) : './') + path.slice(1);
}

function answer(
  res: ServerResponse,
  status: number,
  body: string,
  headers: Record<string, string> = {},
): void {
  res.writeHead(status, {
    'Content-Type': 'text/plain; charset=utf-8',
    'Content-Length': Buffer.byteLength(body),
    'Cache-Control': 'no-store',
    ...headers,
  });
  res.end(body);
}

interface Taking extends Pick<RouteOptions, 'trigger' | 'open'> {
  readonly type: string;
  readonly asking: Asking;
}

/** Triggers the event of this type with the data in the body, or opens the editor, which only our own overlay may do. */
async function take(
  req: IncomingMessage,
  res: ServerResponse,
  { type, asking, trigger, open }: Taking,
): Promise<void> {
  if (req.method !== 'POST') return answer(res, 405, 'Method Not Allowed\n', { Allow: 'POST' });
  if (!mayWrite(asking) || (type === 'open' && !isOwnPage(asking))) {
    return answer(res, 403, 'Forbidden: only programs and pages of this machine may do that\n');
  }
  const read = await readJson(req);
  if ('status' in read) return answer(res, read.status, `${read.reason}\n`);
  try {
    if (type === 'open') {
      const problem = await open(read.data);
      return answer(res, problem ? 500 : 200, problem ?? '');
    }
    const body = `${JSON.stringify({ clients: trigger(type, read.data) })}\n`;
    answer(res, 200, body, { 'Content-Type': 'application/json' });
  } catch (error) {
    const isTheirs = error instanceof RangeError || error instanceof TypeError;
    answer(res, isTheirs ? 400 : 500, `${isTheirs ? error.message : 'Internal Server Error'}\n`);
  }
}

/** A script of the client by its name, or a source by its hash, below the stream's path. */
async function sendPart(
  req: IncomingMessage,
  res: ServerResponse,
  { route, source }: { readonly route: string } & Pick<RouteOptions, 'source'>,
): Promise<void> {
  const [, name, hash] = /^\/(?:([a-z]+)\.js|source\/([\w-]+))$/.exec(route) ?? [];
  const part = name ? await readScript(name) : hash ? source(hash) : undefined;
  if (!part) return answer(res, 404, 'Not Found\n');
  if (!isRead(req)) return answer(res, 405, 'Method Not Allowed\n', { Allow: 'GET, HEAD' });
  const etag = `"${createHash('sha1').update(part).digest('base64url')}"`;
  const type = name ? 'text/javascript; charset=utf-8' : 'text/plain; charset=utf-8';
  const headers = { 'Content-Type': type, 'Cache-Control': 'no-cache', ETag: etag };
  if (req.headers['if-none-match'] === etag) return void res.writeHead(304, headers).end();
  res.writeHead(200, { ...headers, 'Content-Length': part.length }).end(part);
}

async function readScript(name: string): Promise<Buffer | undefined> {
  try {
    return await readFile(new URL(`${name === 'client' ? 'index' : name}.js`, CLIENT_FOLDER));
  } catch {
    return undefined; // the client has no such part
  }
}
