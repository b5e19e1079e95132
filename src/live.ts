// live(): middleware and controls. Wires the parts: a change on the disk becomes an event, the event goes down the
// stream, and every HTML document that passes by carries the script that listens. Knows no port and serves no file.

import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { resolve } from 'node:path';
import type { TLSSocket } from 'node:tls';
import { type Change, classify, type PageEvent, RESERVED_TYPES } from './events.ts';
import { type Asking, type Cors, mayListen, refuseHost, sharingHeaders } from './guard.ts';
import { injectHtml, injectResponse, isDocumentRequest, readPolicy, type Stamp } from './inject.ts';
import { type Client, createChannel } from './sse.ts';
import { type Matcher, watch } from './watch.ts';

/** A request handler as connect, Express, Polka and node:http know it. */
export type Handler = (req: IncomingMessage, res: ServerResponse, next: (error?: unknown) => void) => unknown;

export interface LiveOptions {
  /**
   * Files and folders to watch, relative to the working folder; `false` watches nothing.
   * @default nothing for `live()`; `start()` watches its root and these
   */
  readonly watch?: string | readonly string[] | false;
  /**
   * What never notifies: globs and paths relative to the watched folder, or expressions and functions on the absolute
   * path. Temporary files of editors, dotfiles, `node_modules` and caches never do.
   */
  readonly ignore?: Matcher | readonly Matcher[];
  /**
   * Milliseconds between looks at the disk, for network shares and containers that do not tell of changes.
   * @default false: the system tells
   */
  readonly poll?: number | false;
  /** Which event a batch of changes becomes; `undefined` sends none. @default the server's own decision */
  readonly classify?: (changes: readonly Change[]) => PageEvent | undefined;
  /** URL path of the event stream, and of the client script below it. @default '/__events' */
  readonly path?: string;
  /** Host names to serve besides localhost and IP addresses; a leading dot takes subdomains. @default [] */
  readonly allowedHosts?: readonly string[];
  /** Origins whose pages may read what is served; `true` is any. @default false */
  readonly cors?: Cors;
}

/** What can be listened to with `on()`. */
export interface LiveEvents {
  /** A batch of changes, the event it became, the milliseconds since the first of them, and how many clients got it. */
  change: {
    readonly changes: readonly Change[];
    readonly event: PageEvent | undefined;
    readonly ms: number;
    readonly clients: number;
  };
  connect: { readonly clients: number };
  disconnect: { readonly clients: number };
  /** A line that the developer should see. It may hold characters of requests and file names as they came. */
  notice: string;
  error: Error;
}

/** Controls of a running event stream with its watcher. */
export interface Live extends AsyncDisposable {
  /** Put it ahead of whatever sends the HTML. */
  readonly middleware: Handler;
  /** Resolves when every later change is sure to be seen. */
  readonly ready: Promise<void>;
  /** Open event streams. All tabs of a browser share one. */
  readonly clients: number;
  /** Makes the pages that use these URL paths reload. @default every page */
  reload(paths?: string | readonly string[]): void;
  /** Makes the pages that use this stylesheet fetch it again. @default every stylesheet */
  css(path?: string): void;
  /**
   * Sends an event of your own: text as it is, anything else as JSON.
   * @throws {RangeError} if the type is one of live-sse's own, or has other characters than letters, digits, `:`, `_`, `-`
   */
  send(type: string, data?: unknown): void;
  /** Calls the listener at each such event; gives the function that undoes it. */
  on<Type extends keyof LiveEvents>(type: Type, listener: (event: LiveEvents[Type]) => void): () => void;
  /** Ends the streams and stops watching. Calling it twice is once. */
  close(): Promise<void>;
}

/** What start() needs besides the controls, to serve files. */
export interface Wiring {
  readonly controls: Live;
  /** The document with the client script in it, marked with the file it was made of. */
  document(doc: {
    req: IncomingMessage;
    res: ServerResponse;
    body: Buffer;
    type: string;
    path: string;
  }): Buffer;
  /** Resolves when no save of the file is under way; bounded. */
  settled(file: string): Promise<void>;
  /** A page uses this file. */
  prefer(file: string): void;
  /** Hands it to those who listen to `notice` or `error`. */
  tell(news: string | Error): void;
}

interface WiringOptions extends LiveOptions {
  /** Absolute paths. */
  readonly watched: readonly string[];
  /** The URL paths that lead to a file; mounts may give it several. */
  readonly locate: (file: string) => readonly string[];
  /** Whatever sends documents puts the tag in itself, and its validators are right. */
  readonly conditional: boolean;
}

/** Of the events on the wire. */
const PROTOCOL = 1;
const CLIENT_FOLDER = new URL('../dist/client/', import.meta.url);

/**
 * Live reload for a server of your own: mount `middleware` ahead of whatever sends the HTML.
 * @throws {TypeError | RangeError} if an option is not what it should be
 */
export function live(options: LiveOptions = {}): Live {
  return wire({ ...options, watched: watchedPaths(options.watch), locate: () => [], conditional: false })
    .controls;
}

/** The absolute paths an option names. */
export function watchedPaths(watched: LiveOptions['watch'] = false): string[] {
  return watched === false ? [] : [watched].flat().map((path) => resolve(path));
}

/** Puts the parts together. */
export function wire(options: WiringOptions): Wiring {
  const { allowedHosts = [], cors = false, path: base = '/__events', locate, conditional } = options;
  checkOptions(options);
  const boot = Date.now().toString(36);
  const channel = createChannel({ boot, retry: 500 });
  const listeners = new Map<keyof LiveEvents, Set<(event: never) => void>>();
  const clients = new Set<Client>();
  /** Types of the user's own events. */
  const types = new Set<string>();
  const madeAt = new WeakMap<IncomingMessage, string>();
  const reloads = countReloads();
  let closing: Promise<void> | undefined;

  const emit = <Type extends keyof LiveEvents>(type: Type, event: LiveEvents[Type]) => {
    const all = listeners.get(type) ?? [];
    for (const listener of all) (listener as (event: LiveEvents[Type]) => void)(event);
  };
  // What is noticed while the server starts is kept for the first who listens.
  const untold: string[] = [];
  const notice = (line: string) => {
    if (listeners.has('notice')) emit('notice', line);
    else if (untold.length < 100) untold.push(line);
  };

  const publish = (event: PageEvent) => channel.send(event.type, { paths: event.paths });

  const decide = (changes: readonly Change[]) => {
    try {
      return (options.classify ?? classify)(changes);
    } catch (error) {
      emit(
        'error',
        new Error('The function given as classify has failed: the pages reload', { cause: error }),
      );
      return classify(changes);
    }
  };

  const watcher = watch(
    options.watched,
    (batch, since) => {
      const changes = batch.flatMap((change) => locateChange(change, locate(change.file)));
      const event = decide(changes);
      if (event) publish(event);
      emit('change', { changes, event, ms: performance.now() - since, clients: channel.clients });
      for (const path of event?.type === 'reload' ? reloads(event.paths) : []) notice(loopWarning(path));
    },
    { ignore: [options.ignore ?? []].flat(), poll: options.poll ?? false, onWarning: notice },
  );

  channel.on('connect', (client) => {
    clients.add(client);
    greet(client);
    emit('connect', { clients: channel.clients });
  });
  channel.on('disconnect', (client) => {
    clients.delete(client);
    emit('disconnect', { clients: channel.clients });
  });

  // An EventSource hears only the types it listens for, so it is told which there are before the first of each comes.
  const hello = () => ({ boot, version: PROTOCOL, types: [...types] });

  const greet = (client: Client) => {
    const { missed } = client;
    client.send('hello', hello(), missed === 'nothing' ? { id: channel.lastId } : {});
    // What it missed cannot be known: one reload, and its page is sure to be right.
    if (missed === 'unknown') client.send('reload', { paths: [] }, { id: channel.lastId });
  };

  const announce = (type: string) => {
    types.add(type);
    for (const client of clients) client.send('hello', hello());
  };

  const middleware: Handler = (req, res, next) => {
    const asking = toAsking(req);
    for (const [name, value] of Object.entries(sharingHeaders(req.headers, cors))) res.setHeader(name, value);
    const refusal = refuseHost(asking, allowedHosts);
    if (refusal) {
      if (refusal.notice) notice(refusal.notice);
      return answer(res, refusal.status, refusal.body);
    }
    const route = routeOf(req, base);
    if (route === '')
      return mayListen(asking, cors)
        ? channel.connect(req, res)
        : answer(res, 403, 'Forbidden: the event stream is for pages of this server\n');
    if (route !== undefined) return sendClient(req, res, route);
    // Before anything of the page is read: what changes from now on is sent again when its stream opens.
    madeAt.set(req, channel.lastId);
    injectResponse(req, res, () => stamp(req), { onNotice: notice, conditional });
    return next();
  };

  const stamp = (req: IncomingMessage, file?: string): Stamp => ({
    src: relativeTo(req, `${base}/client.js`),
    id: madeAt.get(req) ?? channel.lastId,
    ...(file === undefined ? {} : { file }),
  });

  const close = async () => {
    channel.close();
    await watcher.close();
  };

  const controls: Live = {
    middleware,
    ready: watcher.ready,
    get clients() {
      return channel.clients;
    },
    reload: (paths = []) => void publish({ type: 'reload', paths: checkPaths([paths].flat()) }),
    css: (path) => void publish({ type: 'css', paths: checkPaths(path === undefined ? [] : [path]) }),
    send: (type, data = null) => {
      if ((RESERVED_TYPES as readonly string[]).includes(type)) {
        throw new RangeError(
          `Cannot send an event of type "${type}": that type is live-sse's own. Choose another name`,
        );
      }
      if (!types.has(type)) announce(type);
      channel.send(type, data);
    },
    on: (type, listener) => {
      const set = listeners.get(type) ?? new Set();
      listeners.set(type, set.add(listener));
      if (type === 'notice') for (const line of untold.splice(0)) notice(line);
      return () => void set.delete(listener);
    },
    close: () => {
      closing ??= close();
      return closing;
    },
    [Symbol.asyncDispose]: () => controls.close(),
  };

  return {
    controls,
    document: ({ req, res, body, type, path }) => {
      const { nonce } = readPolicy(res.getHeader('content-security-policy'), req.headers.host);
      return injectHtml(body, type, stamp(req, path), { document: isDocumentRequest(req), nonce });
    },
    settled: watcher.settled,
    prefer: watcher.prefer,
    tell: (news) => (typeof news === 'string' ? notice(news) : emit('error', news)),
  };
}

function locateChange(change: Change, paths: readonly string[]): readonly Change[] {
  return paths.length === 0 ? [change] : paths.map((path) => ({ ...change, path }));
}

function checkOptions({
  path = '/__events',
  watch: watched,
  allowedHosts = [],
  poll = false,
}: LiveOptions): void {
  if (!/^(\/[A-Za-z0-9_.~-]+)+$/.test(path)) {
    throw new RangeError(
      `The event stream cannot be at "${path}": give a path like /__events, without a slash at its end`,
    );
  }
  if (
    watched !== undefined &&
    watched !== false &&
    ![watched].flat().every((entry) => typeof entry === 'string')
  ) {
    throw new TypeError('The option watch takes paths, or false');
  }
  if (poll !== false && !(poll > 0))
    throw new RangeError(`Cannot poll every ${poll} ms: give a number above 0`);
  for (const name of allowedHosts) {
    if (/^\.?[a-z0-9_-]+(\.[a-z0-9_-]+)*$/i.test(name)) continue;
    throw new RangeError(
      `Cannot allow the host "${name}": give a name like mybox.local, without scheme and port`,
    );
  }
}

function checkPaths(paths: readonly string[]): readonly string[] {
  for (const path of paths) {
    if (typeof path !== 'string') throw new TypeError('A path to reload is text that starts with a slash');
    if (!path.startsWith('/'))
      throw new RangeError(`Cannot reload "${path}": give its URL path, like "/${path}"`);
  }
  return paths;
}

function toAsking(req: IncomingMessage): Asking {
  const { headers, rawHeaders, socket } = req;
  return {
    headers,
    rawHeaders,
    secure: (socket as Partial<TLSSocket>).encrypted === true,
    fromLoopback: /^(::ffff:)?127\.|^::1$/.test(socket.remoteAddress ?? ''),
  };
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
function relativeTo(req: IncomingMessage, path: string): string {
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

/** A script of the client, by its name below the stream's path. */
async function sendClient(req: IncomingMessage, res: ServerResponse, route: string): Promise<void> {
  const [, name] = /^\/([a-z]+)\.js$/.exec(route) ?? [];
  if (name === undefined) return answer(res, 404, 'Not Found\n');
  if (req.method !== 'GET' && req.method !== 'HEAD') {
    return answer(res, 405, 'Method Not Allowed\n', { Allow: 'GET, HEAD' });
  }
  try {
    const script = await readFile(new URL(`${name === 'client' ? 'index' : name}.js`, CLIENT_FOLDER));
    const etag = `"${createHash('sha1').update(script).digest('base64url')}"`;
    const headers = {
      'Content-Type': 'text/javascript; charset=utf-8',
      'Cache-Control': 'no-cache',
      ETag: etag,
    };
    if (req.headers['if-none-match'] === etag) return void res.writeHead(304, headers).end();
    res.writeHead(200, { ...headers, 'Content-Length': script.length }).end(script);
  } catch {
    answer(res, 404, 'Not Found\n'); // no such part of the client
  }
}

/** Counts reloads per path; gives those that came more often than a person saves: a file that pages write by loading. */
function countReloads(limit = 3, ms = 2000): (paths: readonly string[]) => string[] {
  const times = new Map<string, number[]>();
  return (paths) => {
    const now = performance.now();
    for (const [path, all] of times) if (now - (all.at(-1) ?? 0) > ms) times.delete(path);
    return paths.filter((path) => {
      const recent = [...(times.get(path) ?? []), now].filter((time) => now - time <= ms);
      times.set(path, recent);
      return recent.length === limit + 1;
    });
  };
}

function loopWarning(path: string): string {
  return `${path} changed four times in two seconds, so pages stop reloading for it until it is quiet. If loading a page writes it, start with --ignore ${path.slice(1)}`;
}
