// Symbolic links inside the watched folders: what one leads to has two names, and a page may use either.
// Targets outside of the watched folders are none of ours, and their changes not even looked for, unless links are followed.

import { readlink, realpath } from 'node:fs/promises';
import { dirname, join, relative, resolve, sep } from 'node:path';
import type { Change } from './events.ts';

export interface Links {
  /** Finds out where the link leads to now. */
  put(link: string): Promise<void>;
  delete(link: string): void;
  /** Where a link leads to, as a path below a watched folder; `undefined`: to nowhere, or outside. */
  target(link: string): string | undefined;
  /** The change, and the same under every other name of the file. */
  withAliases(change: Change): readonly Change[];
  /** The file's name without links. */
  unaliased(file: string): string;
  /** A real path as one below a watched folder, which may itself be reached through links. */
  asWatched(real: string): Promise<string | undefined>;
}

/** @param follow hears, once, of each real path outside of the watched folders that a link leads to: it is watched too */
export function createLinks(roots: readonly string[], follow?: (real: string) => void): Links {
  const targets = new Map<string, string>();
  const followed: string[] = [];

  async function asWatched(real: string): Promise<string | undefined> {
    for (const root of [...roots, ...followed]) {
      const base = await realOf(root);
      if (isWithin(base, real)) return join(root, relative(base, real));
    }
    return undefined;
  }

  /** Has it watched from now on, unless a watched folder is in it: that might be the whole disk. */
  async function added(real: string): Promise<string | undefined> {
    if (!follow) return undefined;
    for (const root of roots) if (isWithin(real, await realOf(root))) return undefined;
    if (!followed.includes(real)) {
      followed.push(real);
      follow(real);
    }
    return real;
  }

  return {
    async put(link) {
      const real = await realpath(link).catch(() => nextOf(link));
      const target = real === undefined ? undefined : ((await asWatched(real)) ?? (await added(real)));
      if (target === undefined || target === link) targets.delete(link);
      else targets.set(link, target);
    },
    delete: (link) => void targets.delete(link),
    target: (link) => targets.get(link),
    withAliases(change) {
      // What is followed has only the names that its links give it.
      const changes = roots.some((root) => isWithin(root, change.file)) ? [change] : [];
      for (const [link, target] of targets) {
        if (isWithin(target, change.file))
          changes.push({ ...change, file: link + change.file.slice(target.length) });
      }
      return changes;
    },
    unaliased(file) {
      for (const [link, target] of targets) if (isWithin(link, file)) return target + file.slice(link.length);
      return file;
    },
    asWatched,
  };
}

/** Is the file the folder, or anything below it? On Windows in any letter case. */
export function isWithin(dir: string, file: string, separator: string = sep): boolean {
  const begin = dir.endsWith(separator) ? dir : dir + separator;
  if (file === dir || file.startsWith(begin)) return true;
  return separator === '\\' && (file + separator).toLowerCase().startsWith(begin.toLowerCase());
}

function realOf(path: string): Promise<string> {
  return realpath(path).catch(() => path);
}

// A link that leads to nothing yet.
async function nextOf(link: string): Promise<string | undefined> {
  const target = await readlink(link).catch(() => undefined);
  return target === undefined ? undefined : resolve(dirname(link), target);
}
