// What is known of the bytes of files, so that a save which changes none is silence.
// It reads files when it is told to; it watches nothing.

import { createHash } from 'node:crypto';
import { constants, type Stats } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';

/** Files above this size are known by size, time and inode instead of by their bytes. */
const LARGE = 32 * 1024 * 1024;
/** Bytes read at once: what a small file needs, and more for one that grows meanwhile. */
const CHUNK = { least: 16 * 1024, most: 512 * 1024 };
/** How long after a look (ms) a file that only grew is taken to be in the middle of a slow save. */
const GROWS = 500;
/** Less than this is written in one go; what is written in pieces shows pieces of that size at the least, or of its multiples. */
const PIECE = 4096;
/** Of a file that lost so much of its length, the rest is likely to come yet. */
const LOST = 1 / 8;
/** Complete versions of a file end alike: with a closing bracket and a line, or the mark of an image's end. */
const END = 2;

/** What a look at a file found. A number: it looks like a part of what is being written; so many bytes. */
export type Comparison = 'same' | 'different' | number;

export interface Bytes {
  /** Reads a file that nothing happened to, so that its first save can be compared. */
  learn(file: string): Promise<void>;
  /** An event came for the file: what is being learned of it may be older or newer than what a page has. */
  touched(file: string): void;
  /**
   * Compares the file with what is known of it, and remembers what it is now, unless it looks like a part. A file whose size
   * `isWhole` is taken for complete, whatever it looks like.
   */
  compare(file: string, isWhole?: (size: number) => boolean): Promise<Comparison>;
  /** Is what is known of the file from when it was last changed? */
  isCurrent(file: string, stats: Pick<Stats, 'ctimeMs' | 'size'>): boolean;
  knows(file: string): boolean;
  /** What tells the bytes that are known of the file from others. */
  digestOf(file: string): string | undefined;
  forget(file: string): void;
}

interface Reading {
  readonly digest: string;
  readonly size: number;
  /** When the entry was last changed in any way (ms). */
  readonly ctime: number;
  /** The digest of the first bytes, as many as were asked for. */
  readonly start?: string;
  /** The last bytes. */
  readonly end: string;
}

interface Known extends Reading {
  /** performance.now() of the look; `undefined`: learned, never announced. */
  readonly at?: number;
}

export function createBytes(): Bytes {
  const known = new Map<string, Known>();
  const learning = new Set<string>();

  return {
    async learn(file) {
      if (known.has(file) || learning.has(file)) return;
      learning.add(file);
      const reading = await read(file);
      // An event of a write that this reading already contains may be waiting to be read, or come with the next poll.
      await drained();
      const stats = await stat(file).catch(() => undefined);
      if (learning.delete(file) && reading && stats?.ctimeMs === reading.ctime) known.set(file, reading);
    },
    touched: (file) => void learning.delete(file),
    async compare(file, isWhole = () => false) {
      const before = known.get(file);
      const now = await read(file, before?.size);
      if (!now) {
        known.delete(file);
        return 'different';
      }
      if (before?.digest === now.digest && !isOlder(before, now)) {
        known.set(file, { ...now, at: before.at ?? performance.now() });
        return 'same';
      }
      if (isPart(before, now) && !isWhole(now.size)) return now.size;
      known.set(file, { ...now, at: performance.now() });
      return 'different';
    },
    isCurrent(file, { ctimeMs, size }) {
      const before = known.get(file);
      // While ext4 truncates a file, which takes as long as the disk is busy, it has its old time and no length.
      return before?.ctime === ctimeMs && before.size === size;
    },
    knows: (file) => known.has(file),
    digestOf: (file) => known.get(file)?.digest,
    forget: (file) => void known.delete(file),
  };
}

// A slow save: in one go with the look before, or between the emptying of the file and its last byte. A file that is only
// ever added to is complete at any time.
function isPart(before: Known | undefined, now: Reading): boolean {
  if (!before) return now.size % PIECE === 0;
  const isContinued = before.size > 0 && now.size > before.size && now.start === before.digest;
  if (isContinued) return before.at !== undefined && performance.now() - before.at < GROWS;
  if (now.size < PIECE) return now.size === 0 && before.size > 0;
  const isCut = now.size % PIECE === 0 && now.size !== before.size;
  return isCut || now.end !== before.end || now.size < before.size * (1 - LOST);
}

// Learned bytes, and an event although nothing happened to the file since: that event belongs to a change which was
// already in them, while pages may have what was there before.
function isOlder(before: Known, now: Reading): boolean {
  return before.at === undefined && before.ctime === now.ctime;
}

let draining: Promise<void> | undefined;

/** Resolves when the events that the kernel has queued by now were handed out. */
export function drained(): Promise<void> {
  // One turn of the event loop may be under way already; the second is a whole one, for all who ask before it begins.
  draining ??= new Promise((resolve) => {
    setImmediate(() => {
      draining = undefined;
      setImmediate(resolve);
    });
  });
  return draining;
}

/** `undefined`: gone, or unreadable. */
async function read(file: string, before = 0): Promise<Reading | undefined> {
  let handle: FileHandle | undefined;
  try {
    // Without O_NONBLOCK a pipe that took the file's place would hold a thread for ever.
    handle = await open(file, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
    const stats = await handle.stat();
    if (!stats.isFile()) return undefined;
    if (stats.size > LARGE) {
      // Another write can get the same time, until the clock of files has moved on.
      const moment = Date.now() - stats.mtimeMs < 100 ? performance.now() : '';
      const digest = `${stats.size} ${stats.mtimeMs} ${stats.ino} ${moment}`;
      const last = await handle.read(Buffer.alloc(END), 0, END, stats.size - END);
      return { digest, size: stats.size, end: last.buffer.toString('latin1'), ctime: stats.ctimeMs };
    }
    const startSize = stats.size > before ? before : 0;
    return { ...(await digest(handle, stats.size, startSize)), ctime: stats.ctimeMs };
  } catch {
    return undefined; // what cannot be read cannot be compared
  } finally {
    await handle?.close();
  }
}

async function digest(
  handle: FileHandle,
  expected: number,
  startSize: number,
): Promise<Omit<Reading, 'ctime'>> {
  const whole = createHash('sha1');
  const start = createHash('sha1');
  const buffer = Buffer.allocUnsafe(Math.min(Math.max(expected + 1, CHUNK.least), CHUNK.most)); // one more byte shows the end, or growth
  let size = 0;
  let end = '';
  for (;;) {
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, null);
    if (bytesRead === 0) break;
    const chunk = buffer.subarray(0, bytesRead);
    whole.update(chunk);
    end = (end + chunk.toString('latin1', Math.max(0, bytesRead - END))).slice(-END);
    if (size < startSize) start.update(chunk.subarray(0, startSize - size));
    size += bytesRead;
    if (bytesRead < buffer.length && size >= expected) break;
  }
  return { digest: whole.digest('base64'), size, start: start.digest('base64'), end };
}
