// An HTML response → the same with the client script in it: decisions about bytes and headers, which are pure, and one
// wrapper that applies them to a response. Nothing is parsed behind the place of the tag, nothing else is changed.

import type { IncomingMessage, OutgoingHttpHeader, ServerResponse } from 'node:http';
import { policyNotice, readPolicy } from './policy.ts';
import type { Collector } from './sources.ts';

/** What the tag of one document says. */
export interface Stamp {
  /** URL of the client script; a path of the page's own origin. */
  readonly src: string;
  /** Event id at which the HTML was made: the page asks for what came after it. */
  readonly id: string;
  /** URL path of the document's own file, percent-encoded. */
  readonly file?: string | undefined;
  /** Name under which the document's source is remembered. */
  readonly source?: string | undefined;
  /** Names of what the page is not to do in place; and `instead`, if it is sent instead of a page. */
  readonly plain?: string | undefined;
}

/** For what is sent instead of a page: what was kept of that is for when it comes again. */
export function insteadOf(stamp: Stamp): Stamp {
  return { ...stamp, plain: [stamp.plain ?? [], 'instead'].flat().join(' ') };
}

export interface HtmlOptions {
  /**
   * What `isDocumentRequest()` said of the request. `false` leaves the HTML alone; `undefined` does so unless it looks
   * like a whole page, that is, starts with a doctype, `<html>`, `<head>` or `<body>`. @default undefined
   */
  readonly document?: boolean | undefined;
  /** The nonce of the page's Content-Security-Policy, from `readPolicy()`. */
  readonly nonce?: string | undefined;
}

export interface ResponseOptions {
  /** Hears one line for the terminal when a policy blocks the client script: what to allow. */
  readonly onNotice?: (line: string) => void;
  /**
   * Leave `If-None-Match` and `If-Modified-Since` to the handlers behind. Right where they send documents that carry the
   * tag already, under validators of their own; elsewhere a 304 would bring back a page without it. @default false
   */
  readonly conditional?: boolean;
  /**
   * Remembers the source of a document that a GET gets, while it is sent; the tag says under which id. One that answers
   * anything else cannot be asked for again, so there is nothing to compare with its source. @default nothing is remembered
   */
  readonly collect?: () => Collector;
}

/** Bytes of a streamed document that are held back at most while the place of the tag is not known. */
const HOLD_LIMIT = 64 * 1024;

/**
 * Whether the response will be a document of its own: `true` for a navigation, `false` for a fragment that a script
 * fetches or any other part of a page, `undefined` if the request doesn't tell.
 *
 * Browsers send `Sec-Fetch-Dest` to https and localhost only; elsewhere it is navigations alone that accept XHTML.
 */
export function isDocumentRequest({ headers }: Pick<IncomingMessage, 'headers'>): boolean | undefined {
  const destination = headers['sec-fetch-dest'];
  // A service worker that passes a navigation on keeps its mode, not its destination; no script can set this mode.
  // Firefox does not keep it either, but a header that only navigations have.
  if (destination === 'empty') {
    return headers['sec-fetch-mode'] === 'navigate' || headers['upgrade-insecure-requests'] === '1';
  }
  if (typeof destination === 'string') return /^(?:document|iframe|frame)$/.test(destination);
  return headers.accept?.includes('application/xhtml+xml') ? true : undefined;
}

// What the HTML parser makes nothing of, or a comment, in front of the head: https://html.spec.whatwg.org/#parsing
const HTML_SKIPPED = /[\t\n\f\r ]+|<!--(?:-?>|.*?--!?>)|<!(?!--)[^>]*>|<\?[^>]*>|<\/(?![a-z])[^>]*>/isy;
const HTML_TAG = /<(\/?)([a-z][^\t\n\f\r />]*)(?=[\t\n\f\r />])/iy;
const HTML_CUT_OFF = /$|<(?:$|[!?/]|[a-z][^\t\n\f\r />]*$)/iy;
const XML_SKIPPED =
  /[\t\n\r ]+|<!--.*?-->|<\?.*?\?>|<!DOCTYPE(?:[^[>"']|"[^"]*"|'[^']*')*(?:\[(?:[^\]"'<]|"[^"]*"|'[^']*'|<!--(?:[^-]|-(?!->))*-->|<(?!!--))*\][\t\n\r ]*)?>/sy;
const XML_ROOT = /<(?:[^\s<>/!?:"'=]+:)?([^\s<>/!?:"'=]+)(?=[\s/>])/y;
// One attribute, or the end of the tag. An unclosed quote reaches to the end of the text.
const ATTRIBUTE =
  /[\t\n\f\r /]*(?:>|=?[^\t\n\f\r />=]*[\t\n\f\r ]*(?:=[\t\n\f\r ]*(?:"[^"]*(?:"|$)|'[^']*(?:'|$)|[^\t\n\f\r >]*))?)/y;
const BYTE_ORDER_MARK = /^(?:\xef\xbb\xbf|\ufeff)?/;

/** Where the tag goes, and whether a whole page was seen on the way; `unfinished`: the text ends too early. */
type Place = { readonly at: number; readonly whole: boolean } | 'unfinished' | 'none';

function read(pattern: RegExp, text: string, at: number): RegExpExecArray | null {
  pattern.lastIndex = at;
  return pattern.exec(text);
}

/** Index behind the tag whose name ends at `at`; `undefined` if the tag has no end. */
function endOfTag(text: string, at: number): number | undefined {
  for (let i = at; i < text.length; ) {
    const part = read(ATTRIBUTE, text, i)?.[0] ?? '';
    i += part.length;
    if (/^[\t\n\f\r /]*>$/.test(part)) return i;
  }
  return undefined;
}

/** The first point of the head, be its tag written or implied. `ended`: no text will follow. */
function findInHtml(text: string, ended: boolean): Place {
  let whole = false;
  let at = BYTE_ORDER_MARK.exec(text)?.[0].length ?? 0;
  for (;;) {
    const skipped = read(HTML_SKIPPED, text, at)?.[0];
    if (skipped) {
      whole ||= /^<!doctype/i.test(skipped);
      at += skipped.length;
      continue;
    }
    const tag = read(HTML_TAG, text, at);
    if (!tag) return ended || !read(HTML_CUT_OFF, text, at) ? { at, whole } : 'unfinished';
    const name = `${tag[1]}${tag[2]}`.toLowerCase();
    whole ||= /^(?:html|head|body)$/.test(name);
    // End tags are ignored here, but for those that imply the head.
    const passes = name.startsWith('/')
      ? !/^\/(?:html|head|body|br)$/.test(name)
      : /^(?:html|head)$/.test(name);
    if (!passes) return { at, whole };
    const end = endOfTag(text, at + tag[0].length);
    // A tag that the end of the file cuts off is dropped by the parser: inside it the script would be, too.
    if (end === undefined) return ended ? { at, whole } : 'unfinished';
    at = end;
    if (name === 'head') return { at, whole };
  }
}

/** The first point inside the root element. */
function findInXml(text: string): Place {
  let at = BYTE_ORDER_MARK.exec(text)?.[0].length ?? 0;
  for (let skipped = read(XML_SKIPPED, text, at); skipped; skipped = read(XML_SKIPPED, text, at)) {
    at += skipped[0].length;
  }
  const root = read(XML_ROOT, text, at);
  const end = root ? endOfTag(text, at + root[0].length) : undefined;
  if (end === undefined) return 'unfinished';
  const isEmpty = text[end - 2] === '/';
  return isEmpty ? 'none' : { at: end, whole: root?.[1] === 'html' };
}

/** How the bytes spell ASCII, which is all that the scan looks at: UTF-8 and its like are read as Latin-1. */
type Coding = 'latin1' | 'utf16le' | 'utf16be';

/** As browsers find it: https://html.spec.whatwg.org/#determining-the-character-encoding */
function codingOf(bytes: Buffer, type: string): Coding {
  const start = bytes.toString('latin1', 0, 4);
  if (start.startsWith('\xff\xfe')) return 'utf16le';
  if (start.startsWith('\xfe\xff')) return 'utf16be';
  if (start.startsWith('\xef\xbb\xbf')) return 'latin1';
  const charset = /;\s*charset\s*=\s*"?([^\s;"]+)/i.exec(type)?.[1]?.toLowerCase();
  if (charset === 'utf-16be' || (!charset && start === '\0<\0?')) return 'utf16be';
  return /^utf-16/.test(charset ?? '') || (!charset && start === '<\0?\0') ? 'utf16le' : 'latin1';
}

function decode(bytes: Buffer, coding: Coding): string {
  if (coding !== 'utf16be') return bytes.toString(coding);
  const pairs = Buffer.from(bytes.subarray(0, bytes.length - (bytes.length % 2)));
  return pairs.swap16().toString('utf16le');
}

function encode(text: string, coding: Coding): Buffer {
  return coding === 'utf16be' ? Buffer.from(text, 'utf16le').swap16() : Buffer.from(text, coding);
}

type Form = 'html' | 'xml';

function formOf(type: string): Form | undefined {
  if (/^\s*text\/html\s*(?:;|$)/i.test(type)) return 'html';
  return /^\s*(?:application\/xhtml|image\/svg)\+xml\s*(?:;|$)/i.test(type) ? 'xml' : undefined;
}

/** The place in bytes; reads as little of a large document as it can. */
function findPlace(bytes: Buffer, form: Form, { coding, ended }: { coding: Coding; ended: boolean }): Place {
  for (let size = 4096; ; size *= 16) {
    const isAll = size >= bytes.length;
    const text = decode(bytes.subarray(0, size), coding);
    const place = form === 'html' ? findInHtml(text, ended && isAll) : findInXml(text);
    if (place === 'unfinished' && !isAll && (form === 'html' || size < HOLD_LIMIT)) continue;
    if (typeof place === 'string') return place;
    return coding === 'latin1' ? place : { ...place, at: place.at * 2 };
  }
}

// All but printable ASCII is escaped too, so that the tag reads the same in every encoding.
const escapeAttribute = (text: string) =>
  text.replace(/[^ -~]|[&"'<>]/gu, (char) => `&#${char.codePointAt(0)};`);

function openingOf(form: Form, src: string): string {
  const start = form === 'html' ? '<script async' : '<script xmlns="http://www.w3.org/1999/xhtml" async=""';
  return `${start} src="${escapeAttribute(src)}"`;
}

function tagOf(form: Form, { src, id, file, source, plain }: Stamp, nonce: string | undefined): string {
  const attributes = Object.entries({
    'data-id': id,
    'data-file': file,
    'data-source': source,
    'data-plain': plain,
    nonce,
  })
    .map(([name, value]) => (value === undefined ? '' : ` ${name}="${escapeAttribute(value)}"`))
    .join('');
  return `${openingOf(form, src)}${attributes}></script>`;
}

interface InsertOptions extends HtmlOptions {
  readonly type: string;
  readonly ended: boolean;
}

/** The bytes with the tag in them, or as they are if they are not to have it; `undefined` if more have to be known. */
function insertTag(bytes: Buffer, stamp: Stamp, options: InsertOptions): Buffer | undefined {
  const { document, ended, type } = options;
  const form = formOf(type);
  if (!form || document === false) return bytes;
  if (bytes.length < 4 && !ended) return undefined; // not even the byte order mark is there
  const coding = codingOf(bytes, type);
  const place = findPlace(bytes, form, { coding, ended });
  if (place === 'unfinished' && !ended) return undefined;
  if (typeof place === 'string' || !(document || place.whole)) return bytes;
  const opening = encode(openingOf(form, stamp.src), coding);
  const next = bytes.subarray(place.at, place.at + opening.length);
  if (next.equals(opening)) return bytes; // it carries the tag already
  const mayBeTag = next.length > 0 && next.equals(opening.subarray(0, next.length));
  if (mayBeTag && !ended) return undefined;
  const tag = encode(tagOf(form, stamp, options.nonce), coding);
  return Buffer.concat([bytes.subarray(0, place.at), tag, bytes.subarray(place.at)]);
}

const injected = new WeakMap<Buffer, { readonly key: string; readonly result: Buffer }>();
/** Documents that were given the tag here. */
const tagged = new WeakSet<Buffer>();

/**
 * A whole document with the tag in it, as the first thing of the head, in XML of the root element; everything else keeps
 * its bytes. The same Buffer comes back if nothing is to be done, and the same result for the same Buffer and stamp.
 *
 * @param type The document's Content-Type; anything but HTML, XHTML and SVG is left alone.
 */
export function injectHtml(html: Buffer, type: string, stamp: Stamp, options: HtmlOptions = {}): Buffer {
  const { document, nonce } = options;
  const key = JSON.stringify([
    type,
    stamp.src,
    stamp.id,
    stamp.file,
    stamp.source,
    stamp.plain,
    nonce,
    document,
  ]);
  const last = injected.get(html);
  if (last?.key === key) return last.result;
  const result = insertTag(html, stamp, { type, document, nonce, ended: true }) ?? html;
  injected.set(html, { key, result });
  if (result !== html) tagged.add(result);
  return result;
}

/** Headers that speak of the bytes as they were before the tag came in. */
const OF_THE_ORIGINAL =
  'etag last-modified accept-ranges content-md5 digest content-digest repr-digest'.split(' ');

/** HTML without a Content-Type, as browsers recognise it: https://mimesniff.spec.whatwg.org/#identifying-a-resource-with-an-unknown-mime-type */
const LOOKS_LIKE_HTML =
  /^(?:\xef\xbb\xbf)?[\t\n\f\r ]*<(?:(?:!doctype html|html|head|script|iframe|h1|div|font|table|a|style|title|b|body|br|p)[ >]|!--)/i;

/** Whether a response with the head of `res` can be a page, sent from its first byte to its last. */
function mayBePage(res: ServerResponse): boolean {
  const header = (name: string) => String(res.getHeader(name) ?? '');
  const status = res.statusCode;
  if (status < 200 || status === 204 || status === 205 || status === 206) return false;
  if ((status >= 300 && status < 400) || res.hasHeader('content-range')) return false;
  if (/^\s*attachment/i.test(header('content-disposition'))) return false;
  if (!/^(?:identity)?$/i.test(header('content-encoding'))) return false;
  return !res.hasHeader('content-type') || formOf(header('content-type')) !== undefined;
}

type Header = readonly [name: string, value: OutgoingHttpHeader];

/** The headers given to `writeHead()`: an object, a flat array, or pairs. */
function toHeaders(given: unknown): readonly Header[] {
  if (!Array.isArray(given)) return Object.entries(given ?? {});
  if (Array.isArray(given[0])) return given;
  return given.flatMap((name, i) => (i % 2 === 0 ? [[name, given[i + 1]] as const] : []));
}

function toBytes(chunk: unknown, encoding: unknown): Buffer | undefined {
  if (typeof chunk === 'string') {
    return Buffer.from(
      chunk,
      typeof encoding === 'string' && Buffer.isEncoding(encoding) ? encoding : 'utf8',
    );
  }
  if (!(chunk instanceof Uint8Array)) return undefined;
  return Buffer.isBuffer(chunk) ? chunk : Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
}

const isFunction = (value: unknown): value is () => void => typeof value === 'function';

const wrapped = new WeakSet<ServerResponse>();

/**
 * Wraps a response so that a document which any later handler sends carries the tag, be it written at once or streamed.
 * A second call for the same response does nothing.
 *
 * Only the bytes in front of the place are held back (64 KB at most), and the head with them: its Content-Length and
 * validators depend on the tag. The handlers see `Accept-Encoding: identity`, because no tag can be put into compressed
 * bytes and compressing gains nothing on the way to the same machine; what comes encoded nevertheless stays as it is.
 *
 * @param stamp Asked at once, before the document is made, and only if the response may be one.
 */
export function injectResponse(
  req: IncomingMessage,
  res: ServerResponse,
  stamp: () => Stamp,
  options: ResponseOptions = {},
): void {
  const document = isDocumentRequest(req);
  if (document === false || wrapped.has(res)) return;
  wrapped.add(res);
  if (req.headers['accept-encoding'] !== undefined) req.headers['accept-encoding'] = 'identity';
  if (document && !options.conditional) {
    delete req.headers['if-none-match'];
    delete req.headers['if-modified-since'];
  }

  const made = stamp();
  const { writeHead, write, end, flushHeaders } = res;
  let source: Collector | undefined;
  // What `res` does: wait for a head, hold back what may be a page, or just what it is told.
  let phase: 'waiting' | 'holding' | 'passing' = 'waiting';
  let held: Buffer[] = [];
  let isAsking = false;
  let isHeadSent = false;

  /** Makes `phase` known. What sets headers at the last moment, the way of `on-headers`, is to do that before. */
  function settleHead(): void {
    if (phase !== 'waiting') return;
    isAsking = true;
    try {
      if (!res.headersSent) res.writeHead(res.statusCode);
    } finally {
      isAsking = false;
    }
    if (phase === 'waiting') begin();
  }

  /** Decides by the head whether there will be something to hold back. */
  function begin(): boolean {
    const isPage = !res.headersSent && mayBePage(res);
    if (isPage && req.method === 'HEAD') amendHead(); // as for GET; its length is not known without the body
    phase = isPage && req.method !== 'HEAD' ? 'holding' : 'passing';
    return phase === 'holding';
  }

  function amendHead(length?: number): void {
    if (isHeadSent || !res.hasHeader('content-type')) return;
    for (const name of OF_THE_ORIGINAL) res.removeHeader(name);
    if (length === undefined) res.removeHeader('content-length');
    else if (res.hasHeader('content-length')) res.setHeader('content-length', length);
  }

  /** What is to be sent of the bytes held back; `undefined` while the place is not known. */
  function release(ended: boolean): Buffer | undefined {
    const bytes = held.length === 1 && held[0] ? held[0] : Buffer.concat(held);
    if (tagged.has(bytes)) {
      phase = 'passing';
      held = [];
      return bytes;
    }
    const sniffed = LOOKS_LIKE_HTML.test(bytes.toString('latin1', 0, 512)) && !isHeadSent ? 'text/html' : '';
    const type = String(res.getHeader('content-type') ?? sniffed);
    const host = req.headers.host ?? String(req.headers[':authority']);
    const { nonce, missing } = readPolicy(res.getHeader('content-security-policy'), host);
    const isFull = bytes.length >= HOLD_LIMIT && !ended;
    // Full, it takes a place in front of an endless comment, unless the doctype may be still to come.
    const insertion = { type, nonce, document: isFull ? undefined : document, ended: ended || isFull };
    const isSource = document && req.method === 'GET' && res.statusCode === 200 && formOf(type) === 'html';
    const collector = isSource ? options.collect?.() : undefined;
    const stamp = collector ? { ...made, source: collector.id } : made;
    const result = insertTag(bytes, res.statusCode < 400 ? stamp : insteadOf(stamp), insertion);
    if (!result) return undefined;
    phase = 'passing';
    held = [];
    if (result === bytes) return bytes;
    source = collector;
    source?.add(bytes);
    if (sniffed && !res.hasHeader('content-type')) res.setHeader('content-type', sniffed);
    const following = ended ? 0 : Number(res.getHeader('content-length')) - bytes.length;
    amendHead(result.length + following);
    if (missing) options.onNotice?.(policyNotice(req.url, missing));
    return result;
  }

  res.writeHead = (status: number, ...rest: readonly unknown[]) => {
    if (isAsking) return res;
    if (phase === 'passing' || isHeadSent) {
      Reflect.apply(writeHead, res, [status, ...rest]);
      return res;
    }
    const [reason, given] = typeof rest[0] === 'string' ? rest : [undefined, rest[0] ?? rest[1]];
    const headers = toHeaders(given);
    res.statusCode = status;
    if (typeof reason === 'string' && req.httpVersionMajor < 2) res.statusMessage = reason;
    for (const [name] of headers) res.removeHeader(name);
    for (const [name, value] of headers) res.appendHeader(name, Array.isArray(value) ? value : String(value));
    if (!begin()) Reflect.apply(writeHead, res, [status]); // a page's head goes out with its first bytes
    return res;
  };

  res.write = (chunk: unknown, ...rest: readonly unknown[]): boolean => {
    settleHead();
    const bytes = phase === 'holding' || source ? toBytes(chunk, rest[0]) : undefined;
    if (!bytes || phase !== 'holding') {
      if (bytes) source?.add(bytes);
      return Boolean(Reflect.apply(write, res, [chunk, ...rest]));
    }
    held.push(bytes);
    const released = release(false);
    const callback = rest.find(isFunction);
    if (released) return Boolean(Reflect.apply(write, res, [released, callback]));
    if (callback) process.nextTick(callback);
    return true;
  };

  res.end = (...args: readonly unknown[]) => {
    settleHead();
    const bytes = phase === 'holding' || source ? toBytes(args[0], args[1]) : undefined;
    const isEmpty = args[0] === undefined || args[0] === null || isFunction(args[0]);
    if (phase === 'holding' && (bytes || isEmpty)) {
      if (bytes) held.push(bytes);
      Reflect.apply(end, res, [release(true), args.find(isFunction)]);
    } else {
      if (bytes) source?.add(bytes);
      Reflect.apply(end, res, args);
    }
    source?.end();
    source = undefined;
    return res;
  };

  res.flushHeaders = () => {
    settleHead();
    if (phase === 'holding') amendHead();
    isHeadSent = true;
    Reflect.apply(flushHeaders, res, []);
  };

  // Whoever handles an error has to see that the page was begun.
  Object.defineProperty(res, 'headersSent', {
    configurable: true,
    get: () => held.length > 0 || Reflect.get(Object.getPrototypeOf(res), 'headersSent', res),
  });
}
