// A request → a file of the folder, or the page that says why there is none. resolve.ts finds the file, sirv reads it,
// versions.ts keeps its bytes whole, conditional.ts decides how much of them is sent, pages.ts has the HTML of our own.

import { type BigIntStats, constants, fstatSync, ReadStream, statSync } from 'node:fs';
import { type IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import { basename, dirname } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { setImmediate } from 'node:timers/promises';
import sirv from 'sirv';
import { type Answer, answerTo } from './conditional.ts';
import { ALL_VERSIONS, versionImports, versionOf } from './imports.ts';
import {
  errorPage,
  listingPage,
  notFoundPage,
  PAGE_HEADERS,
  PAGE_TYPE,
  preset,
  printable,
  redirect,
  sendPage,
} from './pages.ts';
import {
  createResolver,
  type Found,
  type FoundFile,
  isHidden,
  nameOf,
  parseTarget,
  type Target,
  targetOf,
} from './resolve.ts';
import { emptySheet } from './sheets.ts';
import {
  contentType,
  createVersions,
  etagOf,
  factsOf,
  modifiedOf,
  type Opened,
  type Version,
} from './versions.ts';

export interface FilesOptions {
  /** URL prefix → folder; the longest prefix comes first, and where it has no file, the root is asked. */
  readonly mounts?: Readonly<Record<string, string>>;
  /** What answers a navigation that leads to no file: `true` is `index.html`, else a file of the root. @default false */
  readonly single?: boolean | string;
  /** Serve links that lead out of the root and the mounts. @default false */
  readonly followSymlinks?: boolean;
  /** Files that are never served, by whatever name. */
  readonly secret?: readonly string[];
  /** Paths that start with this never get the page of `single`. @default '/__events' */
  readonly reserved?: string;
  /** Resolves when no save of this file is under way, or to `false` if that was waited for long enough. */
  readonly settled?: (file: string) => Promise<boolean>;
  /** Hears of each file that is answered with 200, 206 or 304. */
  readonly onServe?: (file: string, req: IncomingMessage) => void;
  /** One line for the terminal: a refused link, a wrong letter case, a hidden file. Each is said once. */
  readonly onNotice?: (line: string) => void;
  /**
   * What is sent in place of an HTML, XHTML or SVG document, of our own 404 page and of a listing. Lengths and validators
   * are of what it returns.
   */
  readonly document?: (doc: ServedDocument) => Buffer;
}

export interface ServedDocument {
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  readonly status: number;
  readonly body: Buffer;
  /** Content-Type. */
  readonly type: string;
  /** URL path of the file; `undefined` for a page of ours, which is made of none. */
  readonly path: string | undefined;
}

/** Bytes up to which a file is read whole before any of it is sent. */
const WHOLE = 8 * 2 ** 20;
/** The same for documents, which are only sent whole. */
const WHOLE_DOCUMENT = 256 * 2 ** 20;
/** Bytes of file versions kept in memory. */
const MEMORY = 64 * 2 ** 20;
/** How often a file that is replaced while it is being opened is looked for again. */
const ATTEMPTS = 50;

/** Paths of which it is remembered where they led. */
const MOST_NAMES = 1_000;

const DOCUMENT = /\.(?:html?|xhtml|xht|svg)$/i;
const OF_THE_FILE = /^(?:etag|last-modified|content-(?:range|length)|accept-ranges|cache-control)$/;
const FONT = /\.(?:woff2?|ttf|otf|ttc|eot)$/i;

// What a single page app's own addresses don't end in. With `Sec-Fetch-Dest` nothing else counts: /users/j.doe is one of them.
const ASSET =
  /\.(?:html?|css|m?js|map|json|xml|txt|md|tsx?|jsx|wasm|png|jpe?g|gif|svg|ico|webp|avif|woff2?|ttf|otf|mp[34]|webm|ogg|wav|pdf|zip|gz|webmanifest)$/i;

/** One request on its way to its answer. */
interface Exchange {
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  readonly target: Target;
  /** A save was waited for long enough: from now on, what is there is good enough. */
  impatient: boolean;
}

/**
 * The handler that answers every request with a file below `root` or a page that says why not; it never throws or rejects.
 * GET and HEAD only.
 */
export function serveFiles(
  root: string,
  options: FilesOptions = {},
): (req: IncomingMessage, res: ServerResponse) => Promise<void> {
  const { single = false, reserved = '/__events', settled, onServe, document } = options;
  const notice = once(options.onNotice);
  const resolver = createResolver(root, { ...options, onNotice: notice });
  const versionNow = createVersions(openFile, MEMORY);
  /** What each path led to. */
  const usualFiles = new Map<string, string>();
  const sent = new WeakSet<Buffer>();
  /** Empty stylesheets that the terminal has heard of. */
  const told = new WeakSet<Buffer>();

  async function answer(req: IncomingMessage, res: ServerResponse): Promise<void> {
    preset(res, { 'X-Content-Type-Options': 'nosniff' });
    if (req.method !== 'GET' && req.method !== 'HEAD') {
      res.setHeader('Allow', 'GET, HEAD');
      const page = errorPage('Method not allowed', 'Files can be read, with GET and HEAD.');
      return sendPage(req, res, 405, page);
    }
    const target = parseTarget(req.url);
    if (!target) return sendPage(req, res, 400, errorPage('Bad request', 'This address can name no file.'));
    const exchange = { req, res, target, impatient: false };
    for (let i = 0; i < ATTEMPTS; i++) {
      if (await answerOnce(exchange)) return;
      await setImmediate();
    }
    res.setHeader('Retry-After', '1');
    sendPage(req, res, 503, errorPage('Not now', 'This file is being written again and again.'));
  }

  /** `false`: the file was changed under our hands, and everything has to be looked at again. */
  async function answerOnce(exchange: Exchange): Promise<boolean> {
    const { req, res, target } = exchange;
    const found = await find(exchange, target);
    switch (found.type) {
      case 'file':
        return sendFile(exchange, found, 200);
      case 'redirect':
        redirect(req, res, found.location);
        return true;
      case 'folder':
        sendOwnDocument(exchange, 200, listingPage(nameOf(target), found.entries));
        return true;
      case 'missing':
        return sendMissing(exchange);
      default:
        return found satisfies never;
    }
  }

  /** What is there when no save of it is under way: a file that isn't there may be between two steps of one. */
  async function find(exchange: Exchange, target: Target): Promise<Found> {
    if (!settled) return resolver.find(target);
    const usual = await findUsual(exchange, target);
    if (usual) return usual;
    for (let found = resolver.find(target); ; ) {
      await settle(exchange, found.type === 'file' ? [found.file] : resolver.candidates(target));
      const before = found;
      found = resolver.find(target);
      if (found.type === 'file') rememberFile(target, found.file);
      // Gone just now, it was not asked yet whether that is for good.
      if (before.type !== 'file' || found.type === 'file') return found;
    }
  }

  /** The file that the target named before, if it still does: so that it is looked for once, when no save is under way. */
  async function findUsual(exchange: Exchange, target: Target): Promise<Found | undefined> {
    const file = usualFiles.get(nameOf(target));
    if (file === undefined) return undefined;
    await settle(exchange, [file]);
    const found = resolver.find(target);
    return found.type === 'file' && found.file === file ? found : undefined;
  }

  function rememberFile(target: Target, file: string): void {
    if (usualFiles.size === MOST_NAMES) usualFiles.clear();
    usualFiles.set(nameOf(target), file);
  }

  async function settle(exchange: Exchange, files: readonly string[]): Promise<void> {
    if (!settled || exchange.impatient) return;
    const results = await Promise.all(files.map((file) => settled(file)));
    exchange.impatient = results.includes(false);
  }

  /** Had no save begun when these bytes were read? */
  async function isLeftAlone(exchange: Exchange, found: FoundFile, facts: string): Promise<boolean> {
    if (!settled || exchange.impatient) return true;
    await settle(exchange, [found.file]);
    const now = statSync(found.file, { bigint: true, throwIfNoEntry: false });
    return now !== undefined && factsOf(now) === facts;
  }

  async function sendMissing(exchange: Exchange): Promise<boolean> {
    const { req, target } = exchange;
    if (single !== false && !nameOf(target).startsWith(reserved) && wantsSinglePage(req.headers, target)) {
      const page = await find(exchange, targetOf(single === true ? 'index.html' : single));
      if (page.type === 'file') return sendFile(exchange, page, 200);
    }
    const near = resolver.near(target); // says, too, if only the letter case is wrong
    const page = await find(exchange, targetOf('404.html'));
    if (page.type === 'file') return sendFile(exchange, page, 404);
    sendOwnDocument(exchange, 404, notFoundPage(nameOf(target), near));
    return true;
  }

  function sendOwnDocument({ req, res }: Exchange, status: 200 | 404, page: Buffer): void {
    // Set before `document` looks at the response: it has to obey the policy.
    for (const [name, value] of Object.entries(PAGE_HEADERS)) res.setHeader(name, value);
    const doc = { req, res, status, body: page, type: PAGE_TYPE, path: undefined };
    sendPage(req, res, status, document ? document(doc) : page);
  }

  async function sendFile(exchange: Exchange, found: FoundFile, status: 200 | 404): Promise<boolean> {
    const limit = DOCUMENT.test(found.file) ? WHOLE_DOCUMENT : WHOLE;
    if (found.stats.size > limit) return sendLarge(exchange, found, status);
    const known = versionNow(found);
    const version = await known;
    if (!version) return false;
    // What was remembered took no time in which a save could have begun.
    if (known !== version && !(await isLeftAlone(exchange, found, version.facts))) return false;
    const { req, res, target } = exchange;
    const asked = stylesheetVersion(found, target);
    if (asked !== undefined) tellEmpty(target, version);
    if (asked === ALL_VERSIONS) return sendTexts(req, res, version);
    preset(res, { 'Content-Type': version.type });
    const body = represent(exchange, found, { version, status });
    const isRaw = body === version.body;
    const etag = isRaw ? version.etag : etagOf(body);
    const { modified, supersedes } = version;
    // A date proves nothing if other bytes went out under it, or if this page may have come, without the client script, from
    // a server that was on this port before.
    const isProof = modified > supersedes && (isRaw || sent.has(version.body));
    sent.add(version.body);
    const answer = answerFor(exchange, found, { status, size: body.length, etag, modified, isProof });
    begin(exchange, found, answer);
    const isWhole = answer.last - answer.first + 1 === body.length;
    const part = isWhole ? body : body.subarray(answer.first, answer.last + 1);
    res.end(answer.hasBody ? part : undefined);
    return true;
  }

  function tellEmpty(target: Target, { body, older }: Version): void {
    if (!isBlank(body) || older.every(isBlank) || told.has(body)) return;
    told.add(body);
    options.onNotice?.(printable(emptySheet(nameOf(target))));
  }

  /** The bytes of a file as they are sent. */
  function represent(
    { req, res, target }: Exchange,
    found: FoundFile,
    { version: { body, type, older }, status }: { readonly version: Version; readonly status: number },
  ) {
    if (document && DOCUMENT.test(found.file)) {
      return document({ req, res, status, body, type, path: found.path });
    }
    const asked = stylesheetVersion(found, target);
    if (asked === undefined) return body;
    const sheet = isBlank(body) ? (older.find((it) => !isBlank(it)) ?? body) : body;
    if (!sheet.includes('@import')) return sheet;
    // Latin-1 keeps every byte, whatever the encoding is.
    return Buffer.from(versionImports(sheet.toString('latin1'), asked), 'latin1');
  }

  /** Sends from the descriptor, never more than was promised; if there is less, the connection ends with the file. */
  async function sendLarge(exchange: Exchange, found: FoundFile, status: 200 | 404): Promise<boolean> {
    const facts = factsOf(found.stats);
    const [size, etag, modified] = [Number(found.stats.size), `"${facts}"`, modifiedOf(found.stats)];
    const answer = answerFor(exchange, found, { status, size, etag, modified, isProof: true });
    const { first, last } = answer;
    const opened = await openFile(found, first, last);
    if (!opened) return false;
    if (factsOf(opened.stats) !== facts) {
      opened.source.destroy();
      return false;
    }
    preset(exchange.res, { 'Content-Type': contentType(opened.type) });
    begin(exchange, found, answer);
    if (answer.hasBody) {
      const bytes = (source: AsyncIterable<Buffer>) => exactly(source, last - first + 1);
      // Both ends are destroyed when one fails: the client went away, or the file became shorter.
      await pipeline(opened.source, bytes, exchange.res).catch(() => {});
    } else {
      opened.source.destroy();
      exchange.res.end();
    }
    return true;
  }

  function begin({ req, res }: Exchange, found: FoundFile, { status, headers }: Answer): void {
    preset(res, headers);
    res.statusCode = status;
    // The stored answer has its own: https://www.rfc-editor.org/rfc/rfc9110#section-15.4.5
    if (status === 304) res.removeHeader('Content-Type');
    if (status < 400) onServe?.(found.file, req);
  }

  return async (req, res) => {
    res.on('error', () => {}); // the client went away: nobody is left to hear of it
    try {
      await answer(req, res);
    } catch (err) {
      fail(req, res, err, notice);
    }
  };
}

interface Facts {
  readonly status: 200 | 404;
  readonly size: number;
  readonly etag: string;
  readonly modified: number;
  readonly isProof: boolean;
}

/** What the kind of a file and its query add to the decision. */
function answerFor(
  { req, target }: Exchange,
  found: FoundFile,
  { status, size, ...validators }: Facts,
): Answer {
  const isFont = FONT.test(found.file);
  const isVersion = stylesheetVersion(found, target) !== undefined;
  const cacheControl = isFont ? 'no-store' : isVersion ? 'max-age=31536000, immutable' : 'no-cache';
  // With a validator Chromium goes on showing the old font, even after a 200.
  const isValidated = status === 200 && !isFont;
  const file = { status, size, cacheControl, ...(isValidated && { validators }) };
  return answerTo(req.method ?? 'GET', req.headers, file);
}

/** Is this a navigation, or what may be one, to an address that is none of a file? Pure. */
export function wantsSinglePage(headers: IncomingHttpHeaders, { segments }: Target): boolean {
  if (isHidden(segments)) return false;
  const name = segments.at(-1) ?? '';
  const dest = headers['sec-fetch-dest'];
  if (dest !== undefined)
    return /^(?:document|i?frame|embed|object)$/.test(String(dest)) && !ASSET.test(name);
  return !/\.[^.]+$/.test(name) && /text\/html|\*\/\*/.test(headers.accept ?? '*/*');
}

/** In the middle of a save, as a rule. A stylesheet that is meant to be without rules has a comment. */
function isBlank(body: Buffer): boolean {
  return body.length < 1_000 && body.toString('latin1').trim() === '';
}

/** All texts of a stylesheet, the newest first: what a script has made of one of them is found by it. */
function sendTexts(req: IncomingMessage, res: ServerResponse, { body, older }: Version): true {
  const decoder = new TextDecoder();
  const texts = [body, ...older].filter((it) => !isBlank(it)).map((it) => decoder.decode(it));
  const json = Buffer.from(JSON.stringify(texts));
  preset(res, { 'Content-Type': 'application/json', 'Cache-Control': 'no-store' });
  res.setHeader('Content-Length', json.length);
  res.end(req.method === 'HEAD' ? undefined : json);
  return true;
}

/** The version a stylesheet was asked for under: such an answer never has to be asked for again. */
function stylesheetVersion(found: FoundFile, target: Target): string | undefined {
  return /\.css$/i.test(found.file) ? versionOf(target.query) : undefined;
}

/**
 * Opens a file through sirv. sirv finds it in its folder, knows its media type and makes the stream of the range; what it
 * leaves open is closed here:
 *
 * - It serves any name, follows any link and redirects nothing: it is asked only for what resolve.ts has found, one name in
 *   one folder, so that it has nothing left to choose.
 * - It reads `bytes=0-0`, suffixes and reversed ranges wrongly, and knows no conditions: it is only given `bytes=a-b`, and
 *   answers into a response of its own that leads nowhere. Status and headers of the real one are ours.
 * - It pipes a stream without an error listener, from a file opened later than it looked: the stream is taken off, has its
 *   listener, is opened without waiting for a FIFO's other end, and is used only if the descriptor is of the file that was
 *   accepted.
 */
async function openFile(
  { file, stats }: FoundFile,
  first: number,
  last: number,
): Promise<Opened | undefined> {
  const asked = new IncomingMessage(new Socket());
  const name = basename(file);
  asked.url = '/';
  // The place where sirv looks for a parsed URL: `#` and `?` in names are out of the reach of a raw one.
  Object.assign(asked, { _parsedUrl: { raw: '/', pathname: `/${name.replaceAll('%', '%25')}` } });
  if (last >= first) asked.headers.range = `bytes=${first}-${last}`;
  const reply = new ServerResponse(asked);
  reply.setHeader('Content-Type', ''); // from here on writeHead() keeps the headers where getHeader() finds them
  reply.removeHeader('Content-Type');
  let source: unknown;
  reply.once('pipe', (stream) => {
    source = stream;
  });
  try {
    sirv(dirname(file), { dev: true, extensions: [], ignores: false })(asked, reply);
  } catch {
    return undefined; // gone between two looks of sirv's
  }
  if (!(source instanceof ReadStream)) return undefined;
  return prove(source, reply, stats);
}

function prove(
  source: ReadStream,
  reply: ServerResponse,
  accepted: BigIntStats,
): Promise<Opened | undefined> {
  source.unpipe(reply);
  source.pause();
  // The stream opens its file in the next tick, with these.
  Object.assign(source, { flags: constants.O_RDONLY | (constants.O_NONBLOCK ?? 0) });
  return new Promise((resolve, reject) => {
    source.on('error', (err: NodeJS.ErrnoException) => {
      if (/^(?:ENOENT|ENOTDIR|ELOOP|ENXIO)$/.test(err.code ?? '')) resolve(undefined);
      else reject(err); // of no effect once it is open: who reads it hears of it
    });
    source.once('open', (fd: number) => {
      const stats = fstatSync(fd, { bigint: true });
      if (!stats.isFile() || stats.ino !== accepted.ino || stats.dev !== accepted.dev) {
        source.destroy();
        return resolve(undefined);
      }
      let isUnchanged = false;
      source.once('end', () => {
        isUnchanged = factsOf(fstatSync(fd, { bigint: true })) === factsOf(stats);
      });
      const type = mediaType(String(source.path), String(reply.getHeader('content-type') ?? ''));
      resolve({ type, stats, source, isUnchanged: () => isUnchanged });
    });
  });
}

/** What sirv says, but for kinds it doesn't know, and for compressed files: those are downloads, not encodings. */
function mediaType(file: string, known: string): string {
  const [, ending = ''] = /\.([^.]+)$/.exec(file.toLowerCase()) ?? [];
  const others: Record<string, string> = {
    gz: 'application/gzip',
    br: 'application/octet-stream',
    ico: 'image/x-icon',
    eot: 'application/vnd.ms-fontobject',
  };
  const [type = ''] = known.split(';');
  return (Object.hasOwn(others, ending) ? others[ending] : type) || 'application/octet-stream';
}

/** As many bytes as were promised, or an error. */
async function* exactly(source: AsyncIterable<Buffer>, length: number): AsyncGenerator<Buffer> {
  let left = length;
  for await (const chunk of source) {
    yield chunk.length > left ? chunk.subarray(0, left) : chunk;
    left -= chunk.length;
    if (left <= 0) return;
  }
  throw new Error('The file became shorter while it was being sent');
}

function fail(req: IncomingMessage, res: ServerResponse, err: unknown, notice: (line: string) => void): void {
  const cause = err instanceof Error ? err.message : String(err);
  notice(`Cannot answer ${req.method} ${req.url}: ${cause}`);
  if (res.headersSent) {
    res.destroy();
    return;
  }
  for (const name of res.getHeaderNames()) if (OF_THE_FILE.test(name)) res.removeHeader(name);
  const isRefused = err instanceof Error && 'code' in err && (err.code === 'EACCES' || err.code === 'EPERM');
  if (isRefused)
    sendPage(req, res, 403, errorPage('Forbidden', 'The server is not allowed to read this file.'));
  else sendPage(req, res, 500, errorPage('Something went wrong', 'The terminal says what.'));
}

/** Says each line once: a page asks for the same wrong file at every reload. */
function once(onNotice: (line: string) => void = () => {}): (line: string) => void {
  const said = new Set<string>();
  return (line) => {
    if (said.has(line)) return;
    if (said.size > 1_000) said.clear();
    said.add(line);
    onNotice(printable(line));
  };
}
