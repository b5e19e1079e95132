// What of a representation a request gets: all of it, a part, nothing because it has it, nothing because of its conditions.
// Pure: sections 13 (conditional requests) and 14 (range requests) of RFC 9110, and nothing of files.

import type { IncomingHttpHeaders } from 'node:http';

/** What is known of the representation that would be sent. */
export interface Validators {
  /** Bytes. */
  readonly size: number;
  /** Strong entity tag with its quotes; absent where nothing may be validated. */
  readonly etag?: string | undefined;
  /** Last-Modified in ms, whole seconds; absent where a date proves nothing. */
  readonly modified?: number | undefined;
}

/** The answer to give. `first` and `last` are byte positions, both included. */
export type Verdict =
  | { readonly status: 200 | 304 | 412 | 416 }
  | { readonly status: 206; readonly first: number; readonly last: number };

/** A file as it would be sent to somebody who has nothing of it. */
export interface Representation {
  readonly status: 200 | 404;
  /** Bytes. */
  readonly size: number;
  readonly cacheControl: string;
  /** Absent for what may never be validated. */
  readonly validators?: {
    /** Strong entity tag with its quotes. */
    readonly etag: string;
    /** Last-Modified in ms, whole seconds. */
    readonly modified: number;
    /** Is a copy with this date sure to be the same? */
    readonly isProof: boolean;
  };
}

/** The head of an answer, and which bytes follow it. */
export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | number>>;
  /** Byte positions, both included. */
  readonly first: number;
  readonly last: number;
  readonly hasBody: boolean;
}

/** How a request for this representation is answered. */
export function answerTo(method: string, headers: IncomingHttpHeaders, file: Representation): Answer {
  const { size, validators } = file;
  const { etag, modified, isProof } = validators ?? {};
  // An error has nothing to be compared with and no parts.
  const verdict: Verdict =
    file.status === 404
      ? { status: 200 }
      : decide(method, headers, { size, etag, modified: isProof ? modified : undefined });
  const { first, last } = verdict.status === 206 ? verdict : { first: 0, last: size - 1 };
  const length = verdict.status === 200 || verdict.status === 206 ? last - first + 1 : 0;
  return {
    status: file.status === 404 ? 404 : verdict.status,
    first,
    last,
    hasBody: method === 'GET' && length > 0,
    headers: {
      'Cache-Control': file.cacheControl,
      ...(validators && { ETag: validators.etag }),
      ...(validators && { 'Last-Modified': new Date(validators.modified).toUTCString() }),
      ...(file.status === 200 && { 'Accept-Ranges': 'bytes' }),
      ...(verdict.status !== 304 && { 'Content-Length': length }),
      ...(verdict.status === 206 && { 'Content-Range': `bytes ${first}-${last}/${size}` }),
      ...(verdict.status === 416 && { 'Content-Range': `bytes */${size}` }),
    },
  };
}

/** Decides by the precedence of RFC 9110, 13.2.2. */
export function decide(method: string, headers: IncomingHttpHeaders, validators: Validators): Verdict {
  if (failsPrecondition(headers, validators)) return { status: 412 };
  if (isFresh(headers, validators)) return { status: 304 };
  // Ranges are defined for GET alone (RFC 9110, 14.2).
  if (method !== 'GET' || headers.range === undefined || !isSameAs(headers['if-range'], validators)) {
    return { status: 200 };
  }
  return parseRange(headers.range, validators.size);
}

function failsPrecondition(headers: IncomingHttpHeaders, { etag, modified }: Validators): boolean {
  const match = headers['if-match'];
  if (match !== undefined) return match.trim() !== '*' && !tagsOf(match).includes(etag ?? '');
  const since = dateOf(headers['if-unmodified-since']);
  return since !== undefined && modified !== undefined && modified > since;
}

function isFresh(headers: IncomingHttpHeaders, { etag, modified }: Validators): boolean {
  // Who asks for an end-to-end reload gets one, whatever else the request says.
  if (/(?:^|,)\s*no-cache\s*(?:,|$)/i.test(headers['cache-control'] ?? '')) return false;
  const none = headers['if-none-match'];
  if (none !== undefined) {
    if (etag === undefined) return false;
    return none.trim() === '*' || tagsOf(none.replaceAll('W/"', '"')).includes(etag);
  }
  const since = dateOf(headers['if-modified-since']);
  return since !== undefined && modified !== undefined && modified <= since;
}

/** Is the part a client has of this very representation (If-Range)? Compared strongly; a date has to be the same one. */
function isSameAs(condition: string | string[] | undefined, { etag, modified }: Validators): boolean {
  if (condition === undefined) return true;
  const value = String(condition).trim();
  if (value.includes('"')) return value === etag;
  return modified !== undefined && dateOf(value) === modified;
}

function tagsOf(header: string): string[] {
  return header.match(/(?:W\/)?"[^"]*"/g) ?? [];
}

function dateOf(header: string | undefined): number | undefined {
  const ms = header === undefined ? Number.NaN : Date.parse(header);
  return Number.isNaN(ms) ? undefined : ms;
}

/**
 * Reads a Range header. Several ranges are joined where they touch; what is then still more than one gets the whole, so that
 * no number of ranges costs more than the file. What is not a range of bytes is ignored; what lies beyond the end is 416.
 */
export function parseRange(header: string, size: number): Verdict {
  const [, set] = /^\s*bytes\s*=(.*)$/i.exec(header) ?? [];
  if (set === undefined) return { status: 200 };
  const ranges: { first: number; last: number }[] = [];
  const specs = set.split(',').map((spec) => spec.trim());
  if (specs.every((spec) => spec === '')) return { status: 200 };
  for (const spec of specs.filter((spec) => spec !== '')) {
    const [, from, to] = /^(\d*)-(\d*)$/.exec(spec) ?? [];
    if (from === undefined || to === undefined || (from === '' && to === '')) return { status: 200 };
    if (from !== '' && to !== '' && Number(from) > Number(to)) return { status: 200 };
    const first = from === '' ? Math.max(0, size - Number(to)) : Number(from);
    const last = from === '' || to === '' ? size - 1 : Math.min(Number(to), size - 1);
    if (first <= last) ranges.push({ first, last });
  }
  const [joined, ...others] = join(ranges);
  if (joined === undefined) return { status: 416 };
  return others.length > 0 ? { status: 200 } : { status: 206, ...joined };
}

function join(ranges: { first: number; last: number }[]): { first: number; last: number }[] {
  const joined: { first: number; last: number }[] = [];
  for (const range of ranges.toSorted((a, b) => a.first - b.first)) {
    const before = joined.at(-1);
    if (before && range.first <= before.last + 1) before.last = Math.max(before.last, range.last);
    else joined.push(range);
  }
  return joined;
}
