// A file → one version of its bytes: whole, never half of one save and half of the next, and remembered as long as the disk
// says that it is the same. It opens nothing by itself and sends nothing.

import { isUtf8 } from 'node:buffer';
import { createHash } from 'node:crypto';
import type { BigIntStats } from 'node:fs';
import type { Readable } from 'node:stream';
import type { FoundFile } from './resolve.ts';

/** A file that was opened, and is proved to be the one that was found. */
export interface Opened {
  /** Media type by the file's name, without parameters. */
  readonly type: string;
  /** Of the open descriptor. */
  readonly stats: BigIntStats;
  /** The bytes asked for, at the most. */
  readonly source: Readable;
  /** Was the file left alone from the opening until its end was read? */
  isUnchanged(): boolean;
}

/** Opens bytes `first` to `last`; `undefined` if the file isn't the one that was found any more. */
export type Open = (found: FoundFile, first: number, last: number) => Promise<Opened | undefined>;

export interface Version {
  readonly body: Buffer;
  /** Content-Type, with charset where it is known. */
  readonly type: string;
  readonly etag: string;
  /** Last-Modified in ms, whole seconds. */
  readonly modified: number;
  /** The latest `modified` of other bytes of this file: a date up to it proves nothing. 0 if there were none. */
  readonly supersedes: number;
  /** What a stylesheet was before, the newest first; empty for anything else. */
  readonly older: readonly Buffer[];
  /** What the disk said of the file when the bytes were read. */
  readonly facts: string;
  /** The facts were old enough then: bytes written later have other facts. */
  readonly sure: boolean;
}

/** How many earlier versions of a stylesheet are remembered. */
const OLDER = 8;
/** How often a file that changes while it is read is read again. */
const ATTEMPTS = 20;

/**
 * Remembers versions of up to `limit` bytes in all; those used last stay. One costs no more than half of it. What is
 * remembered comes at once, and only what has to be read comes as a promise; `undefined`: it was changed meanwhile.
 */
export function createVersions(
  open: Open,
  limit: number,
): (found: FoundFile) => Version | Promise<Version | undefined> {
  const known = new Map<string, Version>();
  const underWay = new Map<string, Promise<Version | undefined>>();
  let total = 0;

  function remember(file: string, version: Version): void {
    forget(file);
    if (version.body.length > limit / 2) return;
    known.set(file, version);
    total += sizeOf(version);
    for (const oldest of known.keys()) {
      if (total <= limit) return;
      forget(oldest);
    }
  }

  function forget(file: string): void {
    const version = known.get(file);
    total -= version ? sizeOf(version) : 0;
    known.delete(file);
  }

  async function readNow(found: FoundFile): Promise<Version | undefined> {
    const read = await readWhole(open, found);
    if (!read) return undefined;
    const version = follow(read, known.get(found.file));
    remember(found.file, version);
    return version;
  }

  return (found) => {
    const { file, stats } = found;
    const facts = factsOf(stats);
    const version = known.get(file);
    if (version?.sure && version.facts === facts) {
      known.delete(file); // last in the map is used last
      known.set(file, version);
      return version;
    }
    if (isFresh(stats)) return readNow(found);
    const key = `${facts} ${file}`;
    const reading = underWay.get(key) ?? readNow(found).finally(() => underWay.delete(key));
    underWay.set(key, reading);
    return reading;
  };
}

/** What the disk says of a file's version: two with the same facts are the same, unless they are of the same moment. */
export function factsOf({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return [dev, ino, size, mtimeNs, ctimeNs].map((fact) => fact.toString(36)).join('-');
}

/** Last-Modified in ms: whole seconds, and not in the future (RFC 9110, 8.8.2.1). */
export function modifiedOf({ mtimeMs }: Pick<BigIntStats, 'mtimeMs'>): number {
  return Math.floor(Math.min(Number(mtimeMs), Date.now()) / 1000) * 1000;
}

const etags = new WeakMap<Buffer, string>();

/** The entity tag of these bytes; strong. */
export function etagOf(body: Buffer): string {
  let etag = etags.get(body);
  if (!etag) {
    etag = `"${createHash('sha1').update(body).digest('base64url')}"`;
    etags.set(body, etag);
  }
  return etag;
}

/** Was it changed a moment ago? */
// Disks count time in steps (ext4 and APFS up to 10 ms, HFS+ and FAT up to 2 s): bytes written in the same step as those that
// were read leave the same facts.
export function isFresh({ ctimeNs }: BigIntStats): boolean {
  const step = ctimeNs % 1_000_000_000n === 0n ? 2_100 : 50;
  return Math.abs(Date.now() - Number(ctimeNs / 1_000_000n)) < step;
}

// The same bytes stay the same Buffer: what is made of them is remembered by it.
function follow(read: Version, before: Version | undefined): Version {
  if (!before) return read;
  const { body, supersedes, older } = before;
  if (before.etag === read.etag) return { ...read, body, supersedes, older };
  return {
    ...read,
    supersedes: Math.max(supersedes, before.modified),
    older: /^text\/css/.test(read.type) ? [body, ...older].slice(0, OLDER) : [],
  };
}

function sizeOf({ body, older }: Version): number {
  return [body, ...older].reduce((sum, { length }) => sum + length, 0);
}

async function readWhole(open: Open, found: FoundFile): Promise<Version | undefined> {
  let before: Buffer | undefined;
  for (let i = 0; i < ATTEMPTS; i++) {
    const opened = await open(found, 0, Number(found.stats.size) - 1);
    if (!opened) return undefined;
    const { stats } = opened;
    const sure = !isFresh(stats);
    const body = await collect(opened.source);
    if (body.length !== Number(stats.size)) return undefined;
    // What was written in one step of the disk's clock shows only by reading twice.
    const isWhole = opened.isUnchanged() && (sure || before?.equals(body));
    before = body;
    if (!isWhole) continue;
    const type = contentType(opened.type, body);
    return {
      body,
      type,
      etag: etagOf(body),
      modified: modifiedOf(stats),
      supersedes: 0,
      older: [],
      facts: factsOf(stats),
      sure,
    };
  }
  return undefined;
}

async function collect(source: Readable): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of source) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** The media type with `charset=utf-8` if it is one of text, the bytes are UTF-8, and they don't declare something else. */
export function contentType(type: string, body: Buffer = Buffer.alloc(0)): string {
  const isText = (/^text\//.test(type) && type !== 'text/xml') || /\/(?:javascript|json)$/.test(type);
  if (!isText || !isUtf8(body)) return type;
  const declared = declaredCharset(type, body);
  return declared === undefined || /^(?:utf-?8|unicode-1-1-utf-8)$/i.test(declared)
    ? `${type}; charset=utf-8`
    : type;
}

// The header would win over the document's own word, so it has to keep silent where that is another one.
function declaredCharset(type: string, body: Buffer): string | undefined {
  if (body[0] === 0xef && body[1] === 0xbb && body[2] === 0xbf) return 'utf-8';
  const start = body.toString('latin1', 0, 1024);
  if (type === 'text/css') return /^@charset "([^"]*)";/.exec(start)?.[1];
  if (type !== 'text/html') return undefined;
  // HTML Standard, "prescan a byte stream to determine its encoding": comments don't count.
  const tags = start.replace(/<!--.*?(?:-->|$)/gs, '');
  return /<meta\s[^>]*?charset\s*=\s*["']?\s*([^\s"'/>;]+)/i.exec(tags)?.[1];
}
