// Events → clients: each event is encoded once, written to every open stream, and remembered for those who come back.
// Knows nothing of files, pages and the dev server: "live-sse/sse" is this file.

import { type IncomingMessage, OutgoingMessage, type ServerResponse } from 'node:http';
import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2';
import type { Socket } from 'node:net';
import type { Writable } from 'node:stream';

/** A request as node:http, node:http2 (its compatibility API), Express and Polka hand it out. */
export type ChannelRequest = IncomingMessage | Http2ServerRequest;
/** The response that belongs to it. */
export type ChannelResponse = ServerResponse | Http2ServerResponse;

export interface ChannelOptions {
  /** Reconnection time: milliseconds until a browser comes back. Firefox waits 500 at the least. @default 500 */
  readonly retry?: number;
  /** Milliseconds between two keep-alive events: `ping`, without id; 0 for none. @default 10_000 */
  readonly keepAlive?: number;
  /** What is remembered for clients that come back, at the most; a number is events. @default { events: 1000, bytes: 1 MiB } */
  readonly history?: number | { readonly events: number; readonly bytes: number };
  /** More headers for the response that is the stream; they win over the channel's. @default none */
  readonly headers?: (req: ChannelRequest) => Readonly<Record<string, string>>;
  /** Milliseconds after which a client is ended to whom nothing but keep-alive was sent; 0 for never. @default 0 */
  readonly idleTimeout?: number;
  /**
   * When a client that doesn't read is cut off: as soon as more than `bytes` wait for it, or after `ms` in which what
   * waits didn't go out. What is sent at one go, in one turn of the event loop, may be more than `bytes`.
   * @default { bytes: 8 MiB, ms: 30_000 }
   */
  readonly stalled?: { readonly bytes: number; readonly ms: number };
  /**
   * Other origins whose pages may listen, each `scheme://host[:port]`; `true` or `'*'` for all, which excludes
   * `credentials`. Any other origin is answered 403, `null` always.
   * @default false
   */
  readonly cors?: boolean | readonly string[] | CorsOptions;
  /** What generated ids begin with; a new one at each start, so that old ids are known as such. @default the time */
  readonly boot?: string;
}

export interface CorsOptions {
  readonly origins: readonly string[];
  /** Whether cookies may come along: `new EventSource(url, { withCredentials: true })`. @default false */
  readonly credentials?: boolean;
}

export interface SendOptions {
  /** An id of your own: unique, 1 to 256 characters, no control characters, no space at either end. */
  readonly id?: string;
}

export interface BroadcastOptions extends SendOptions {
  /** What those who are connected, and for whom `to` holds, are sent in place of the data that is remembered. */
  readonly now?: { readonly data: unknown; readonly to: (client: Client) => boolean };
}

/** One open stream. */
export interface Client {
  readonly req: ChannelRequest;
  /**
   * What it missed since the event whose id it came with: `nothing`; something that is `sent` again now; something
   * `unknown`, as the id is of another start, too old, or nonsense. Without an id: `nothing`.
   */
  readonly missed: 'nothing' | 'sent' | 'unknown';
  /** Sends to this client alone: not remembered, and without an id unless it is given one. Throws as the channel's does. */
  send(type: string | undefined, data: unknown, options?: SendOptions): void;
  /** Ends the stream. A browser comes back after the reconnection time. */
  end(): void;
}

export interface Channel extends AsyncDisposable {
  /**
   * Makes the response a stream. Fits a router: `app.get('/events', channel.connect)`.
   * `undefined`: it was answered without a stream (HEAD, OPTIONS, another method, a refused origin, after `end()` or
   * `close()`), or the client is gone already.
   */
  connect(this: void, req: ChannelRequest, res: ChannelResponse, ...ignored: unknown[]): Client | undefined;
  /**
   * Sends an event to all clients; gives its id. Text goes as text, its line breaks (LF, CR, CRLF) as line breaks: they
   * arrive as LF, since the format has no other. `undefined` goes as empty text, everything else as JSON, which keeps
   * every character. `onmessage` hears events without a type. Without clients, the event is only remembered; after
   * `close()` it is nothing.
   * @throws {RangeError} for a type with other characters than A-Z a-z 0-9 : _ - or EventSource's own `open` and `error`
   * @throws {TypeError} for data that JSON has no form for
   */
  send(type: string | undefined, data: unknown, options?: BroadcastOptions): string;
  /** Sets the reconnection time, in milliseconds, of the clients there are and of later ones. */
  retry(ms: number): void;
  /** How many streams are open. */
  readonly clients: number;
  /** The id of the newest event, `<boot>-0` before the first: with it a client comes back that missed nothing. */
  readonly lastId: string;
  /**
   * Calls the listener with each client that comes or goes; gives the undo. What a `connect` listener sends to its client
   * arrives before the events that the client missed.
   */
  on(event: 'connect' | 'disconnect', listener: (client: Client) => void): () => void;
  /** Ends all streams for good: who comes back is answered 204, after which an EventSource stops trying. */
  end(): void;
  /** Ends all streams and forgets all events; resolves when they are closed. Who comes back is cut off, and may try again. */
  close(): Promise<void>;
}

type Listener = (client: Client) => void;

/** A client and what the channel keeps of it. */
interface Stream {
  readonly client: Client;
  readonly sink: Sink;
  /** When it was last sent an event of its own (performance.now()). */
  sentAt: number;
  /** Events that wait until the `connect` listeners have run. */
  held: Buffer[] | undefined;
}

/** A response that takes bytes, and knows when it doesn't. */
interface Sink {
  /** Since when it has been full (performance.now()); Infinity while it isn't. */
  readonly fullSince: number;
  /** False: more waits for the client than may. */
  write(chunk: Buffer): boolean;
  /** The socket that takes a chunk at once, as HTTP/1.1 frames it, if writing it there comes to the same as `write()`. */
  direct(framed: Buffer): Socket | undefined;
  end(): void;
  destroy(): void;
  /** The listener may be called twice. */
  onClose(listener: () => void): void;
}

/** Milliseconds that close() leaves to clients to take what waits for them. */
const LINGER = 500;
const HISTORY = { events: 1000, bytes: 1024 * 1024 };
const STALLED = { bytes: 8 * 1024 * 1024, ms: 30_000 };
/** Bytes of memory an event takes while it waits for one client, beside its own, which all clients share. */
const OVERHEAD = 256;
/** What HTTP/1.1 puts around a chunk, in bytes, at the most. */
const FRAMING = 16;
/** Bytes of a larger event are not worth copying: framing is the least of its costs. */
const LARGEST_FRAMED = 16 * 1024;
const PING = encode('ping', '{}');
const METHODS = 'GET, HEAD, OPTIONS';
const STREAM_HEADERS = {
  'Content-Type': 'text/event-stream',
  'Cache-Control': 'no-store, no-transform',
  'X-Accel-Buffering': 'no', // or nginx waits until it has a buffer full
};

/** A stream of events to any number of clients, in an app of node:http, node:http2, Express, Polka and the like. */
export function createChannel(options: ChannelOptions = {}): Channel {
  const { keepAlive, idleTimeout, stalled, cors, boot, headers, ...settled } = settle(options);
  const history = createHistory(settled.history, `${boot}-0`);
  const streams = new Set<Stream>();
  const sinks = new Set<Sink>(); // the streams', and those that are ended but not closed yet
  const listeners = { connect: new Set<Listener>(), disconnect: new Set<Listener>() };
  const alarm = createAlarm(check);
  const turn = createTurns();
  let retry = settled.retry;
  let count = 0;
  let sentAt = -Infinity;
  let pingAt = Infinity;
  let ended = false;
  let closed: Promise<void> | undefined;

  function connect(req: ChannelRequest, res: ChannelResponse): Client | undefined {
    if (isGone(res)) return undefined;
    if (closed && !ended) {
      res.destroy(); // after an answer that is no stream, the browser would not come back
      return undefined;
    }
    const admitted = res.hasHeader('Access-Control-Allow-Origin'); // whoever set it has decided
    const answer = decide(req, { cors, admitted, ended });
    res.statusCode = answer.status;
    setHeaders(res, answer.headers);
    if (answer.status === 200) setHeaders(res, headers(req));
    if (cors) res.appendHeader('Vary', 'Origin');
    if (answer.opens) return open(req, res);
    res.end();
    return undefined;
  }

  function open(req: ChannelRequest, res: ChannelResponse): Client {
    const id = readLastEventId(req);
    const replay = id === undefined ? [] : history.since(id);
    const client: Client = {
      req,
      missed: !replay ? 'unknown' : replay.length > 0 ? 'sent' : 'nothing',
      send: (type, data, { id } = {}) => {
        const chunk = encode(type, toText(data), id === undefined ? undefined : checkId(id));
        if (!streams.has(stream)) return;
        stream.sentAt = performance.now();
        if (!write(stream, chunk)) cut(stream);
      },
      end: () => finish(stream),
    };
    const sink = createSink(req, res, { bytes: stalled.bytes, turn });
    const stream: Stream = { client, sink, sentAt: performance.now(), held: replay ?? [] };
    if (streams.size === 0) pingAt = stream.sentAt + keepAlive;
    streams.add(stream);
    sinks.add(sink);
    sink.onClose(() => {
      sinks.delete(sink);
      if (sinks.size === 0) alarm.stop();
      forget(stream);
    });
    // An id without data is no event, but the place to come back to: also for who never hears an event.
    const place = client.missed === 'sent' ? '' : `id: ${history.lastId}\n`;
    write(stream, Buffer.from(`retry: ${retry}\n${place}\n`));
    compact(res);
    alarm.at(Math.min(pingAt, idleAt(stream)));
    try {
      emit('connect', client);
    } finally {
      release(stream);
    }
    return client;
  }

  function release(stream: Stream): void {
    const { held = [] } = stream;
    stream.held = undefined;
    for (const chunk of held) write(stream, chunk);
  }

  function send(type: string | undefined, data: unknown, options: BroadcastOptions = {}): string {
    const { now } = options;
    // Before anything is counted: a toJSON() may throw, or send.
    const text = toText(data);
    const other = now && toText(now.data);
    const chosen = now && new Set([...streams].filter(({ held, client }) => !held && now.to(client)));
    const id = options.id === undefined ? `${boot}-${count + 1}` : checkId(options.id);
    const chunk = encode(type, text, id);
    const instead = chosen && { chunk: encode(type, other ?? '', id), chosen };
    if (closed) return history.lastId;
    count++;
    sentAt = performance.now();
    history.add(id, chunk);
    broadcast(chunk, instead);
    return id;
  }

  function broadcast(chunk: Buffer, instead?: { chunk: Buffer; chosen: ReadonlySet<Stream> }): void {
    const late: Stream[] = [];
    const forAll = withFrame(chunk);
    const forSome = instead && withFrame(instead.chunk);
    const direct: [socket: Socket, framed: Buffer][] = [];
    for (const stream of streams) {
      if (stream.held) {
        stream.held.push(chunk);
        continue;
      }
      const { chunk: own, framed } = forSome && instead?.chosen.has(stream) ? forSome : forAll;
      const socket = framed && stream.sink.direct(framed);
      if (socket) direct.push([socket, framed]);
      else if (!write(stream, own)) late.push(stream);
    }
    // Nothing but this in a row: the last one has it soon after the first.
    for (const [socket, framed] of direct) socket.write(framed);
    late.forEach(cut); // when all have the event: a listener may send the next one
  }

  function write({ sink }: Stream, chunk: Buffer): boolean {
    const kept = sink.write(chunk);
    alarm.at(sink.fullSince + stalled.ms);
    return kept;
  }

  function finish(stream: Stream): void {
    stream.sink.end();
    alarm.at(stream.sink.fullSince + stalled.ms);
    forget(stream);
  }

  function cut(stream: Stream): void {
    stream.sink.destroy();
    forget(stream);
  }

  function forget(stream: Stream): void {
    if (streams.delete(stream)) emit('disconnect', stream.client);
  }

  function emit(event: keyof typeof listeners, client: Client): void {
    for (const listener of [...listeners[event]]) listener(client);
  }

  /** Does what is due, for all clients, and sets the alarm to what is due next. */
  function check(): void {
    const now = performance.now();
    if (now >= pingAt) {
      pingAt = now + keepAlive;
      broadcast(PING);
    }
    for (const sink of sinks) if (sink.fullSince + stalled.ms <= now) sink.destroy();
    for (const stream of [...streams]) if (idleAt(stream) <= now) finish(stream);
    if (sinks.size === 0) return;
    alarm.at(pingAt);
    for (const sink of sinks) alarm.at(sink.fullSince + stalled.ms);
    for (const stream of streams) alarm.at(idleAt(stream));
  }

  function idleAt(stream: Stream): number {
    return Math.max(sentAt, stream.sentAt) + idleTimeout;
  }

  async function allClosed(): Promise<void> {
    const late = setTimeout(() => {
      for (const sink of sinks) sink.destroy();
    }, LINGER);
    await Promise.all([...sinks].map((sink) => new Promise<void>((resolve) => sink.onClose(resolve))));
    clearTimeout(late);
  }

  async function close(): Promise<void> {
    if (closed) return closed;
    closed = allClosed();
    history.clear();
    [...streams].forEach(finish);
    return closed;
  }

  return {
    connect,
    send,
    retry(ms) {
      retry = amount('retry', ms);
      broadcast(Buffer.from(`retry: ${retry}\n\n`));
    },
    get clients() {
      return streams.size;
    },
    get lastId() {
      return history.lastId;
    },
    on(event, listener) {
      listeners[event].add(listener);
      return () => listeners[event].delete(listener);
    },
    end() {
      ended = true;
      [...streams].forEach(finish);
    },
    close,
    [Symbol.asyncDispose]: close,
  };
}

/** The bytes of an event: https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream */
function encode(type: string | undefined, text: string, id?: string): Buffer {
  const event = type === undefined ? '' : `event: ${checkType(type)}\n`;
  const place = id === undefined ? '' : `id: ${id}\n`;
  const data = text.replace(/\r\n?|\n/g, '\ndata: ');
  return Buffer.from(`${event}${place}data: ${data}\n\n`);
}

/** Also as a chunk of HTTP, unless it is large: https://www.rfc-editor.org/rfc/rfc9112#section-7.1 */
function withFrame(chunk: Buffer): { readonly chunk: Buffer; readonly framed: Buffer | undefined } {
  const framed =
    chunk.length < LARGEST_FRAMED
      ? Buffer.concat([Buffer.from(`${chunk.length.toString(16)}\r\n`), chunk, Buffer.from('\r\n')])
      : undefined;
  return { chunk, framed };
}

function toText(data: unknown): string {
  if (typeof data === 'string') return data;
  if (data === undefined) return '';
  const json: string | undefined = JSON.stringify(data); // a function or a symbol has none
  if (json === undefined) throw new TypeError(`Cannot send a ${typeof data}: JSON has no form for it`);
  return json;
}

/** Checks what is to be an event's type, and gives it. @throws {RangeError} as `send()` says */
export function checkType(type: string): string {
  if (!/^[A-Za-z0-9:_-]+$/.test(type)) {
    throw new RangeError(
      `Cannot send the event type ${JSON.stringify(type)}: use letters A-Z and a-z, digits, ":", "_" and "-"`,
    );
  }
  if (type === 'open' || type === 'error') {
    throw new RangeError(
      `Cannot send the event type "${type}": EventSource has an event of that name. Use another`,
    );
  }
  return type;
}

// A browser sends the id back as a header, where control characters are an error and outer spaces are lost.
function checkId(id: string): string {
  if (typeof id === 'string' && id.length <= 256 && /^(?! )[^\p{Cc}]+(?<! )$/u.test(id) && id.isWellFormed())
    return id;
  throw new RangeError(
    `Cannot send the event id ${JSON.stringify(id)}: use 1 to 256 characters, no control characters, no space at the ends`,
  );
}

function readLastEventId(req: ChannelRequest): string | undefined {
  const header = req.headers['last-event-id'];
  // Browsers send it as UTF-8, Node reads headers as Latin-1.
  if (typeof header === 'string' && header !== '') return Buffer.from(header, 'latin1').toString();
  const [, query = ''] = /\?([^#]*)/.exec(req.url ?? '') ?? [];
  return new URLSearchParams(query).get('lastEventId') || undefined;
}

/** The newest events, as many as fit; `since()` knows each of their ids, and that of the event before them. */
function createHistory(bounds: { events: number; bytes: number }, first: string) {
  const entries: { readonly id: string; readonly chunk: Buffer }[] = [];
  let before = first;
  let bytes = 0;

  function drop(entry: (typeof entries)[number]): void {
    bytes -= entry.chunk.length;
    before = entry.id;
  }

  return {
    get lastId() {
      return entries.at(-1)?.id ?? before;
    },
    add(id: string, chunk: Buffer) {
      entries.push({ id, chunk });
      bytes += chunk.length;
      while (entries.length > bounds.events || bytes > bounds.bytes) entries.splice(0, 1).forEach(drop);
    },
    /** The events after the one with this id; undefined: it isn't known. */
    since(id: string): Buffer[] | undefined {
      const at = entries.findLastIndex((entry) => entry.id === id);
      if (at < 0 && id !== before) return undefined;
      return entries.slice(at + 1).map(({ chunk }) => chunk);
    },
    clear() {
      entries.splice(0).forEach(drop);
    },
  };
}

function createSink(
  req: ChannelRequest,
  res: Writable & ChannelResponse,
  { bytes, turn }: { bytes: number; turn: () => number },
): Sink {
  let waiting = 0;
  let lastTurn = -1;
  let atOnce = 0;
  let mostAtOnce = 0;
  res.on('error', ignore); // written to a connection that is gone: 'close' follows
  // The streams of HTTP/2 share a socket, which is not theirs to set.
  if (req.httpVersionMajor < 2) req.socket.setNoDelay(true).setTimeout(0);
  // A response that waits behind another one of its connection isn't told when the connection goes.
  const queued = req.httpVersionMajor < 2 && !res.socket;

  function count(size: number): void {
    const thisTurn = turn();
    atOnce = size + OVERHEAD + (thisTurn === lastTurn ? atOnce : 0);
    mostAtOnce = Math.max(mostAtOnce, atOnce);
    lastTurn = thisTurn;
  }

  const sink = {
    fullSince: Infinity, // no getter: V8 makes a dictionary of an object that has one, 0.5 KB for each client
    direct(framed: Buffer) {
      // What follows in one turn goes out with it, in one packet.
      if (isGone(res) || turn() === lastTurn || !takesFramed(res, framed)) return undefined;
      count(framed.length);
      return res.socket ?? undefined;
    },
    write(chunk: Buffer) {
      if (isGone(res)) return true;
      count(chunk.length + FRAMING);
      if (res.write(chunk)) return true;
      waiting++;
      sink.fullSince = Math.min(sink.fullSince, performance.now());
      return res.writableLength + waiting * OVERHEAD - mostAtOnce <= bytes;
    },
    end() {
      if (isGone(res)) return;
      res.end();
      sink.fullSince = Math.min(sink.fullSince, performance.now());
    },
    destroy() {
      if (queued) req.socket.destroy();
      else res.destroy();
    },
    onClose(listener: () => void) {
      res.on('close', listener);
      if (queued) req.socket.on('close', listener);
    },
  };
  res.on('drain', () => {
    sink.fullSince = Infinity;
    waiting = 0;
    mostAtOnce = 0;
  });
  return sink;
}

/**
 * May a framed chunk be written past the response, which would frame it anew for each client? Where that is all that it
 * would do: the head is out, nothing waits in it, nobody has put himself between, and the socket won't be full.
 */
function takesFramed(res: Writable & ChannelResponse, framed: Buffer): boolean {
  if ('stream' in res || res.write !== OutgoingMessage.prototype.write) return false;
  const { socket } = res;
  if (!socket?.writable || !res.headersSent || !res.chunkedEncoding) return false;
  const waiting = socket.writableLength;
  return res.writableLength === waiting && waiting + framed.length < socket.writableHighWaterMark;
}

function setHeaders(res: ChannelResponse, headers: Readonly<Record<string, string>>): void {
  for (const [name, value] of Object.entries(headers)) res.setHeader(name, value);
}

function ignore(): void {}

/** Node keeps the head that it has sent in the many parts it was made of, 1 KB: who asks for a character joins them. */
function compact(res: ChannelResponse): void {
  if ('_header' in res && typeof res._header === 'string') res._header.charCodeAt(0);
}

function isGone(res: ChannelResponse): boolean {
  return res.writableEnded || ('stream' in res ? res.stream.destroyed : res.destroyed);
}

/** One timer that rings at the earliest of the times it was set to; then all of them are forgotten. */
function createAlarm(ring: () => void) {
  let due = Infinity;
  let timer: NodeJS.Timeout | undefined;
  function stop(): void {
    clearTimeout(timer);
    due = Infinity;
  }
  return {
    stop,
    /** `time` is of performance.now(); Infinity is never. */
    at(time: number) {
      if (time >= due) return;
      clearTimeout(timer);
      due = time;
      timer = setTimeout(
        () => {
          due = Infinity;
          ring();
        },
        Math.max(0, time - performance.now()),
      ); // newer Nodes warn of a time that is over
      timer.unref();
    },
  };
}

/** A number for this turn of the event loop: while it lasts, no client can take anything. */
function createTurns(): () => number {
  let turn = 0;
  let asked = false;
  const next = () => {
    asked = false;
    turn++;
  };
  return () => {
    if (!asked) setImmediate(next);
    asked = true;
    return turn;
  };
}

interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly opens?: true;
}

interface Cors {
  readonly origins: ReadonlySet<string>;
  readonly credentials: boolean;
}

function decide(
  req: ChannelRequest,
  { cors, admitted, ended }: { cors: Cors | undefined; admitted: boolean; ended: boolean },
): Answer {
  const allowed = cors && allowOrigin(req.headers.origin, cors);
  const headers = { 'Cache-Control': 'no-store', ...allowed };
  if (!admitted && !allowed && isForeign(req)) return { status: 403, headers };
  if (req.method === 'OPTIONS') {
    // fetch() has to ask before it may send the header that EventSource sends unasked.
    const preflight = allowed && { 'Access-Control-Allow-Headers': 'Last-Event-ID' };
    return { status: 204, headers: { ...headers, ...preflight, Allow: METHODS } };
  }
  if (req.method !== 'GET' && req.method !== 'HEAD') {
    return { status: 405, headers: { ...headers, Allow: METHODS } };
  }
  if (ended) return { status: 204, headers };
  const stream = { status: 200, headers: { ...headers, ...STREAM_HEADERS } };
  return req.method === 'GET' ? { ...stream, opens: true } : stream;
}

function allowOrigin(
  origin: string | undefined,
  { origins, credentials }: Cors,
): Record<string, string> | undefined {
  if (origin === undefined || origin === 'null') return undefined;
  if (origins.has('*')) return { 'Access-Control-Allow-Origin': '*' };
  if (!origins.has(origin)) return undefined;
  const withCookies = credentials && { 'Access-Control-Allow-Credentials': 'true' };
  return { 'Access-Control-Allow-Origin': origin, ...withCookies };
}

// A page of our own sends no Origin with a GET; a tool may. The scheme is a proxy's business.
function isForeign({ headers }: ChannelRequest): boolean {
  const host = headers[':authority'] ?? headers.host;
  return headers.origin !== undefined && ![`http://${host}`, `https://${host}`].includes(headers.origin);
}

/** Defaults, once and for all; a time of 0 becomes Infinity where it means never. */
function settle(options: ChannelOptions) {
  const { history = HISTORY, stalled = STALLED } = options;
  const { events, bytes } = typeof history === 'number' ? { ...HISTORY, events: history } : history;
  return {
    retry: amount('retry', options.retry ?? 500),
    keepAlive: amount('keepAlive', options.keepAlive ?? 10_000) || Infinity,
    idleTimeout: amount('idleTimeout', options.idleTimeout ?? 0) || Infinity,
    history: { events: amount('history.events', events), bytes: amount('history.bytes', bytes) },
    stalled: { bytes: amount('stalled.bytes', stalled.bytes), ms: amount('stalled.ms', stalled.ms) },
    cors: settleCors(options.cors ?? false),
    boot: checkId(options.boot ?? Date.now().toString(36)),
    headers: options.headers ?? (() => ({})),
  };
}

function amount(name: string, value: unknown): number {
  if (typeof value !== 'number')
    throw new TypeError(`The option ${name} has to be a number: it is ${typeof value}`);
  if (value >= 0 && value < 2 ** 31 && Number.isInteger(value)) return value;
  throw new RangeError(`The option ${name} has to be a whole number from 0 to 2147483647: it is ${value}`);
}

function settleCors(option: NonNullable<ChannelOptions['cors']>): Cors | undefined {
  if (option === false) return undefined;
  const { origins, credentials = false } =
    option === true ? { origins: ['*'] } : 'origins' in option ? option : { origins: option };
  const wrong = origins.find((origin) => origin !== '*' && !/^[a-z][a-z0-9+.-]*:\/\/[^/?#\s]+$/.test(origin));
  if (wrong !== undefined) {
    throw new RangeError(
      `The option cors has ${JSON.stringify(wrong)}: write "scheme://host" or "scheme://host:port"`,
    );
  }
  if (credentials && origins.includes('*')) {
    throw new RangeError(
      'The option cors has "*" with credentials, so that any site could listen as the user: name the origins',
    );
  }
  return { origins: new Set(origins), credentials };
}
