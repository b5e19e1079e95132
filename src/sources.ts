// The HTML that pages were made of, remembered by its hash, or under an id where it is sent before it is known to its
// end: what a page's next source is compared with, in the page.

import { createHash, randomBytes } from 'node:crypto';

/** Bytes of all sources together, and of one: larger pages reload. */
const MOST = 32 * 1024 * 1024;
const LARGEST = 2 * 1024 * 1024;
/** Bytes of one that is collected while it is sent. */
const LARGEST_SENT = 1024 * 1024;

export interface Sources {
  /** Remembers a source and gives its hash; `undefined` if it is too large. The same Buffer costs nothing twice. */
  remember(source: Buffer): string | undefined;
  /** Begins to remember a source that goes out piece by piece. */
  collect(): Collector;
  /** The source with this hash or id, unless others came in its place. */
  find(hash: string): Buffer | undefined;
}

/** A source on its way. One that is too large, or has no end, is not remembered. */
export interface Collector {
  /** Cannot be guessed: what is sent may be for one reader only. */
  readonly id: string;
  add(piece: Buffer): void;
  end(): void;
}

export function createSources(): Sources {
  const hashes = new WeakMap<Buffer, string>();
  /** The one used last comes last. */
  const sources = new Map<string, Buffer>();
  let bytes = 0;

  function hashOf(source: Buffer): string {
    const known = hashes.get(source);
    if (known) return known;
    const hash = createHash('sha256').update(source).digest('base64url').slice(0, 22);
    hashes.set(source, hash);
    return hash;
  }

  function forgetOldest(): void {
    for (const [hash, source] of sources) {
      if (bytes <= MOST) return;
      sources.delete(hash);
      bytes -= source.length;
    }
  }

  function keep(name: string, source: Buffer): void {
    if (!sources.delete(name)) bytes += source.length;
    sources.set(name, source);
    forgetOldest();
  }

  return {
    remember(source) {
      if (source.length > LARGEST) return undefined;
      const hash = hashOf(source);
      keep(hash, source);
      return hash;
    },
    collect() {
      const id = randomBytes(16).toString('base64url');
      let pieces: Buffer[] = [];
      let size = 0;
      return {
        id,
        add(piece) {
          size += piece.length;
          if (size > LARGEST_SENT) pieces = [];
          else pieces.push(piece);
        },
        end() {
          if (size <= LARGEST_SENT) keep(id, Buffer.concat(pieces));
        },
      };
    },
    find: (hash) => sources.get(hash),
  };
}
