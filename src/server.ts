// start(): a folder and a port become a running server. What can fail comes first and leaves nothing behind.

import { mkdir, rm, stat } from 'node:fs/promises';
import {
  type IncomingMessage,
  type RequestListener,
  validateHeaderName,
  validateHeaderValue,
} from 'node:http';
import { resolve, sep } from 'node:path';
import type { Duplex } from 'node:stream';
import type { Credentials, Identity } from './certificate.ts';
import { toPath } from './events.ts';
import { isWithin } from './links.ts';
import { type Listening, type ListeningServer, listen, refuse } from './listen.ts';
import { type Handler, type Live, type LiveOptions, type Wiring, watchedPaths, wire } from './live.ts';
import { errorPage, sendPage } from './pages.ts';
import type { Proxy as BackEnd } from './proxy.ts';
import { serveFiles } from './static.ts';
import { createTexts, type ReadTexts } from './texts.ts';

export interface StartOptions extends LiveOptions {
  /** The folder to serve, relative to the working folder. @default '.' */
  readonly root?: string;
  /** Port to listen on; 0 takes any free one. @default the first free one from 8080 */
  readonly port?: number;
  /** Address or name to listen on; `true` is every address of the machine. @default 127.0.0.1 and ::1: this machine alone */
  readonly host?: string | true;
  /**
   * HTTPS with HTTP/2: with this key and certificate, each as PEM or as the path of a file (which is never served then), or
   * with a self-signed certificate that is made once and remembered in the user's cache folder. @default false: plain HTTP
   */
  readonly https?: boolean | Credentials;
  /**
   * Isolates the pages from those of other origins, as `SharedArrayBuffer` and exact timers need it: every response has
   * `Cross-Origin-Opener-Policy: same-origin` and `Cross-Origin-Embedder-Policy: require-corp`. @default false
   */
  readonly isolate?: boolean;
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
  /**
   * Back ends that render their own pages: one for everything, or URL prefix to URL. As in nginx, a target with a path,
   * even `/`, replaces the prefix; one without keeps it. @default none
   */
  readonly proxy?: string | Readonly<Record<string, string>>;
  /**
   * A shell command that makes what is served. Runs at start and after each change of what `watch` names, never twice at
   * once; pages hear of what a good run has changed, and of a bad one by its output. @default none
   */
  readonly run?: string;
  /** A newer change ends the run under way, instead of following it. @default false */
  readonly runKill?: boolean;
  /** Serves symbolic links that lead out of the folder too, and watches what they lead to. @default false */
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
  /** The server that listens, of node:http or (with `https`) node:http2; by default the one on 127.0.0.1. */
  readonly server: ListeningServer;
}

/** What is sent in place of an answer that failed. */
const FAILURE = 'Internal Server Error\n';

type Mounts = Readonly<Record<string, string>>;

/**
 * Serves a folder and shows each change of it in the browser at once. Resolves when every later change is sure to be
 * seen.
 * @throws {TypeError | RangeError} if an option is not what it should be
 * @throws {Error} if the folder cannot be served or the port cannot be had; then nothing stays behind
 */
export async function start(options: StartOptions = {}): Promise<LiveServer> {
  checkOptions(options);
  const mounts = await toMounts(options.mounts ?? {});
  const sources = options.run === undefined ? [] : watchedPaths(options.watch);
  const made = options.run === undefined ? undefined : await makeFolder(options.root ?? '.');
  const root = await toFolder(options.root ?? '.');
  // A back end for everything, and no folder that its URLs could be those of: any file may be in any page.
  const unmapped = typeof options.proxy === 'string' && options.root === undefined;
  const proxy = options.proxy === undefined ? undefined : await toProxy(options.proxy, () => wiring);
  const conditional = (options.middleware ?? []).length === 0 && proxy === undefined;
  let texts: ReadTexts | undefined;
  const wiring = wire({
    ...options,
    watched: toWatch(options.watch, unmapped && options.watch ? [] : [root, ...Object.values(mounts)]),
    conditional,
    texts: (paths, readers) => texts?.(paths, readers),
    // A folder of sources may hold the folder of outputs, which are none.
    isSource: (file) =>
      sources.some((source) => isWithin(source, file) && !(isWithin(source, root) && isWithin(root, file))),
    locate: (file) => (unmapped ? [] : locate(file, root, mounts)),
  });
  try {
    const identity = await identify(options, wiring);
    const secret = identity?.files ?? [];
    const handle = handler(root, mounts, { options, wiring, proxy, secret });
    // What others send, or have a say in, may be something else than what is on the disk.
    if (conditional && !hasPolicy(options)) {
      const { followSymlinks = false } = options;
      texts = createTexts(root, { mounts, followSymlinks, secret }, wiring.settled);
    }
    const { host = 'localhost', port } = options;
    const listening = await listen(handle, { host, port, tls: identity });
    return await attach(root, listening, { options, wiring, proxy });
  } catch (error) {
    proxy?.close();
    await wiring.controls.close();
    if (made !== undefined) await rm(made, { recursive: true });
    throw error;
  }
}

/** Pages may be forbidden to have styles of their own, and would complain of one. */
function hasPolicy({ headers = {} }: StartOptions): boolean {
  return Object.keys(headers).some((name) => /^content-security-policy/i.test(name));
}

/** What a server is made of. */
interface Made {
  readonly options: StartOptions;
  readonly wiring: Wiring;
  readonly proxy: BackEnd | undefined;
}

async function identify(options: StartOptions, wiring: Wiring): Promise<Identity | undefined> {
  const { https = false, host = 'localhost', allowedHosts } = options;
  if (https === false) return undefined;
  const { namesFor, readCredentials, selfSigned } = await import('./certificate.ts');
  if (https !== true) return readCredentials(https);
  return selfSigned(namesFor(host, allowedHosts), { onNotice: wiring.tell });
}

function toWatch(asked: LiveOptions['watch'], own: readonly string[]): readonly string[] {
  return asked === false ? [] : [...own, ...watchedPaths(asked)];
}

async function toProxy(
  targets: string | Readonly<Record<string, string>>,
  wiring: () => Wiring,
): Promise<BackEnd> {
  const { createProxy } = await import('./proxy.ts');
  return createProxy(targets, {
    onNotice: (line) => wiring().tell(line),
    down: (req, res, target) => {
      const text = `Nothing answers at ${target}. This page reloads as soon as something does.`;
      sendPage(req, res, 502, errorPage('The back end is down', text));
    },
    up: () => wiring().controls.reload(),
  });
}

function checkOptions(options: StartOptions): void {
  const {
    root = '.',
    port = 0,
    host = 'localhost',
    open = false,
    headers = {},
    https = false,
    run,
    watch: watched,
  } = options;
  if (typeof root !== 'string') throw new TypeError('The option root takes the path of a folder');
  if (host !== true && typeof host !== 'string')
    throw new TypeError('The option host takes an address, a name, or true');
  const isPem = (value: unknown) => (typeof value === 'string' && value !== '') || Buffer.isBuffer(value);
  if (typeof https !== 'boolean' && !(isPem(https.key) && isPem(https.cert))) {
    throw new TypeError(
      'The option https takes { key, cert }, each as PEM or as the path of a file, or true',
    );
  }
  if (typeof port !== 'number') throw new TypeError('The option port takes a number');
  if (!Number.isInteger(port) || port < 0 || port > 65535) {
    throw new RangeError(`Cannot listen on port ${port}: give a whole number from 0 to 65535`);
  }
  if (run !== undefined && watchedPaths(watched).length === 0) {
    throw new RangeError(`Cannot tell when to run "${run}": name what it builds from with --watch`);
  }
  if (run !== undefined && watchedPaths(watched).includes(resolve(root))) {
    throw new RangeError(
      `Cannot build "${root}" from itself, which would never end: watch another folder than it serves`,
    );
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

/** Makes a folder that the first run will fill; gives the topmost folder it had to make. */
async function makeFolder(path: string): Promise<string | undefined> {
  const there = await stat(path).catch(() => undefined);
  return there ? undefined : mkdir(resolve(path), { recursive: true });
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

/** https://developer.mozilla.org/docs/Web/API/Window/crossOriginIsolated */
const ISOLATION = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
};

function handler(
  root: string,
  mounts: Mounts,
  { options, wiring, proxy, secret }: Made & { readonly secret: readonly string[] },
): RequestListener {
  const { single = false, followSymlinks = false, isolate = false, headers = {}, middleware = [] } = options;
  const files = serveFiles(root, {
    mounts,
    single,
    followSymlinks,
    secret,
    settled: wiring.settled,
    onServe: wiring.prefer,
    onNotice: wiring.tell,
    document: wiring.document,
    ...(options.path === undefined ? {} : { reserved: options.path }),
  });
  const own: Handler = (_req, res, next) => {
    for (const [name, value] of Object.entries(headers)) res.setHeader(name, value);
    next();
  };
  const backend: Handler = (req, res, next) => {
    if (!proxy?.handle(req, res)) next();
  };
  const handlers: readonly Handler[] = [wiring.controls.middleware, own, ...middleware, backend, files];

  return (req, res) => {
    res.on('error', () => {}); // the client went away in the middle of the answer
    for (const [name, value] of Object.entries(isolate ? ISOLATION : {})) res.setHeader(name, value);
    const fail = (error: unknown) => {
      wiring.tell(new Error(`Could not answer ${req.method} ${req.url}`, { cause: error }));
      if (res.headersSent) res.destroy();
      else {
        // A length that was set before the failure is of something else.
        const headers = { 'Content-Type': 'text/plain; charset=utf-8', 'Content-Length': FAILURE.length };
        res.writeHead(500, headers).end(FAILURE);
      }
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

async function attach(
  root: string,
  { servers, host, port, close }: Listening,
  { options, wiring, proxy }: Made,
): Promise<LiveServer> {
  const { controls } = wiring;
  let closing: Promise<void> | undefined;
  const server: LiveServer = {
    url: `${options.https ? 'https' : 'http'}://${host}:${port}/`,
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
      closing ??= close(() => {
        proxy?.close();
        return controls.close();
      });
      return closing;
    },
    [Symbol.asyncDispose]: () => server.close(),
  };
  if (proxy) for (const one of servers) one.on('upgrade', upgrader(proxy, wiring));
  try {
    await controls.ready;
  } catch (error) {
    await server.close();
    throw error;
  }
  if (options.open)
    void openBrowser(new URL(options.open === true ? '' : options.open, server.url).href, wiring);
  return server;
}

/** WebSockets go to a back end or nowhere; who may not open the event stream may not open one either. */
function upgrader(proxy: BackEnd, wiring: Wiring) {
  return (req: IncomingMessage, socket: Duplex, head: Buffer) => {
    socket.on('error', () => {}); // the client went away
    if (!wiring.admits(req)) refuse(socket, '403 Forbidden');
    else if (!proxy.upgrade(req, socket, head)) refuse(socket, '404 Not Found');
  };
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
