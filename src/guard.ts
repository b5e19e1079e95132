// Who may ask: decisions on Host, Origin and Sec-Fetch-Site. Pure; live.ts asks before anything else is done.
// Why each rule is as it is: any page in the browser, and any name an attacker controls (DNS rebinding), can send
// requests to this server, and only these headers tell whose they are.

import type { IncomingHttpHeaders } from 'node:http';
import { isIP } from 'node:net';

/** Which origins may read what the server sends: none, all, or those listed (`http://localhost:3000`). */
export type Cors = boolean | readonly string[];

/** What is known of a request before it is let in. */
export interface Asking {
  readonly headers: IncomingHttpHeaders;
  /** Names and values as they came: the only place where a second Host shows. */
  readonly rawHeaders: readonly string[];
  readonly secure: boolean;
  /** Of HTTP. */
  readonly version: string;
  /** The other end of the socket is this machine. */
  readonly fromLoopback: boolean;
  /** The same, or one of its network addresses at both ends. */
  readonly fromHere: boolean;
}

/** A request that is not served: what its sender is told, and what the developer is. */
export interface Refusal {
  readonly status: 400 | 403;
  readonly body: string;
  /** A line for the terminal; it names what would let the request in. */
  readonly notice?: string;
}

// A name, an IPv4 address or an IPv6 address in brackets, then perhaps a port. Anything else is not a Host.
const HOST = /^(?:([a-z0-9_-]+(?:\.[a-z0-9_-]+)*)|\[([0-9a-f:.]+)\])(?::\d{1,5})?$/i;

/**
 * Whether a Host header names this server: `localhost`, `*.localhost`, an IP address (a browser resolves nothing for
 * one, so it cannot be rebound), or a name in `allowed`. An allowed name with a leading dot takes its subdomains too.
 */
export function isAllowedHost(header: string, allowed: readonly string[] = []): boolean {
  const [, name = '', address = ''] = HOST.exec(header) ?? [];
  if (address) return isIP(address) === 6;
  if (!name) return false;
  const host = name.toLowerCase();
  if (host === 'localhost' || host.endsWith('.localhost') || isIP(host) === 4) return true;
  return allowed.some((entry) => matches(host, entry.toLowerCase()));
}

function matches(host: string, entry: string): boolean {
  return entry.startsWith('.') ? host === entry.slice(1) || host.endsWith(entry) : host === entry;
}

/** Refuses a request whose Host is missing, double, malformed or not ours; `undefined` lets it in. */
export function refuseHost(asking: Asking, allowed: readonly string[]): Refusal | undefined {
  const named = asking.rawHeaders.flatMap((name, i, all) =>
    i % 2 ? [] : [[name.toLowerCase(), all[i + 1]]],
  );
  const hosts = named.filter(([name]) => name === 'host').map(([, value]) => value);
  const authority = asking.headers[':authority'];
  // HTTP/2 has `:authority` for it, and perhaps the same once more as Host.
  if (hosts.length > 1 || (authority !== undefined && hosts.some((value) => value !== authority)))
    return { status: 400, body: 'Bad Request: more than one Host\n' };
  const host = asking.headers.host ?? asking.headers[':authority'];
  if (host === undefined) {
    // HTTP/1.0 has no Host. No browser sends such a request, so on loopback it is a local tool's.
    return asking.version === '1.0' && asking.fromLoopback
      ? undefined
      : { status: 400, body: 'Bad Request: no Host\n' };
  }
  if (isAllowedHost(String(host), allowed)) return undefined;
  const [, name] = HOST.exec(String(host)) ?? [];
  if (!name) return { status: 400, body: 'Bad Request: malformed Host\n' };
  return {
    status: 403,
    body: 'Forbidden: this host name is not allowed. The terminal says how to allow it\n',
    notice: `Refused a request for the host "${name}". If it is yours, start with --allow ${name}`,
  };
}

/**
 * Whether the sender of a request may open the event stream: a page of this very origin, one that `cors` admits, or
 * a program that is no browser. An opaque origin (`null`) is a stranger, and so is another port of localhost.
 */
export function mayListen(asking: Asking, cors: Cors): boolean {
  const { origin, 'sec-fetch-site': site } = asking.headers;
  if (origin !== undefined && isAdmitted(origin, cors)) return true;
  if (site !== undefined && site !== 'same-origin' && site !== 'none') return false;
  return origin === undefined || origin === ownOrigin(asking);
}

// Whoever puts one of them on brings somebody else's request: a tunnel, a proxy in front.
const FORWARDED = ['forwarded', 'via', 'x-forwarded-for', 'x-forwarded-host', 'x-real-ip'];

/**
 * Whether the sender of a request may change something: a program of this machine, which sends neither Origin nor
 * Sec-Fetch-Site, or a page of this very origin in a browser on it. No option admits anybody else: with `host`, whoever
 * reaches the server can read, and no more; names that are allowed may be those of a tunnel to it.
 */
export function mayWrite(asking: Asking): boolean {
  const { host, ':authority': authority, origin, 'sec-fetch-site': site } = asking.headers;
  if (!asking.fromHere || !isAllowedHost(String(host ?? authority))) return false;
  if (FORWARDED.some((name) => asking.headers[name] !== undefined)) return false;
  return origin === undefined ? site === undefined : isOwnPage(asking);
}

/** Whether a page of this very origin has sent it, and a browser says so. */
export function isOwnPage(asking: Asking): boolean {
  const { origin, 'sec-fetch-site': site = 'same-origin' } = asking.headers;
  return origin === ownOrigin(asking) && site === 'same-origin';
}

function ownOrigin({ headers, secure }: Asking): string {
  return `${secure ? 'https' : 'http'}://${headers.host ?? headers[':authority']}`;
}

function isAdmitted(origin: string, cors: Cors): boolean {
  if (origin === 'null') return false;
  return typeof cors === 'boolean' ? cors : cors.includes(origin);
}

/**
 * A line for the terminal where a page of another origin asks for the client script and `cors` does not admit it: the
 * browser keeps the script from that page, and says little about why.
 */
export function strangerNotice(asking: Asking, cors: Cors): string | undefined {
  const { origin, referer, 'sec-fetch-site': site } = asking.headers;
  if (site === 'same-origin' || site === 'none' || cors === true) return undefined;
  const from = origin ?? originOf(referer);
  if (from === undefined) {
    // A page whose policy hides its address. No word at all is a program's.
    return site === undefined
      ? undefined
      : 'Refused the client script to a page that does not say where it is from. If it is yours, give its script tag the attribute crossorigin';
  }
  if (from === ownOrigin(asking) || isAdmitted(from, cors)) return undefined;
  // Of a sandbox, or no origin at all.
  if (!URL.canParse(from) || new URL(from).origin !== from) return undefined;
  return `Refused the client script to a page of ${from}. If it is yours, start with --cors=${from}`;
}

/**
 * The headers of every response that say who may use it. Without `cors`: nobody but pages of the same origin.
 * A page that `cors` admits is known by its Origin, or by its Referer where a plain `<script src>` sends no Origin.
 */
export function sharingHeaders(headers: IncomingHttpHeaders, cors: Cors): Record<string, string> {
  const own = { 'X-Content-Type-Options': 'nosniff', 'Cross-Origin-Resource-Policy': 'same-origin' };
  if (cors === false) return own;
  const open = { ...own, 'Cross-Origin-Resource-Policy': 'cross-origin' };
  if (cors === true) return { ...open, 'Access-Control-Allow-Origin': '*' };
  const origin = headers.origin ?? originOf(headers.referer);
  if (origin === undefined || !isAdmitted(origin, cors)) return { ...own, Vary: 'Origin' };
  return { ...open, 'Access-Control-Allow-Origin': origin, Vary: 'Origin' };
}

function originOf(url: string | undefined): string | undefined {
  return /^https?:\/\/[^/?#]+/.exec(url ?? '')?.[0];
}
