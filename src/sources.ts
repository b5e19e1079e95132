// The HTML that pages were made of, remembered by its hash: what a page's next source is compared with, in the page.

import { createHash } from 'node:crypto';

/** Bytes of all sources together, and of one: larger pages reload. */
const MOST = 32 * 1024 * 1024;
const LARGEST = 2 * 1024 * 1024;

export interface Sources {
  /** Remembers a source and gives its hash; `undefined` if it is too large. The same Buffer costs nothing twice. */
  remember(source: Buffer): string | undefined;
  /** The source with this hash, unless others came in its place. */
  find(hash: string): Buffer | undefined;
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

  return {
    remember(source) {
      if (source.length > LARGEST) return undefined;
      const hash = hashOf(source);
      if (!sources.delete(hash)) bytes += source.length;
      sources.set(hash, source);
      forgetOldest();
      return hash;
    },
    find: (hash) => sources.get(hash),
  };
}
