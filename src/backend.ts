// What a back end is asked and told, and what of its answer holds here: routes, and the heads of both directions. Pure:
// nothing here opens a connection.

import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';

/** One URL prefix and the back end behind it. */
export interface Route {
  /** Without a slash at its end: everything is `''`. */
  readonly prefix: string;
  /** What stands in for the prefix; `undefined` keeps the prefix. */
  readonly path: string | undefined;
  /** Scheme, host and port, as in `http://localhost:3000`. */
  readonly target: string;
  /** As in the Host header. */
  readonly host: string;
  /** As to connect to: an IPv6 address has no brackets. */
  readonly hostname: string;
  readonly port: number;
  readonly encrypted: boolean;
}

/** @throws RangeError for a prefix or a target that cannot be one */
export function toRoute([prefix, target]: readonly [string, string]): Route {
  if (!/^\/(?!\/)[^?#\\]*$/.test(prefix)) {
    throw new RangeError(`Cannot proxy ${JSON.stringify(prefix)}: a prefix is a URL path, like /api`);
  }
  const url = URL.canParse(target) ? new URL(target) : undefined;
  if (!url || !/^(?:https?|wss?):$/.test(url.protocol)) {
    throw new RangeError(`Cannot proxy to ${JSON.stringify(target)}: give a URL, like http://localhost:3000`);
  }
  if (url.search || url.hash || url.username || url.password) {
    const plain = `${url.protocol}//${url.host}`;
    throw new RangeError(`Cannot proxy to a part of ${plain}: leave out user, password, query and fragment`);
  }
  const encrypted = /^(?:https|wss):$/.test(url.protocol);
  return {
    prefix: prefix.replace(/\/$/, ''),
    // The URL Standard gives every http URL a path, so ask the text for it.
    path: /^[a-z]+:[/\\]*[^/\\]+$/i.test(target.trim()) ? undefined : url.pathname,
    target: `${encrypted ? 'https' : 'http'}://${url.host}`,
    host: url.host,
    hostname: url.hostname.replace(/^\[|\]$/g, ''),
    port: Number(url.port) || (encrypted ? 443 : 80),
    encrypted,
  };
}

/** Whether the name is this machine's, whatever a name server says. */
export function isLoopback(hostname: string): boolean {
  return /^(?:(?:.*\.)?localhost|127\.\d+\.\d+\.\d+|\[?::1\]?)$/.test(hostname);
}

/**
 * The route of a request target, and the path that the back end is asked for. `routes` are sorted, the longest prefix
 * first. None for a target of another form than `/path`, and for one that leads up: it would leave the prefix, here or
 * behind a back end that decodes it.
 */
export function routeOf(
  routes: readonly Route[],
  url: string,
): { readonly route: Route; readonly path: string } | undefined {
  if (!/^\/(?![/\\])/.test(url) || leadsUp(url)) return undefined;
  for (const route of routes) {
    if (!url.startsWith(route.prefix)) continue;
    const rest = url.slice(route.prefix.length);
    if (!/^(?:$|[/?#])/.test(rest)) continue;
    if (route.path === undefined) return { route, path: url };
    const start = rest.startsWith('/') ? route.path.replace(/\/$/, '') : route.path;
    return { route, path: start + rest };
  }
  return undefined;
}

function leadsUp(url: string): boolean {
  const path = url.replace(/[?#].*$/s, '').replace(/%(?:2e|2f|5c)/gi, decodeURIComponent);
  return path.split(/[/\\]/).includes('..');
}

/** A path of the back end as a path of ours; `undefined` if none leads there. */
function toOwnPath({ prefix, path }: Route, theirs: string): string | undefined {
  if (path === undefined) return theirs;
  const base = path.replace(/\/$/, '');
  const rest = theirs.slice(base.length);
  if (!theirs.startsWith(base) || !/^(?:$|[/?#])/.test(rest)) return undefined;
  const own = prefix + rest;
  return own.startsWith('/') ? own : `/${own}`;
}

export function isWebSocket({ method, headers }: Pick<IncomingMessage, 'method' | 'headers'>): boolean {
  return method === 'GET' && headers.upgrade?.toLowerCase() === 'websocket';
}

/** Whether a request can be sent twice: it asks for something and brings nothing. */
export function isRepeatable({ method, headers }: Pick<IncomingMessage, 'method' | 'headers'>): boolean {
  if (method !== 'GET' && method !== 'HEAD') return false;
  return headers['transfer-encoding'] === undefined && !Number(headers['content-length'] ?? 0);
}

// https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1
const HOP_BY_HOP = [
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
];

/** The headers that end at this hop: the standard's, and those that `Connection` names, but for what frames the body. */
function hopByHop({ connection = '' }: IncomingHttpHeaders): Set<string> {
  const named = connection.split(',').map((name) => name.trim().toLowerCase());
  return new Set([...HOP_BY_HOP, ...named.filter((name) => name !== 'content-length')]);
}

// What tells a back end who asks, for what, or by which name: only a proxy may say so, and here that is us. `Proxy` would
// become HTTP_PROXY of a CGI program (https://httpoxy.org).
const OURS_TO_SAY =
  /^(?:x-forwarded(?:-.*)?|forwarded|x-real-ip|x-client-ip|true-client-ip|x-original-(?:url|host)|x-rewrite-url|proxy)$/;

/** What the connection of a request says of its client. */
export interface Connection {
  readonly encrypted: boolean;
  readonly address: string;
  readonly port: number;
}

/** The headers of a request as the back end gets them. */
export function requestHeaders(
  route: Route,
  req: Pick<IncomingMessage, 'method' | 'headers'>,
  connection: Connection,
): IncomingHttpHeaders {
  const { headers } = req;
  const dropped = hopByHop(headers).add('expect'); // node:http has answered that: the body is on its way
  const isPassed = (name: string) => !dropped.has(name) && !OURS_TO_SAY.test(name) && !name.startsWith(':'); // of HTTP/2
  const passed = Object.entries(headers).filter(([name]) => isPassed(name));
  return {
    ...Object.fromEntries(passed),
    // Without this and without a length, the body of a DELETE would be taken for the next request.
    ...(headers['transfer-encoding'] === undefined ? {} : { 'transfer-encoding': 'chunked' }),
    ...(isWebSocket(req) ? { connection: 'Upgrade', upgrade: 'websocket' } : {}),
    // A document gets our script: spare both sides the coding.
    ...(isNavigation(headers) ? { 'accept-encoding': 'identity' } : {}),
    ...(headers.host === undefined ? {} : { 'x-forwarded-host': headers.host }),
    'x-forwarded-for': connection.address,
    'x-forwarded-proto': connection.encrypted ? 'https' : 'http',
    'x-forwarded-port': String(connection.port),
    host: route.host,
  };
}

function isNavigation(headers: IncomingHttpHeaders): boolean {
  const destination = headers['sec-fetch-dest'];
  if (typeof destination === 'string') return /^(?:document|iframe|frame)$/.test(destination);
  return headers.accept?.includes('text/html') ?? false;
}

/**
 * The coding of a document that was asked for without one and came with one all the same; it has to be undone before our
 * script can go in. Any other answer passes as it is.
 */
export function unwantedCoding(
  req: Pick<IncomingMessage, 'method' | 'headers'>,
  answer: Pick<IncomingMessage, 'statusCode' | 'headers'>,
): string | undefined {
  const { 'content-type': type = '', 'content-encoding': coding } = answer.headers;
  const isWhole = req.method === 'GET' && answer.statusCode !== 206 && answer.statusCode !== 304;
  if (!isWhole || !isNavigation(req.headers)) return undefined;
  if (!/^(?:text\/html|application\/xhtml\+xml|image\/svg\+xml)\b/i.test(type)) return undefined;
  return coding?.trim().toLowerCase();
}

// Said by a back end, these would hold for our origin or for all ports of its name. Who may read across origins is for the
// user of this server to say; and a browser that is told to use https, or another port, for `localhost` keeps to it.
const NOT_THEIRS_TO_SAY =
  /^(?:access-control-.*|timing-allow-origin|strict-transport-security|public-key-pins|alt-svc)$/;

/** The headers of a back end's answer as the page gets them. `encrypted`: the page's connection is. */
export function responseHeaders(
  route: Route,
  headers: IncomingHttpHeaders,
  encrypted: boolean,
): [name: string, value: string | string[]][] {
  const dropped = hopByHop(headers);
  return Object.entries(headers).flatMap(([name, value]): [string, string | string[]][] => {
    if (value === undefined || dropped.has(name) || NOT_THEIRS_TO_SAY.test(name)) return [];
    if (Array.isArray(value)) return [[name, value.map((cookie) => toOwnCookie(route, cookie, encrypted))]];
    if (name === 'location' || name === 'content-location') return [[name, toOwnLocation(route, value)]];
    return [[name, value]];
  });
}

/**
 * A redirect to the back end's own host as one to ours: a path alone, so that it owes nothing to what the client called us.
 * All others stay as they are.
 */
function toOwnLocation(route: Route, location: string): string {
  const isAbsolute = /^(?:https?:)?[/\\]{2}/i.test(location);
  if (!isAbsolute && !location.startsWith('/')) return location;
  if (!URL.canParse(location, route.target)) return location;
  const url = new URL(location, route.target);
  if (isAbsolute && !isOwnHost(route, url)) return location;
  const own = toOwnPath(route, url.pathname + url.search + url.hash);
  if (own === undefined) return location;
  // `//name/` at the start would be another host.
  return own.startsWith('//') ? `/.${own}` : own;
}

/** Whether the URL is the back end's: frameworks write `127.0.0.1` for `localhost`. */
function isOwnHost(route: Route, url: URL): boolean {
  if (url.host === route.host) return true;
  const port = Number(url.port) || (url.protocol === 'https:' ? 443 : 80);
  return port === route.port && isLoopback(url.hostname) && isLoopback(route.hostname);
}

/** The cookie without the back end's domain, with our path, and without `Secure` if https ends at us. */
function toOwnCookie(route: Route, cookie: string, encrypted: boolean): string {
  const [pair = '', ...attributes] = cookie.split(';');
  const loosened = route.encrypted && !encrypted && !/^\s*__(?:secure|host)-/i.test(pair);
  const kept = attributes.flatMap((attribute) => {
    const [name = '', value = ''] = attribute.split('=').map((part) => part.trim());
    if (/^domain$/i.test(name)) return [];
    // SameSite=None and Partitioned are refused without Secure.
    if (loosened && (/^(?:secure|partitioned)$/i.test(name) || /^none$/i.test(value))) return [];
    // A cookie for the whole site stays one: pages outside the prefix may read it.
    if (!/^path$/i.test(name) || value === '/') return [attribute];
    return [` Path=${toOwnPath(route, value) ?? value}`];
  });
  return [pair, ...kept].join(';');
}
